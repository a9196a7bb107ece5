package tpmseal_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmtest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

const plain = "tr0ub4dor-tr0ub4dor-tr0ub4dor-tr0ub4dor"

var (
	secret = credential.NewSecret([]byte(plain))
	none   = credential.Secret{}
)

const pcr7 tpmseal.PCRs = 1 << 7

func seal(t *testing.T, device tpmseal.Device, auth credential.Secret, pcrs tpmseal.PCRs) *tpmseal.SealedKey {
	t.Helper()
	sealed, err := device.Seal(t.Context(), secret, auth, pcrs)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func opens(t *testing.T, device tpmseal.Device, sealed *tpmseal.SealedKey, auth credential.Secret) {
	t.Helper()
	got, err := device.Unseal(t.Context(), sealed, auth)
	if err != nil || string(got.Bytes()) != plain {
		t.Errorf("unsealing: %v, equal %t", err, string(got.Bytes()) == plain)
	}
}

// refuses checks that unsealing fails with a kind, a hint and some text.
func refuses(t *testing.T, device tpmseal.Device, sealed *tpmseal.SealedKey, auth credential.Secret, kind keyservice.Kind, text string) {
	t.Helper()
	got, err := device.Unseal(t.Context(), sealed, auth)
	wantError(t, err, kind, text)
	if len(got.Bytes()) > 0 {
		t.Error("an error, and a secret")
	}
}

// wantError is keyservicetest.WantKind, and sees that the error does not show the key.
func wantError(t *testing.T, err error, kind keyservice.Kind, text string) {
	t.Helper()
	keyservicetest.WantKind(t, err, kind, text, plain)
}

func TestSealAndUnseal(t *testing.T) {
	for name, tpm := range map[string]*tpmtest.TPM{"TCP": tpmtest.Start(t), "Unix socket": tpmtest.StartUnix(t)} {
		auth := credential.NewSecret([]byte("an auth file \x00 with a zero byte, and longer than a TPM takes"))
		for _, auth := range []credential.Secret{none, auth} {
			for _, pcrs := range []tpmseal.PCRs{0, pcr7, 1<<24 - 1} {
				sealed := seal(t, tpm.Device, auth, pcrs)
				if bytes.Contains(sealed.Encode(), secret.Bytes()) {
					t.Error("the secret is in the file")
				}
				read, err := tpmseal.ParseSealedKey(sealed.Encode())
				if err != nil {
					t.Fatal(err)
				}
				if read.PCRs() != pcrs || read.NeedsAuth() != (len(auth.Bytes()) > 0) {
					t.Errorf("%s: read back with PCRs %s, auth %t", name, read.PCRs(), read.NeedsAuth())
				}
				opens(t, tpm.Device, read, auth)
			}
		}
		if n := tpm.Loaded(); n != 0 {
			t.Errorf("%s: %d objects and sessions are left in the TPM", name, n)
		}
	}
}

func TestSecretSizes(t *testing.T) {
	tpm := tpmtest.Start(t)
	for size, ok := range map[int]bool{0: false, 1: true, 128: true, 129: false} {
		_, err := tpm.Device.Seal(t.Context(), credential.NewSecret(make([]byte, size)), none, pcr7)
		if ok != (err == nil) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if !ok {
			wantError(t, err, keyservice.Invalid, "longer than a TPM seals")
		}
	}
}

func TestChangedPCRs(t *testing.T) {
	tpm := tpmtest.Start(t)
	none7, both := seal(t, tpm.Device, none, 0), seal(t, tpm.Device, none, 1<<7|1<<11)
	tpm.Extend(8)
	opens(t, tpm.Device, both, none)
	tpm.Extend(11)
	refuses(t, tpm.Device, both, none, keyservice.Denied, "PCR 11 changed")
	tpm.Extend(7)
	refuses(t, tpm.Device, both, none, keyservice.Denied, "PCR 7,11 changed")
	opens(t, tpm.Device, none7, none)
	look, err := tpm.Device.Look(t.Context(), both)
	if err != nil || look.Changed.String() != "7,11" {
		t.Errorf("looked: %+v, %v", look, err)
	}
	if n := tpm.Loaded(); n != 0 {
		t.Errorf("%d objects and sessions are left in the TPM", n)
	}
	tpm.Restart()
	opens(t, tpm.Device, both, none)
}

// The values in the file only explain. Who changes them gets another refusal, from the TPM.
func TestForgedValuesOpenNothing(t *testing.T) {
	tpm := tpmtest.Start(t)
	before := seal(t, tpm.Device, none, pcr7).Encode()
	tpm.Extend(7)
	forged := seal(t, tpm.Device, none, pcr7).Encode()
	const values = 4 + 32 + 1 + 3
	copy(before[values:], forged[values:values+32])
	sealed, err := tpmseal.ParseSealedKey(checksummed(before))
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, tpm.Device, sealed, none, keyservice.Corrupt, "TPM_RC_INTEGRITY")
}

func TestWrongAuthAndLockout(t *testing.T) {
	tpm := tpmtest.Start(t)
	right, wrong := credential.NewSecret([]byte("right")), credential.NewSecret([]byte("wrong"))
	sealed := seal(t, tpm.Device, right, pcr7)
	refuses(t, tpm.Device, sealed, none, keyservice.Invalid, "none was given")
	refuses(t, tpm.Device, seal(t, tpm.Device, none, pcr7), right, keyservice.Invalid, "sealed without one")
	look, err := tpm.Device.Look(t.Context(), sealed)
	if err != nil || look.Failed != 0 || look.MaxFails == 0 {
		t.Fatalf("looked: %+v, %v", look, err)
	}
	for range look.MaxFails {
		refuses(t, tpm.Device, sealed, wrong, keyservice.Denied, "TPM_RC_AUTH_FAIL")
	}
	if look, err = tpm.Device.Look(t.Context(), sealed); err != nil || look.Failed != look.MaxFails {
		t.Errorf("looked: %+v, %v", look, err)
	}
	refuses(t, tpm.Device, sealed, right, keyservice.Throttled, "TPM_RC_LOCKOUT")
	opens(t, tpm.Device, seal(t, tpm.Device, none, pcr7), none) // what has no auth is in no danger
	if n := tpm.Loaded(); n != 0 {
		t.Errorf("%d objects and sessions are left in the TPM", n)
	}
}

