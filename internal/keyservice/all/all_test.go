package all_test

import (
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/all"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv"
	"github.com/trousseau-io/trousseau/internal/keyservice/escrow"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// TestEveryFieldIsAKeyService sets each field of Service alone: a field that was added without its case has no type.
func TestEveryFieldIsAKeyService(t *testing.T) {
	for _, f := range strictyaml.Fields(reflect.TypeFor[all.Service]()) {
		var s all.Service
		reflect.ValueOf(&s).Elem().FieldByIndex(f.Index).Set(reflect.New(f.Type.Elem()))
		if s.Type() != f.Name || s.ID() == "" {
			t.Errorf("%s has the type %q and the id %q", f.Name, s.Type(), s.ID())
		}
		if f.OneOf != "key service" {
			t.Errorf("%s may be set beside others", f.Name)
		}
	}
}

// TestShutOff looks for what an operator copies in an emergency.
func TestShutOff(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:111122223333:"
	for name, test := range map[string]struct {
		service all.Service
		want    string
	}{
		"local": {all.Service{Local: &local.Config{Keystore: "/k/s"}}, "mv /k/s /k/s.away"},
		"vault": {all.Service{Vault: &vault.Config{Addresses: []string{"https://v:8200"}, Mount: "transit", Key: "k8s", Namespace: "ns"}},
			`printf 'path "transit/encrypt/k8s" { capabilities = ["deny"] }\npath "transit/decrypt/k8s" { capabilities = ["deny"] }\n' | vault policy write -address=https://v:8200 -namespace=ns POLICY -`},
		"awskms":       {all.Service{AWSKMS: &awskms.Config{KeyARN: arn + "key/1"}}, "aws kms disable-key --region eu-central-1 --key-id " + arn + "key/1"},
		"awskms alias": {all.Service{AWSKMS: &awskms.Config{KeyARN: arn + "alias/a"}}, `disable-key --region eu-central-1 --key-id "$(aws kms describe-key --region eu-central-1 --key-id ` + arn + "alias/a"},
		"azurekv":      {all.Service{AzureKV: &azurekv.Config{Vault: "v", Key: "k"}}, "list-versions --vault-name v --name k "},
		"managed hsm":  {all.Service{AzureKV: &azurekv.Config{ManagedHSM: "h", Key: "k"}}, "list-versions --hsm-name h --name k "},
		"gcpkms": {all.Service{GCPKMS: &gcpkms.Config{Key: "projects/p/locations/l/keyRings/r/cryptoKeys/k"}},
			`versions disable "$version" --key=k --keyring=r --location=l --project=p`},
		"pkcs11":   {all.Service{PKCS11: &pkcs11.Config{Module: "/m.so", Token: "t"}}, "pkcs11-tool --module /m.so --token-label 't'"},
		"kmip":     {all.Service{KMIP: &kmip.Config{Addresses: []string{"a:1"}, Key: kmip.Object{Name: "n"}, MAC: &kmip.Object{Name: "m"}}}, "its access to n and m"},
		"tpm":      {all.Service{TPM: &tpm.Config{SealedKey: "/s"}}, "mv /s /s.away"},
		"escrow":   {all.Service{Escrow: &escrow.Config{}}, "Nothing to do"},
		"upstream": {all.Service{Upstream: &upstream.Config{Socket: "/o.sock"}}, "src /o.sock"},
	} {
		if got := test.service.ShutOff(); !strings.Contains(got, test.want) {
			t.Errorf("%s: no %q in\n%s", name, test.want, got)
		}
	}
}

func TestOpen(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	for name, test := range map[string]struct {
		service all.Service
		want    keyservice.Kind
	}{
		"nothing set":      {all.Service{}, keyservice.Invalid},
		"missing keystore": {all.Service{Local: &local.Config{Keystore: missing, Unsealed: true}}, keyservice.NotFound},
		"empty settings":   {all.Service{Vault: &vault.Config{}}, keyservice.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := test.service.Open(t.Context(), slog.New(slog.DiscardHandler))
			if err == nil || key != nil {
				t.Fatalf("got the key %v and the error %v", key, err)
			}
			if kind := keyservice.KindOf(err); kind != test.want {
				t.Errorf("got %v (%v), want %v", kind, err, test.want)
			}
		})
	}
}
