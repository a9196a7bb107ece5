package kmip_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip/kmiptest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// longLived gives the configuration a client certificate that is good for a year; those of testserver are for a day.
func longLived(t *testing.T, f *kmiptest.Fake, c *kmip.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f.Accept(cert)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c.ClientCertFile = write("cert.pem", "CERTIFICATE", der)
	c.ClientKeyFile = credential.File(write("key.pem", "PRIVATE KEY", private))
}

// inspect returns the rules that were found, sorted, without the one that every version has.
func inspect(t *testing.T, c kmip.Config) []string {
	t.Helper()
	return keyservicetest.Rules(keyservicetest.Inspect(t, open(t, c, nil)), "kmip-version")
}

func TestInspect(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		change func(f *kmiptest.Fake, uid string, c *kmip.Config)
		want   []string
	}{
		"a good key": {nil, []string{"kmip-ok"}},
		"AES-CBC": {func(_ *kmiptest.Fake, _ string, c *kmip.Config) { c.MAC = &kmip.Object{Name: "mac"} },
			[]string{"kmip-mode-cbc", "kmip-ok"}},
		"old protocol": {func(f *kmiptest.Fake, uid string, c *kmip.Config) {
			c.MAC = &kmip.Object{Name: "mac"}
			f.Speak(kmipgo.V1_2)
			f.Edit(uid, func(o *kmiptest.Object) {
				o.Hidden = []kmipgo.AttributeName{kmipgo.AttributeNameSensitive, kmipgo.AttributeNameExtractable}
			})
		}, []string{"kmip-key-extractable-unknown", "kmip-mode-cbc", "kmip-ok", "kmip-protocol-old"}},
		"day's end": {func(f *kmiptest.Fake, _ string, c *kmip.Config) { *c = config(f, "k8s", "") },
			[]string{"kmip-certificate-ends"}},
		"second address": {func(_ *kmiptest.Fake, _ string, c *kmip.Config) { c.Addresses = append(c.Addresses, "127.0.0.1:1") },
			[]string{"kmip-address-away"}},
		"wide usage": {edit(func(o *kmiptest.Object) { o.Usage |= kmipgo.CryptographicUsageExport }),
			[]string{"kmip-key-usage-wide"}},
		"readable": {edit(func(o *kmiptest.Object) { o.Sensitive, o.Extractable = false, true }),
			[]string{"kmip-key-extractable"}},
		"ends soon": {edit(func(o *kmiptest.Object) { o.Deactivation = soon }), []string{"kmip-key-ends"}},
		"ends next year": {edit(func(o *kmiptest.Object) { o.Deactivation = soon.AddDate(1, 0, 0) }),
			[]string{"kmip-key-ends-later", "kmip-ok"}},
		"pre-active": {edit(func(o *kmiptest.Object) { o.State = kmipgo.StatePreActive }),
			[]string{"kmip-key-not-active", "kmip-wrap-fails"}},
		"compromised": {edit(func(o *kmiptest.Object) { o.State = kmipgo.StateCompromised }),
			[]string{"kmip-key-compromised", "kmip-key-not-active", "kmip-wrap-fails"}},
		"wrong usage": {edit(func(o *kmiptest.Object) { o.Usage = kmipgo.CryptographicUsageEncrypt }),
			[]string{"kmip-key-unusable"}},
		"aad ignored": {func(f *kmiptest.Fake, _ string, _ *kmip.Config) {
			f.Tamper(func(p kmipgo.OperationPayload) {
				switch request := p.(type) {
				case *payloads.EncryptRequestPayload:
					request.AuthenticatedEncryptionAdditionalData = nil
				case *payloads.DecryptRequestPayload:
					request.AuthenticatedEncryptionAdditionalData = nil
				}
			})
		}, []string{"kmip-aad-ignored"}},
		"tag ignored": {func(f *kmiptest.Fake, _ string, _ *kmip.Config) {
			var tag []byte
			f.Tamper(func(p kmipgo.OperationPayload) {
				switch payload := p.(type) {
				case *payloads.EncryptResponsePayload:
					tag = slices.Clone(payload.AuthenticatedEncryptionTag)
				case *payloads.DecryptRequestPayload:
					payload.AuthenticatedEncryptionTag = tag
				}
			})
		}, []string{"kmip-tag-ignored"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := kmiptest.Start(t)
			uid := f.CreateKey("k8s")
			f.CreateMAC("mac")
			c := config(f, "k8s", "")
			longLived(t, f, &c)
			if test.change != nil {
				test.change(f, uid, &c)
			}
			if got := inspect(t, c); !slices.Equal(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

func edit(change func(*kmiptest.Object)) func(*kmiptest.Fake, string, *kmip.Config) {
	return func(f *kmiptest.Fake, uid string, _ *kmip.Config) { f.Edit(uid, change) }
}

func TestInspectWithoutAServer(t *testing.T) {
	t.Parallel()
	f, c := fixture(t)
	f.Proxy.Set(testserver.Cut)
	if found, err := open(t, c, nil).Inspect(t.Context()); err == nil {
		t.Errorf("found %v", found)
	}
}
