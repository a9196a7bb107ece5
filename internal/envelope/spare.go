package envelope

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// ErrSpent says that a Spare has sealed already, or was wiped.
var ErrSpent = errors.New("the root has been used")

// Spare is a root whose shares the policy's keys have wrapped: what it seals needs no key service any more. It seals once.
// Who has it reads what it seals, and nothing else.
type Spare struct {
	policy   *Policy
	root     []byte // nil once it is spent
	envelope Envelope
}

// Prepare returns a new Spare, as Seal would use it.
func (p *Policy) Prepare(ctx context.Context, versions []keyservice.VersionID) (*Spare, error) {
	root := make([]byte, rootSize)
	var secrets [][]byte
	secretmem.Do(func() {
		rand.Read(root)
		secrets = split(root, p.need, len(p.members))
	})
	shares, err := p.wrap(ctx, versions, secrets)
	if err != nil {
		clear(root)
		return nil, err
	}
	return &Spare{p, root, Envelope{
		ClusterTag: p.cluster.tag(),
		PolicyTag:  [8]byte(p.hash[:]),
		Need:       uint8(p.need),
		Keys:       uint8(len(p.members)),
		Shares:     shares,
	}}, nil
}

// Versions returns the version of each slot's share, "" for slots without one.
func (s *Spare) Versions() []keyservice.VersionID { return s.envelope.Versions() }

// Seal seals plaintext and spends the root, whether it succeeds or not.
func (s *Spare) Seal(plaintext []byte) (*Envelope, error) {
	if s.root == nil {
		return nil, fmt.Errorf("sealing: %w", ErrSpent)
	}
	defer s.Wipe()
	e := s.envelope
	header, err := e.authenticated()
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	secretmem.Do(func() {
		var aead cipher.AEAD
		if aead, err = s.policy.contentCipher(s.root); err == nil {
			e.Seal = aead.Seal(nil, make([]byte, aead.NonceSize()), plaintext, header)
		}
	})
	return &e, err
}

// Wipe spends the root without sealing anything.
func (s *Spare) Wipe() {
	clear(s.root)
	s.root = nil
}

// Marshal encodes the Spare for ParseSpare: an envelope with the root in the place of the seal. The caller keeps it as secret
// as what it will seal, and wipes it.
func (s *Spare) Marshal() ([]byte, error) {
	if s.root == nil {
		return nil, fmt.Errorf("encoding: %w", ErrSpent)
	}
	e := s.envelope
	e.Seal = s.root
	return e.marshal(len(e.Shares))
}

// ParseSpare decodes what Marshal made, if it was prepared under p. It keeps copies of the bytes.
func (p *Policy) ParseSpare(encoded []byte) (*Spare, error) {
	e, err := Parse(bytes.Clone(encoded), nil)
	if err != nil {
		return nil, err
	}
	if !p.sealed(e) || len(e.Seal) != rootSize || !p.Seals(e.Versions()) {
		clear(e.Seal)
		return nil, refuse(fmt.Errorf("%w: the spare root was prepared under another one", ErrPolicy), "it is of no use here: remove it")
	}
	root := e.Seal
	e.Seal = nil
	return &Spare{p, root, *e}, nil
}
