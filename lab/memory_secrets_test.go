package lab_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/secretmem"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// dumpKey is a key of the daemon that the test can use too.
type dumpKey struct {
	entry  string // of keys in the daemon's configuration
	id     string
	key    keyservice.Key
	secret []byte // the key itself, where the daemon has it: in a keystore
	more   string // lines of the configuration that use it further
}

// baoShare is the kind of secret that the client library of Vault sees.
const baoShare = "share of vault:transit/k8s"

// baoKey starts a Vault.
func baoKey(t *testing.T, options ...testserver.VaultOption) dumpKey {
	t.Helper()
	server := testserver.StartVault(t, options...)
	server.MountTransit("transit")
	server.CreateKey("transit", "k8s", map[string]any{"type": "aes256-gcm96"})
	config := vault.Config{Addresses: []string{server.Address}, Mount: "transit", Key: "k8s"}
	if server.CA != nil {
		config.CAFile = server.CA.File
	}
	config.Auth.TokenFile = credential.File(writeFile(t, t.TempDir(), "token", server.RootToken))
	key, err := vault.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return dumpKey{
		entry: fmt.Sprintf("name: bao, vault: {addresses: [%q], key: k8s, caFile: %q, auth: {tokenFile: %s}}",
			server.Address, config.CAFile, config.Auth.TokenFile),
		id: config.ID(), key: key,
	}
}

// diskKey makes a keystore.
func diskKey(t *testing.T) dumpKey {
	t.Helper()
	sealedBy := rand.Text() + rand.Text()
	config := local.Config{
		Keystore: filepath.Join(t.TempDir(), "keystore"), KeyFile: credential.File(writeFile(t, t.TempDir(), "key", sealedBy)),
	}
	sealer := keystore.Key(credential.NewSecret([]byte(sealedBy)))
	if _, err := keystore.Create(config.Keystore, sealer); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(config.Keystore, sealer)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Release()
	if store.Protection() != secretmem.Hidden {
		testserver.Missing(t, "memfd_secret", "test on Linux 6.5 or later, outside of a sandbox that refuses it")
	}
	disk := dumpKey{
		entry: fmt.Sprintf("name: disk, local: {keystore: %s, keyFile: %s}", config.Keystore, config.KeyFile), id: config.ID(),
	}
	newest, _ := store.Summary().Newest()
	err = store.Use(newest.ID, func(_ keyservice.Version, key []byte) error {
		disk.secret = bytes.Clone(key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if disk.key, err = local.Open(t.Context(), config, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.key.Close() })
	return disk
}

// policyOf returns what stands behind the first key in the daemon's configuration.
func policyOf(keys []dumpKey) string {
	if len(keys) == 1 {
		return ""
	}
	return fmt.Sprintf("- {%s}\npolicies: [{keys: [bao, disk], need: 2}]\n", keys[1].entry)
}

// known is all that was secret in what a daemon did, and the ways to use a secret that somebody found.
type known struct {
	kinds    map[string][][]byte
	attempts map[string]func(key []byte) bool // at the last envelope
}

// knowAll opens everything that the daemon sealed, with the same keys, and takes notes.
func knowAll(t *testing.T, lineage string, keys []dumpKey, w work) known {
	t.Helper()
	k := known{kinds: map[string][][]byte{"seed": w.seeds}}
	notes := &notes{shares: make(map[string][]byte)}
	cluster := envelope.Cluster{Name: "lab"}
	hex.Decode(cluster.Lineage[:], []byte(lineage))
	var members []envelope.Member
	for _, key := range keys {
		members = append(members, envelope.Member{ID: key.id, Key: noted{key.key, notes}})
		if key.secret != nil {
			k.kinds["keystore key"] = [][]byte{key.secret}
		}
	}
	policy, err := envelope.NewPolicy(cluster, 0, len(keys), members...)
	if err != nil {
		t.Fatal(err)
	}
	envelopes := openAll(t, policy, w)
	for i, e := range envelopes {
		var shares [][]byte
		for _, s := range e.Shares {
			share := notes.shares[string(s.Wrapped)]
			shares = append(shares, share)
			kind := "share of " + policy.Members()[s.Slot].ID
			k.kinds[kind] = append(k.kinds[kind], share)
		}
		root := join(shares)
		contentKey := contentKey(policy, root)
		if !opens(contentKey, make([]byte, 12), e.Seal, header(w.sealed[i].Ciphertext, e)) {
			t.Fatalf("the root or the sealing key of envelope %d is not the right one", i)
		}
		k.kinds["root"] = append(k.kinds["root"], root)
		k.kinds["sealing key"] = append(k.kinds["sealing key"], contentKey)
	}
	last := len(envelopes) - 1
	k.attack(policy, envelopes[last], header(w.sealed[last].Ciphertext, envelopes[last]), w.seeds[last])
	return k
}

// openAll opens everything, a few at a time.
func openAll(t *testing.T, policy *envelope.Policy, w work) []*envelope.Envelope {
	t.Helper()
	const workers = 4
	ring, err := envelope.NewRing(policy)
	if err != nil {
		t.Fatal(err)
	}
	envelopes := make([]*envelope.Envelope, len(w.sealed))
	sideBySide(t, workers, func(worker int) (err error) {
		for i := worker; i < len(envelopes); i += workers {
			if envelopes[i], err = envelope.Parse(w.sealed[i].Ciphertext, nil); err != nil {
				return err
			}
			if _, err = ring.Open(t.Context(), envelopes[i], w.sealed[i].KeyID); err != nil {
				return err
			}
		}
		return nil
	})
	return envelopes
}

// attack adds the ways in which 32 bytes may open an envelope, or an object that was encrypted with its seed.
func (k *known) attack(policy *envelope.Policy, e *envelope.Envelope, header, seed []byte) {
	nonce := make([]byte, 12)
	k.attempts = map[string]func([]byte) bool{
		"sealing key": func(key []byte) bool { return opens(key, nonce, e.Seal, header) },
		"root":        func(key []byte) bool { return opens(contentKey(policy, key), nonce, e.Seal, header) },
	}
	object := newObject(seed)
	k.attempts["seed"] = object.opensWith
	for _, s := range e.Shares {
		if policy.Members()[s.Slot].ID == "local" {
			aad := labelled("trs1 share", policy, s.Slot)
			k.attempts["keystore key"] = func(key []byte) bool { return opens(key, s.Wrapped[:12], s.Wrapped[12:], aad) }
		}
	}
}

// notes are the shares that keys opened, by what was wrapped.
type notes struct {
	mu     sync.Mutex
	shares map[string][]byte
}

type noted struct {
	keyservice.Key
	notes *notes
}

func (k noted) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	share, err := k.Key.Unwrap(ctx, wrapped, aad)
	k.notes.mu.Lock()
	defer k.notes.mu.Unlock()
	k.notes.shares[string(wrapped.Bytes)] = bytes.Clone(share)
	return share, err
}

// join returns the root of one share, or of the shares in slots 0 and 1 of 2: root + x a in x = 1 and x = 2, so that their
// sum is 3 a.
func join(shares [][]byte) []byte {
	root := bytes.Clone(shares[0])
	if len(shares) == 2 {
		for i := range root {
			root[i] ^= multiply(shares[0][i]^shares[1][i], 0xf6) // 1/3
		}
	}
	return root
}

// multiply multiplies in GF(2^8) with the polynomial of docs/formats.md.
func multiply(a, b byte) (product byte) {
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			product ^= a
		}
		carry := a >> 7
		a = a<<1 ^ carry*0x1b
	}
	return product
}