func TestAnotherTPM(t *testing.T) {
	tpm, other := tpmtest.Start(t), tpmtest.Start(t)
	sealed := seal(t, tpm.Device, none, pcr7)
	refuses(t, other.Device, sealed, none, keyservice.NotFound, "another TPM")
	tpm.Clear()
	refuses(t, tpm.Device, sealed, none, keyservice.NotFound, "was cleared")
}

func TestOwnerPassword(t *testing.T) {
	tpm := tpmtest.Start(t)
	tpm.SetOwnerPassword("hers")
	_, err := tpm.Device.Seal(t.Context(), secret, none, pcr7)
	wantError(t, err, keyservice.Denied, "TPM_RC_BAD_AUTH")
	if !strings.Contains(keyservice.HintOf(err), "owner has a password") {
		t.Errorf("hint %q", keyservice.HintOf(err))
	}
}

func TestNoTPM(t *testing.T) {
	tpm := tpmtest.Start(t)
	sealed := seal(t, tpm.Device, none, pcr7)
	tpm.Stop()
	refuses(t, tpm.Device, sealed, none, keyservice.Unavailable, "does not answer")
	dir := t.TempDir()
	refuses(t, tpmseal.Device(filepath.Join(dir, "tpm")), sealed, none, keyservice.Unavailable, "no such file")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, tpmseal.Device(file), sealed, none, keyservice.Unavailable, "neither a character device nor a socket")
	refuses(t, "/dev/null", sealed, none, keyservice.Unavailable, "ends after 0 bytes") // a device that is opened, and is no TPM
}

func TestCancelledWhileTheTPMStalls(t *testing.T) {
	tpm := tpmtest.Start(t)
	sealed := seal(t, tpm.Device, none, pcr7)
	proxy := testserver.StartProxy(t, string(tpm.Device))
	device := tpmseal.Device(proxy.Address)
	opens(t, device, sealed, none)
	proxy.Set(testserver.Stall)
	for name, call := range map[string]func(context.Context) error{
		"Seal":    func(ctx context.Context) error { _, err := device.Seal(ctx, secret, none, pcr7); return err },
		"Unseal":  func(ctx context.Context) error { _, err := device.Unseal(ctx, sealed, none); return err },
		"Request": func(ctx context.Context) error { _, err := device.Request(ctx, pcr7); return err },
		"Look":    func(ctx context.Context) error { _, err := device.Look(ctx, sealed); return err },
	} {
		keyservicetest.CheckCancelled(t, name, call)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := call(ctx); !keyservice.Canceled(err) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := device.Unseal(ctx, sealed, none)
	wantError(t, err, keyservice.Unavailable, "deadline")
	proxy.Set(testserver.Pass)
	opens(t, device, sealed, none)
	if n := tpm.Loaded(); n != 0 { // swtpm serves one connection after the other
		t.Errorf("%d objects and sessions are left in the TPM", n)
	}
}

func TestConnectionIsCut(t *testing.T) {
	tpm := tpmtest.Start(t)
	sealed := seal(t, tpm.Device, none, pcr7)
	proxy := testserver.StartProxy(t, string(tpm.Device))
	repair := proxy.Set(testserver.Cut)
	refuses(t, tpmseal.Device(proxy.Address), sealed, none, keyservice.Unavailable, "does not answer")
	repair()
	opens(t, tpmseal.Device(proxy.Address), sealed, none)
}

// Everything that is said to the TPM is recorded. The secret and the auth value are in none of it.
func TestNothingSecretOnTheBus(t *testing.T) {
	tpm := tpmtest.Start(t)
	bus := record(t, string(tpm.Device))
	auth := credential.NewSecret([]byte("an auth value"))
	device := tpmseal.Device(bus.address)
	sealed := seal(t, device, auth, pcr7)
	opens(t, device, sealed, auth)
	request, err := device.Request(t.Context(), pcr7)
	if err != nil {
		t.Fatal(err)
	}
	grant, err := request.Grant(secret, request.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := device.OpenGrant(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	bus.mu.Lock()
	defer bus.mu.Unlock()
	if !bytes.Contains(bus.said, []byte("\x00\x00\x01\x5e")) { // the code of TPM2_Unseal
		t.Fatal("the bus was not recorded")
	}
	for _, hidden := range [][]byte{secret.Bytes(), auth.Bytes(), tpmseal.AuthValue(auth)} {
		if bytes.Contains(bus.said, hidden) {
			t.Errorf("%q passed the bus", hidden)
		}
	}
}

func TestConcurrent(t *testing.T) {
	tpm := tpmtest.Start(t)
	sealed := seal(t, tpm.Device, none, pcr7)
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() { opens(t, tpm.Device, sealed, none) })
	}
	calls.Wait()
}

// recorder is a wire that keeps what passes it, in both directions.
type recorder struct {
	address string
	mu      sync.Mutex
	said    []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, p...)
	return len(p), nil
}

func record(t *testing.T, to string) *recorder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	r := &recorder{address: listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go forward(client, to, r)
		}
	}()
	return r
}
