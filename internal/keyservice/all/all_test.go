package all_test

import (
	"log/slog"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/all"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
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
