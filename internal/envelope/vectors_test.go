package envelope_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// vector is a file of testdata/vectors/envelope. An implementation that shares no code with this one made them.
type vector struct {
	Says        string                                    `json:"says"`
	Policies    []vectorPolicy                            `json:"policies"`
	Keys        map[string]map[keyservice.VersionID]hexes `json:"keys"` // material by key id and version
	Limit       int                                       `json:"limit"`
	Ciphertext  hexes                                     `json:"ciphertext"`
	Spilled     hexes                                     `json:"spilled"`
	StoredKeyID string                                    `json:"stored_key_id"`

	Failure string `json:"failure"` // or what follows

	ShareAAD  hexes  `json:"share_aad"`
	KeyID     string `json:"key_id"`
	Plaintext hexes  `json:"plaintext"`

	Parsed *vectorParsed `json:"parsed"` // or this alone: the form is what counts
}

type vectorPolicy struct {
	Cluster    string   `json:"cluster"`
	Lineage    hexes    `json:"lineage"`
	Generation uint32   `json:"generation"`
	Need       int      `json:"need"`
	Keys       []string `json:"keys"`
	Hash       hexes    `json:"policy_hash"`
	ClusterTag hexes    `json:"cluster_tag"`
}

type vectorParsed struct {
	ClusterTag hexes         `json:"cluster_tag"`
	PolicyTag  hexes         `json:"policy_tag"`
	Need       uint8         `json:"need"`
	Keys       uint8         `json:"keys"`
	Shares     []vectorShare `json:"shares"`
	Seal       hexes         `json:"seal"`
}

type vectorShare struct {
	Slot    uint8                `json:"slot"`
	Version keyservice.VersionID `json:"version"`
	Digest  hexes                `json:"digest"`
	Wrapped hexes                `json:"wrapped"`
}

type hexes []byte

func (h *hexes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

var errRefused = errors.New("the key service refuses")

// vectorKey wraps as the vectors' keys do: AES-256-GCM, nonce ‖ ciphertext ‖ tag. It only opens.
type vectorKey struct {
	keyservice.Key
	versions map[keyservice.VersionID]hexes
	aad      []byte // of the last Unwrap
}

func (k *vectorKey) Unwrap(_ context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	k.aad = bytes.Clone(aad)
	refused := &keyservice.Error{Kind: keyservice.Corrupt, Op: "unwrapping", Err: errRefused}
	block, err := aes.NewCipher(k.versions[wrapped.Version])
	if err != nil {
		return nil, refused
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	secret, err := aead.Open(nil, nil, wrapped.Bytes, aad)
	if err != nil {
		return nil, refused
	}
	return secret, nil
}

// failures are the classes of docs/formats.md.
var failures = map[string]error{
	"malformed": envelope.ErrMalformed,
	"cluster":   envelope.ErrCluster,
	"policy":    envelope.ErrPolicy,
	"key-id":    envelope.ErrKeyID,
	"refused":   errRefused,
	"share":     envelope.ErrShare,
	"forged":    envelope.ErrForged,
}

func vectors(t testing.TB) map[string]vector {
	t.Helper()
	files, err := filepath.Glob("../../testdata/vectors/envelope/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	all := make(map[string]vector)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = v
	}
	return all
}

func TestVectors(t *testing.T) {
	for name, v := range vectors(t) {
		t.Run(name, func(t *testing.T) {
			switch {
			case v.Parsed != nil:
				v.testForm(t)
			case v.Failure != "":
				v.testFailure(t)
			default:
				v.testOpens(t)
			}
		})
	}
}

func (v vector) testOpens(t *testing.T) {
	e, err := envelope.Parse(v.Ciphertext, v.Spilled)
	if err != nil {
		t.Fatal(err)
	}
	keys, ring := v.ring(t)
	plaintext, err := ring.Open(t.Context(), e, v.StoredKeyID)
	if err != nil || !bytes.Equal(plaintext, v.Plaintext) {
		t.Fatalf("opens as %x, %v; want %x", plaintext, err, v.Plaintext)
	}
	policy, err := ring.PolicyOf(e)
	if err != nil {
		t.Fatal(err)
	}
	if got := policy.KeyID(e.Versions()); got != v.KeyID {
		t.Errorf("key id %s, want %s", got, v.KeyID)
	}
	if got := keys[policy.Members()[e.Shares[0].Slot].ID].aad; !bytes.Equal(got, v.ShareAAD) {
		t.Errorf("associated data of the share %x, want %x", got, v.ShareAAD)
	}
	v.testEncodes(t, e)
}

func (v vector) testFailure(t *testing.T) {
	want, known := failures[v.Failure]
	if !known {
		t.Fatalf("no class of failure is called %q", v.Failure)
	}
	_, ring := v.ring(t)
	e, err := envelope.Parse(v.Ciphertext, v.Spilled)
	if err == nil {
		_, err = ring.Open(t.Context(), e, v.StoredKeyID)
	}
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %s", v.Says, err, v.Failure)
	}
}

func (v vector) testForm(t *testing.T) {
	got, err := envelope.Parse(v.Ciphertext, v.Spilled)
	if err != nil {
		t.Fatal(err)
	}
	want := &envelope.Envelope{
		ClusterTag: [4]byte(v.Parsed.ClusterTag), PolicyTag: [8]byte(v.Parsed.PolicyTag),
		Need: v.Parsed.Need, Keys: v.Parsed.Keys, Seal: v.Parsed.Seal,
	}
	for _, s := range v.Parsed.Shares {
		share := envelope.Share{Slot: s.Slot, Version: s.Version, Wrapped: s.Wrapped}
		copy(share.Digest[:], s.Digest)
		want.Shares = append(want.Shares, share)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("parsed %+v\n  want %+v", got, want)
	}
	v.testEncodes(t, got)
}

// testEncodes checks that the writer spills the same shares.
func (v vector) testEncodes(t *testing.T, e *envelope.Envelope) {
	t.Helper()
	ciphertext, spilled, err := e.Marshal(v.Limit)
	if err != nil || !bytes.Equal(ciphertext, v.Ciphertext) || !bytes.Equal(spilled, v.Spilled) {
		t.Errorf("within %d bytes it encodes as %x and %x, %v", v.Limit, ciphertext, spilled, err)
	}
}

// ring returns the vector's keys and policies, whose hashes it checks on the way.
func (v vector) ring(t *testing.T) (map[string]*vectorKey, *envelope.Ring) {
	t.Helper()
	keys := make(map[string]*vectorKey)
	for id, versions := range v.Keys {
		keys[id] = &vectorKey{versions: versions}
	}
	var policies []*envelope.Policy
	for _, p := range v.Policies {
		var members []envelope.Member
		for _, id := range p.Keys {
			if keys[id] == nil {
				keys[id] = new(vectorKey) // lost
			}
			members = append(members, envelope.Member{ID: id, Key: keys[id]})
		}
		cluster := envelope.Cluster{Name: p.Cluster, Lineage: [16]byte(p.Lineage)}
		policy, err := envelope.NewPolicy(cluster, p.Generation, p.Need, members...)
		if err != nil {
			t.Fatal(err)
		}
		if hash := policy.Hash(); !bytes.Equal(hash[:], p.Hash) {
			t.Errorf("policy hash %x, want %x", hash, p.Hash)
		}
		policies = append(policies, policy)
	}
	return keys, ring(t, policies...)
}
