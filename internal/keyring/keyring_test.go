package keyring_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

// site is three keystores, a, b and c, and a configuration that takes two of them to open.
func site(t *testing.T) (dir string, d *config.Daemon) {
	t.Helper()
	dir = t.TempDir()
	var keys strings.Builder
	for _, name := range []string{"a", "b", "c"} {
		if _, err := keystore.Create(filepath.Join(dir, name), keystore.Unsealed()); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&keys, "- {name: %s, id: %s, local: {keystore: %s, unsealed: true}}\n", name, name, filepath.Join(dir, name))
	}
	d, err := config.Parse("test", []byte(`apiVersion: trousseau.io/v1
kind: DaemonConfiguration
cluster: {name: test, lineage: "7f3c0a9e5d1b4c86a2e8f0937b6d5c41"}
keys:
`+keys.String()+"policies: [{keys: [a, b, c], need: 2}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, d
}

// lose moves a keystore away; the result brings it back.
func lose(t *testing.T, dir, name string) (back func()) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Rename(path, path+".lost"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(path+".lost", path); err != nil {
			t.Fatal(err)
		}
	}
}

var discard = slog.New(slog.DiscardHandler)

func TestOneLostKeystoreIsGoneOnWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, d := site(t)
		back := lose(t, dir, "b")
		if _, err := keyring.Open(t.Context(), d, discard, nil); err == nil || !strings.Contains(err.Error(), "key b:") {
			t.Errorf("Open goes on: %v", err)
		}
		var log bytes.Buffer
		k, err := keyring.OpenEnough(t.Context(), d, slog.New(slog.NewTextHandler(&log, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		if !strings.Contains(log.String(), "key=b") || !strings.Contains(log.String(), "hint=") {
			t.Errorf("the log says %s", log.String())
		}
		if _, _, err := k.Keys["a"].Versions(t.Context()); err != nil {
			t.Error(err)
		}
		wantLost(t, k)
		back()
		wantLost(t, k) // it is not looked for with every call
		time.Sleep(5 * time.Second)
		if _, _, err := k.Keys["b"].Versions(t.Context()); err != nil {
			t.Errorf("it is back: %v", err)
		}
	})
}

// wantLost fails the test unless every call of the lost key says which file it misses.
func wantLost(t *testing.T, k *keyring.Keyring) {
	t.Helper()
	_, _, errVersions := k.Keys["b"].Versions(t.Context())
	_, errWrap := k.Keys["b"].Wrap(t.Context(), "", []byte("secret"), nil)
	_, errUnwrap := k.Keys["b"].Unwrap(t.Context(), keyservice.Wrapped{Version: "v", Bytes: []byte("x")}, nil)
	for _, err := range []error{errVersions, errWrap, errUnwrap} {
		if err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("the lost key answers %v", err)
		}
	}
}

func TestTwoLostKeystoresAreTooMany(t *testing.T) {
	dir, d := site(t)
	lose(t, dir, "b")
	lose(t, dir, "c")
	if _, err := keyring.OpenEnough(t.Context(), d, discard, nil); err == nil || !strings.Contains(err.Error(), "key c:") {
		t.Errorf("goes on with one of two: %v", err)
	}
}
