// Package gcpkmstest is a fake of Google Cloud KMS, with the token servers that lead to it. Only tests and the lab may
// import it.
//
// It speaks the services' own protocols over sockets: gRPC with Google's generated server interface, and HTTP for access
// tokens. It encrypts for real, checks what the services check (tokens, permissions, checksums, sizes, the states of
// versions), and breaks to order. It is not durable, and knows one key and one account.
package gcpkmstest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"net"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// Key is the resource name of the only key.
const Key = "projects/trousseau-test/locations/europe-west3/keyRings/clusters/cryptoKeys/k8s"

// Fake is a Cloud KMS with one key that has one version.
type Fake struct {
	Endpoint        string             // of Cloud KMS, for the configuration
	CredentialsFile string             // a service account's key, good for logging in
	Network         *testserver.Proxy  // between the client and Cloud KMS: stalls and cuts
	Logins          *testserver.Faults // before the token servers: stalls, cuts and garbles

	kmspb.UnimplementedKeyManagementServiceServer
	iampb.UnimplementedIAMPolicyServer

	web    *httptest.Server // the token servers
	signer *rsa.PrivateKey  // of the service account
	dir    string

	mu           sync.Mutex
	key          *kmspb.CryptoKey
	identity     [30]byte // of the key, in its ciphertexts
	versions     []*version
	permissions  []string
	quotaProject string // of the last call
	refused      int    // calls without a good token
	failure      error
	damage       func(proto.Message)
	tokens       map[string]time.Time // when issued tokens end
	lifetime     time.Duration        // of tokens to come
	refuse       bool                 // log ins
}

type version struct {
	*kmspb.CryptoKeyVersion
	material [32]byte
}

// permissions are what the account may do at first: what the documented role has.
var permissions = [...]string{
	"cloudkms.cryptoKeyVersions.useToEncrypt", "cloudkms.cryptoKeyVersions.useToDecrypt",
	"cloudkms.cryptoKeys.get", "cloudkms.cryptoKeyVersions.get", "cloudkms.cryptoKeyVersions.list",
}

// Start starts a fake that lives as long as the test.
func Start(t testing.TB) *Fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{
		Network: testserver.StartProxy(t, listener.Addr().String()), Logins: &testserver.Faults{}, dir: t.TempDir(),
		permissions: permissions[:], tokens: make(map[string]time.Time), lifetime: time.Hour,
	}
	if f.signer, err = signer(); err != nil {
		t.Fatal(err)
	}
	f.Endpoint = "http://" + f.Network.Address
	f.Recreate()

	server := grpc.NewServer(grpc.UnaryInterceptor(f.intercept))
	kmspb.RegisterKeyManagementServiceServer(server, f)
	iampb.RegisterIAMPolicyServer(server, f)
	go func() { _ = server.Serve(listener) }() // until it is stopped
	f.web = httptest.NewServer(f.Logins.Handler(f.tokenServers()))
	t.Cleanup(func() {
		f.web.Close()
		server.Stop()
	})
	f.CredentialsFile = f.ServiceAccountFile(t)
	return f
}

// Recreate replaces the key by another one under its name. Google Cloud never does; two keys that an operator gave one id
// look the same.
func (f *Fake) Recreate() {
	f.mu.Lock()
	f.key = &kmspb.CryptoKey{
		Name: Key, Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT, CreateTime: timestamppb.Now(),
		RotationSchedule:         &kmspb.CryptoKey_RotationPeriod{RotationPeriod: durationpb.New(90 * 24 * time.Hour)},
		DestroyScheduledDuration: durationpb.New(30 * 24 * time.Hour),
	}
	rand.Read(f.identity[:])
	f.versions = nil
	f.mu.Unlock()
	f.Rotate()
}

// Rotate makes a new version and makes it primary, as automatic rotation does. It returns its number.
func (f *Fake) Rotate() int {
	number := f.AddVersion()
	f.SetPrimary(number)
	return number
}

// AddVersion makes a new version, which is not primary, and returns its number.
func (f *Fake) AddVersion() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	number := len(f.versions) + 1
	v := &version{CryptoKeyVersion: &kmspb.CryptoKeyVersion{
		Name: versionName(number), State: kmspb.CryptoKeyVersion_ENABLED, CreateTime: timestamppb.Now(),
		ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE, Algorithm: kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION,
	}}
	rand.Read(v.material[:])
	f.versions = append(f.versions, v)
	return number
}

// SetPrimary makes a version primary.
func (f *Fake) SetPrimary(number int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key.Primary = f.versions[number-1].CryptoKeyVersion
}

// SetState changes the state of a version. One that is destroyed is forgotten.
func (f *Fake) SetState(number int, state kmspb.CryptoKeyVersion_CryptoKeyVersionState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.versions[number-1]
	v.State = state
	switch state {
	case kmspb.CryptoKeyVersion_DESTROY_SCHEDULED:
		v.DestroyTime = timestamppb.New(time.Now().Add(f.key.GetDestroyScheduledDuration().AsDuration()))
	case kmspb.CryptoKeyVersion_DESTROYED:
		clear(v.material[:])
	}
}

// Change changes the key's settings.
func (f *Fake) Change(change func(*kmspb.CryptoKey)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.key)
}

// Permit gives the account these permissions and no other, and returns what gives the old ones back.
func (f *Fake) Permit(allowed ...string) (restore func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.permissions
	f.permissions = allowed
	return func() { f.Permit(old...) }
}

// Permissions returns what the account may do.
func (f *Fake) Permissions() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.permissions)
}

// Fail makes every call to Cloud KMS fail with a gRPC status, until the returned func is called.
func (f *Fake) Fail(failure error) (repair func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failure = failure
	return func() { f.Fail(nil) }
}

// Damage lets a func change every answer of Cloud KMS, until the returned func is called.
func (f *Fake) Damage(damage func(proto.Message)) (repair func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.damage = damage
	return func() { f.Damage(nil) }
}

// QuotaProject returns the project that the last call asked to be counted against.
func (f *Fake) QuotaProject() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.quotaProject
}

// Refused returns how many calls to Cloud KMS came without a token that is good.
func (f *Fake) Refused() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

// intercept does what Google's front end does before a call, and the disorder.
func (f *Fake) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	f.mu.Lock()
	failure, damage := f.failure, f.damage
	f.mu.Unlock()
	if err := f.admit(ctx, request, info.FullMethod); err != nil {
		return nil, err
	}
	if failure != nil {
		return nil, failure
	}
	answer, err := handler(ctx, request)
	if err == nil && damage != nil {
		changed := proto.Clone(answer.(proto.Message))
		damage(changed)
		return changed, nil
	}
	return answer, err
}
