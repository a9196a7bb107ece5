package kmip_test

import (
	"bytes"
	"log/slog"
	"strconv"
	"testing"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/kmipclient"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip/kmiptest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

var secret, aad = []byte(keyservicetest.Secret), []byte(keyservicetest.AAD)

// config returns the configuration for the fake's key called name, and for its HMAC key called mac unless that is empty.
func config(f *kmiptest.Fake, name, mac string) kmip.Config {
	c := kmip.Config{
		Addresses: []string{f.Address}, CAFile: f.CA.File, ClientCertFile: f.ClientCert,
		ClientKeyFile: credential.File(f.ClientKey), Key: kmip.Object{Name: name},
	}
	if mac != "" {
		c.MAC = &kmip.Object{Name: mac}
	}
	return c
}

func open(t testing.TB, c kmip.Config, log *slog.Logger) *kmip.Key {
	t.Helper()
	return keyservicetest.Open(t, kmip.Open, c, log)
}

// TestConformance runs against the fake, with AES-GCM and ReKey, and with AES-CBC and a second key of the same name.
func TestConformance(t *testing.T) {
	t.Parallel()
	for i, form := range kmip.Describe().Forms {
		t.Run(form.Algorithm, func(t *testing.T) {
			t.Parallel()
			keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
				f := kmiptest.Start(t)
				uid, mac := f.CreateKey("k8s"), ""
				if i == 1 {
					f.CreateMAC("k8s-mac")
					mac = "k8s-mac"
				}
				fail := func(reason kmipgo.ResultReason) func(*testing.T) func() {
					return func(*testing.T) func() { return f.Fail(reason, "as ordered") }
				}
				return keyservicetest.Harness{
					Open: func(t *testing.T, log *slog.Logger) keyservice.Key { return open(t, config(f, "k8s", mac), log) },
					Form: form,
					Rotate: func(*testing.T) {
						if i == 0 {
							uid = f.Rekey(uid)
							return
						}
						time.Sleep(1100 * time.Millisecond) // dates have a resolution of one second
						uid = f.CreateKey("k8s")
					},
					Recreate: func(*testing.T) {
						f.Destroy(uid)
						uid = f.CreateKey("k8s")
					},
					Stall: func(*testing.T) func() { return f.Proxy.Set(testserver.Stall) },
					Faults: []keyservicetest.ServiceFault{
						{Name: "refusing connections", Kind: keyservice.Unavailable, Break: func(*testing.T) func() {
							return f.Proxy.Set(testserver.Cut)
						}},
						{Name: "permission denied", Kind: keyservice.Denied, Break: fail(kmipgo.ResultReasonPermissionDenied)},
						{Name: "server limit exceeded", Kind: keyservice.Throttled, Break: fail(0x3A)},
						{Name: "object archived", Kind: keyservice.Disabled, Break: fail(kmipgo.ResultReasonObjectArchived)},
						{Name: "invalid message", Kind: keyservice.Invalid, Break: fail(kmipgo.ResultReasonInvalidMessage)},
						{Name: "damaged answers", Kind: keyservice.Corrupt, Break: func(*testing.T) func() { return f.Garble() }},
						{Name: "key destroyed", Kind: keyservice.NotFound, Break: func(*testing.T) func() {
							f.Destroy(uid)
							return nil
						}},
					},
				}
			})
		})
	}
}

// pyKey is a key in PyKMIP.
type pyKey struct {
	*kmipclient.Client
	name, uid string
}

// create makes another active key of the same name.
func (k *pyKey) create(t testing.TB) {
	t.Helper()
	made, err := k.Create().AES(256, kmipgo.CryptographicUsageEncrypt|kmipgo.CryptographicUsageDecrypt).WithName(k.name).Exec()
	if err != nil {
		t.Fatal(err)
	}
	k.uid = made.UniqueIdentifier
	if _, err := k.Activate(k.uid).Exec(); err != nil {
		t.Fatal(err)
	}
}

// createMAC makes an active HMAC key; PyKMIP makes none itself.
func (k *pyKey) createMAC(t testing.TB, name string) {
	t.Helper()
	made, err := k.Register().SymmetricKey(kmipgo.CryptographicAlgorithmHMACSHA256, kmipgo.CryptographicUsageMACGenerate,
		bytes.Repeat([]byte{7}, 32)).WithName(name).Exec()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Activate(made.UniqueIdentifier).Exec(); err != nil {
		t.Fatal(err)
	}
}

func (k *pyKey) revoke(t testing.TB, reason kmipgo.RevocationReasonCode) {
	t.Helper()
	if _, err := k.Revoke(k.uid).WithRevocationReasonCode(reason).Exec(); err != nil {
		t.Fatal(err)
	}
}

func (k *pyKey) destroy(t testing.TB) {
	t.Helper()
	k.revoke(t, kmipgo.RevocationReasonCodeCessationOfOperation)
	if _, err := k.Destroy(k.uid).Exec(); err != nil {
		t.Fatal(err)
	}
}

// TestPyKMIP runs the suite against a server that we did not write.
func TestPyKMIP(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute: the server answers one request after the other")
	}
	t.Parallel()
	server := kmiptest.StartPyKMIP(t)
	for i, form := range kmip.Describe().Forms {
		t.Run(form.Algorithm, func(t *testing.T) {
			n := 0
			keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
				n++
				k := &pyKey{Client: server.Admin(t), name: "k8s-" + strconv.Itoa(i) + "-" + strconv.Itoa(n)}
				k.create(t)
				p := testserver.StartProxy(t, server.Address)
				c := kmip.Config{
					Addresses: []string{p.Address}, CAFile: server.CA.File, ClientCertFile: server.ClientCert,
					ClientKeyFile: credential.File(server.ClientKey), Key: kmip.Object{Name: k.name},
				}
				if i == 1 {
					c.MAC = &kmip.Object{Name: k.name + "-mac"}
					k.createMAC(t, c.MAC.Name)
				}
				return keyservicetest.Harness{
					Open: func(t *testing.T, log *slog.Logger) keyservice.Key { return open(t, c, log) },
					Form: form,
					Rotate: func(t *testing.T) {
						time.Sleep(1100 * time.Millisecond) // dates have a resolution of one second
						k.create(t)
					},
					Recreate: func(t *testing.T) { k.destroy(t); k.create(t) },
					Stall:    func(*testing.T) func() { return p.Set(testserver.Stall) },
					Faults: []keyservicetest.ServiceFault{
						{Name: "refusing connections", Kind: keyservice.Unavailable, Break: func(*testing.T) func() {
							return p.Set(testserver.Cut)
						}},
						{Name: "deactivated", Kind: keyservice.Disabled, Break: func(t *testing.T) func() {
							k.revoke(t, kmipgo.RevocationReasonCodeSuperseded)
							return nil
						}},
					},
				}
			})
		})
	}
}