// contentKey returns the sealing key of a root.
func contentKey(policy *envelope.Policy, root []byte) []byte {
	key, err := hkdf.Key(sha256.New, root, nil, string(labelled("trs1 content", policy)), 32)
	if err != nil {
		panic(err)
	}
	return key
}

// labelled returns what the format binds to something of a policy.
func labelled(label string, policy *envelope.Policy, more ...byte) []byte {
	cluster, hash := policy.Cluster(), policy.Hash()
	return slices.Concat(
		[]byte{byte(len(label))}, []byte(label), []byte{byte(len(cluster.Name))}, []byte(cluster.Name), cluster.Lineage[:], hash[:], more,
	)
}

// header returns what the seal of an envelope without spilled shares authenticates.
func header(ciphertext []byte, e *envelope.Envelope) []byte {
	return ciphertext[:len(ciphertext)-len(e.Seal)]
}

// opens reports whether an AES-256-GCM key opens a ciphertext.
func opens(key, nonce, ciphertext, aad []byte) bool {
	_, err := gcm(key).Open(nil, nonce, ciphertext, aad)
	return err == nil
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// object is a value as an API server encrypts it with a seed.
type object struct{ info, nonce, ciphertext []byte }

func newObject(seed []byte) object {
	o := object{info: make([]byte, 32), nonce: make([]byte, 12)}
	rand.Read(o.info)
	o.ciphertext = gcm(o.key(seed)).Seal(nil, o.nonce, []byte(plaintext), nil)
	return o
}

func (o object) key(seed []byte) []byte {
	key, err := hkdf.Expand(sha256.New, seed, string(o.info), 32)
	if err != nil {
		panic(err)
	}
	return key
}

func (o object) opensWith(seed []byte) bool { return opens(o.key(seed), o.nonce, o.ciphertext, nil) }
