package keyid

import (
	"encoding/hex"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/etcdvalue"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Value is what a stored value says of itself, without any key. What it says may be forged: only opening it proves it.
type Value struct {
	API        string  `json:"kms"` // "v1" or "v2"
	Provider   string  `json:"provider"`
	KeyID      string  `json:"keyID,omitempty"`
	ClusterTag string  `json:"clusterTag"`
	PolicyTag  string  `json:"policyTag"`
	Need       int     `json:"need"`
	Keys       int     `json:"keys"`
	Shares     []Share `json:"shares"`
	Stored     int     `json:"storedBytes"` // of the plugin's, beside the data
}

// Share is one key's part in an envelope.
type Share struct {
	Slot    int                  `json:"slot"`
	Version keyservice.VersionID `json:"version"`
	Bytes   int                  `json:"bytes"` // wrapped
}

// Read describes a raw value of etcd whose seed or key Trousseau has wrapped.
func Read(raw []byte) (Value, *envelope.Envelope, error) {
	v, err := etcdvalue.Parse(raw)
	if err != nil {
		return Value{}, nil, err
	}
	e, err := envelope.Parse(v.Ciphertext, v.Annotations[envelope.SharesAnnotation])
	if err != nil {
		return Value{}, nil, err
	}
	stored := len(v.KeyID) + len(v.Ciphertext)
	for name, content := range v.Annotations {
		stored += len(name) + len(content)
	}
	value := Value{
		API: v.API, Provider: v.Provider, KeyID: v.KeyID,
		ClusterTag: hex.EncodeToString(e.ClusterTag[:]), PolicyTag: hex.EncodeToString(e.PolicyTag[:]),
		Need: int(e.Need), Keys: int(e.Keys), Stored: stored,
	}
	for _, s := range e.Shares {
		value.Shares = append(value.Shares, Share{int(s.Slot), s.Version, len(s.Wrapped)})
	}
	return value, e, nil
}

// Of returns which listed policy an envelope claims to be sealed under, and the key id that it must be stored under. Its
// error says that none is, and what to do.
func Of(ring *envelope.Ring, e *envelope.Envelope) (ID, error) {
	p, err := ring.PolicyOf(e)
	if err != nil {
		return ID{}, err
	}
	parts := make([]Part, len(p.Members()))
	for slot, version := range e.Versions() {
		parts[slot] = Part{Key: p.Members()[slot].ID, Version: version}
	}
	return describe(ring, p, parts), nil
}
