// Package awskmstest imitates AWS for tests: KMS, STS and the sources of credentials of instances and containers, over HTTP on
// one address.
//
// It speaks the real protocols (JSON 1.1 with X-Amz-Target, the query protocol with XML), verifies the signature of every
// request, encrypts with AES-256-GCM under one random key for each key material, and keeps materials, states, aliases and
// replicas. What it promises to be like AWS is what AWS's API references say; nobody compared it with the service. Only
// tests may import it.
package awskmstest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// Account is the account that keys and users belong to; its Region is where CreateKey makes keys.
const (
	Account = "111122223333"
	Region  = "eu-central-1"
)

// Fake is one imitation of AWS, all Regions of it.
type Fake struct {
	URL    string
	Faults testserver.Faults // between the client and everything that the fake serves

	mu         sync.Mutex
	identities map[string]*identity // by access key id
	roles      map[string]*role     // by ARN
	keys       map[string]*key      // by ARN
	aliases    map[string]string    // ARN of the alias to ARN of the key
	failures   []Failure
	calls      map[string]int // by operation
	clock      time.Duration  // how far ahead
	noContext  bool
}

// Failure is an error that an operation answers instead of doing its work.
type Failure struct {
	Op      string // "Encrypt", "AssumeRole", ...; empty is every operation of KMS
	Status  int
	Code    string
	Message string
}

// key is a KMS key in one Region.
type key struct {
	arn, region, account, id string
	state                    string
	spec, usage, origin      string
	created, deletion, ends  time.Time
	*lineage
}

// lineage is what replicas of one key share.
type lineage struct {
	materials    []material // oldest first
	next         []material // imported, for the next rotation; or none
	autoRotation bool
}

// material is one generation; rotated is zero for the first.
type material struct {
	id      string
	key     [32]byte
	rotated time.Time
}

func newMaterial() (m material) {
	rand.Read(m.key[:])
	sum := sha256.Sum256(m.key[:])
	m.id = hex.EncodeToString(sum[:])
	return m
}

// Start starts the fake for as long as the test lasts.
func Start(t testing.TB) *Fake {
	f := &Fake{
		identities: make(map[string]*identity), roles: make(map[string]*role), keys: make(map[string]*key),
		aliases: make(map[string]string), calls: make(map[string]int),
	}
	server := httptest.NewServer(f.Faults.Handler(f.handler()))
	t.Cleanup(server.Close)
	f.URL = server.URL
	return f
}

func (f *Fake) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", f.serveAPI)
	mux.HandleFunc("PUT /latest/api/token", f.serveMetadataToken)
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/", f.serveMetadata)
	mux.HandleFunc("GET /container", f.serveContainer)
	return mux
}

// CreateKey makes a symmetric encryption key, multi-Region or not, and returns its ARN.
func (f *Fake) CreateKey(multiRegion bool) string {
	random := make([]byte, 16)
	rand.Read(random)
	id := fmt.Sprintf("%x-%x-%x-%x-%x", random[:4], random[4:6], random[6:8], random[8:10], random[10:])
	if multiRegion {
		id = fmt.Sprintf("mrk-%x", random)
	}
	return f.add(Region, id, &lineage{materials: []material{newMaterial()}, autoRotation: true})
}

// Replicate makes a replica of a multi-Region key in another Region and returns its ARN.
func (f *Fake) Replicate(arn, region string) string {
	f.mu.Lock()
	original := f.keys[arn]
	f.mu.Unlock()
	return f.add(region, original.id, original.lineage)
}

func (f *Fake) add(region, id string, l *lineage) string {
	arn := fmt.Sprintf("arn:aws:kms:%s:%s:key/%s", region, Account, id)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[arn] = &key{
		arn: arn, region: region, account: Account, id: id, state: "Enabled", spec: "SYMMETRIC_DEFAULT", usage: "ENCRYPT_DECRYPT",
		origin: "AWS_KMS", created: time.Now().Truncate(time.Millisecond), lineage: l,
	}
	return arn
}

// Rotate gives the key, and its replicas, new material.
func (f *Fake) Rotate(arn string) {
	f.change(arn, func(k *key) {
		m := newMaterial()
		if len(k.next) > 0 {
			m, k.next = k.next[0], nil
		}
		m.rotated = time.Now().Truncate(time.Millisecond)
		k.materials = append(k.materials, m)
	})
}

// ImportNext imports material that the next rotation takes into use.
func (f *Fake) ImportNext(arn string) {
	f.change(arn, func(k *key) { k.next = []material{newMaterial()} })
}

// SetState changes the key's state: "Disabled", "PendingDeletion", ... and "Enabled".
func (f *Fake) SetState(arn, state string) {
	f.change(arn, func(k *key) {
		k.state, k.deletion = state, time.Time{}
		if state == "PendingDeletion" {
			k.deletion = time.Now().Add(7 * 24 * time.Hour)
		}
	})
}

// SetAutomaticRotation turns it on or off.
func (f *Fake) SetAutomaticRotation(arn string, on bool) {
	f.change(arn, func(k *key) { k.autoRotation = on })
}

// SetImported makes the key one with imported material that expires at the given time.
func (f *Fake) SetImported(arn string, ends time.Time) {
	f.change(arn, func(k *key) { k.origin, k.ends, k.autoRotation = "EXTERNAL", ends, false })
}

// SetSpec makes the key one of another kind, such as RSA_2048 for SIGN_VERIFY.
func (f *Fake) SetSpec(arn, spec, usage string) {
	f.change(arn, func(k *key) { k.spec, k.usage = spec, usage })
}

// SetCustomKeyStore moves the key into a CloudHSM key store: KMS names no material of such keys.
func (f *Fake) SetCustomKeyStore(arn string) {
	f.change(arn, func(k *key) { k.origin = "AWS_CLOUDHSM" })
}

func (f *Fake) change(arn string, how func(*key)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how(f.keys[arn])
}

// Delete deletes the key for good, at once.
func (f *Fake) Delete(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, arn)
}

// SetAlias makes an alias ("alias/...") or points it to another key, and returns its ARN.
func (f *Fake) SetAlias(name, arn string) string {
	alias := arn[:strings.LastIndex(arn, ":")+1] + name
	f.mu.Lock()
	defer f.mu.Unlock()
	f.aliases[alias] = arn
	return alias
}

// Fail makes operations fail until repair is called.
func (f *Fake) Fail(failure Failure) (repair func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, failure)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failures = nil
	}
}

// SetClock moves the clock of the fake ahead, or back.
func (f *Fake) SetClock(ahead time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock = ahead
}

// IgnoreContext makes the fake a bad imitation, which does not authenticate the encryption context.
func (f *Fake) IgnoreContext() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noContext = true
}

// now is called by who holds mu.
func (f *Fake) now() time.Time { return time.Now().Add(f.clock) }

// Calls returns how often each operation was called.
func (f *Fake) Calls() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := make(map[string]int, len(f.calls))
	for op, n := range f.calls {
		calls[op] = n
	}
	return calls
}

// CredentialsFile writes the access key of a new user into a file in the format of ~/.aws/credentials, as its default
// profile, and returns the file's path and the secret access key.
func (f *Fake) CredentialsFile(t testing.TB) (path, secret string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "credentials")
	id, secret := f.NewUser(Account)
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", id, secret)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, secret
}
