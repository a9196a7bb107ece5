package tpm_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmtest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

var quiet = slog.New(slog.DiscardHandler)

const pcr7 tpmseal.PCRs = 1 << 7

// node returns the configuration of a node with this TPM and without files.
func node(t *testing.T, device *tpmtest.TPM) tpm.Config {
	t.Helper()
	dir := t.TempDir()
	return tpm.Config{Keystore: filepath.Join(dir, "keystore"), SealedKey: filepath.Join(dir, "keystore.tpm"), Device: device.Device}
}

// created returns a node that has a keystore, sealed to PCR 7.
func created(t *testing.T, device *tpmtest.TPM) tpm.Config {
	t.Helper()
	config := node(t, device)
	create(t, config)
	return config
}

func create(t *testing.T, config tpm.Config) keyservice.VersionID {
	t.Helper()
	v, err := config.Create(t.Context(), pcr7)
	if err != nil {
		t.Fatal(err)
	}
	return v.ID
}

func open(t *testing.T, config tpm.Config, log *slog.Logger) *tpm.Key {
	t.Helper()
	return keyservicetest.Open(t, tpm.Open, config, log)
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func rotate(t *testing.T, config tpm.Config) keyservice.VersionID {
	t.Helper()
	v, err := config.Rotate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return v.ID
}

// A key that is open does not need the TPM: what a TPM does wrong is tested below, and in package tpmseal.
func TestConformance(t *testing.T) {
	keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
		config := node(t, tpmtest.Start(t))
		config.AuthFile = credential.File(write(t, filepath.Join(t.TempDir(), "auth"), "an auth value\n"))
		create(t, config)
		return keyservicetest.Harness{
			Open:   func(t *testing.T, log *slog.Logger) keyservice.Key { return open(t, config, log) },
			Form:   tpm.Describe().Forms[0],
			Rotate: func(t *testing.T) { rotate(t, config) },
			Recreate: func(t *testing.T) {
				remove(t, config.Keystore, config.SealedKey)
				create(t, config)
			},
			Secrets: []string{"an auth value"},
		}
	})
}

// What the TPM says does not stop a start: other keys may be enough for the node to work.
func TestStartsWithoutTheTPM(t *testing.T) {
	device := tpmtest.Start(t)
	config := created(t, device)
	for name, c := range map[string]struct {
		spoil, repair func()
		kind          keyservice.Kind
		text          string
	}{
		"PCR changed": {func() { device.Extend(7) }, device.Restart, keyservice.Denied, "PCR 7 changed"},
		"TPM away":    {device.Stop, device.Start, keyservice.Unavailable, "does not answer"},
	} {
		var log keyservicetest.Log
		c.spoil()
		key := open(t, config, log.Logger())
		_, _, err := key.Versions(t.Context())
		keyservicetest.WantKind(t, err, c.kind, c.text)
		_, err = key.Wrap(t.Context(), "", []byte("a secret"), nil)
		keyservicetest.WantKind(t, err, c.kind, c.text)
		_, err = key.Unwrap(t.Context(), keyservice.Wrapped{Version: "v", Bytes: make([]byte, 60)}, nil)
		keyservicetest.WantKind(t, err, c.kind, c.text)
		if f := keyservicetest.Find(t, key, "tpm-refuses"); f.Severity != finding.Error || !strings.Contains(f.What, c.text) {
			t.Errorf("%s: found %v", name, f)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "hint=") {
			t.Errorf("%s: %d errors in the log, want 1 with a hint: %s", name, n, log.String())
		}
		c.repair()
		deadline := time.Now().Add(20 * time.Second)
		for err != nil && time.Now().Before(deadline) {
			time.Sleep(200 * time.Millisecond)
			_, _, err = key.Versions(t.Context())
		}
		if err != nil || !strings.Contains(log.String(), "the TPM has opened the keystore") {
			t.Errorf("%s, repaired: %v, log: %s", name, err, log.String())
		}
	}
}

// A TPM locks itself after some wrong authorizations, and API servers ask often.
func TestWrongAuthIsTriedOnce(t *testing.T) {
	device := tpmtest.Start(t)
	config := node(t, device)
	auth := write(t, filepath.Join(t.TempDir(), "auth"), "right")
	config.AuthFile = credential.File(auth)
	id := create(t, config)
	write(t, auth, "wrong")
	key := open(t, config, quiet)
	for range 10 {
		_, _, err := key.Versions(t.Context())
		keyservicetest.WantKind(t, err, keyservice.Denied, "TPM_RC_AUTH_FAIL")
	}
	if f := keyservicetest.Find(t, key, "tpm-lockout"); f.Severity != finding.Warning || !strings.Contains(f.What, "counted 1 wrong") {
		t.Errorf("found %v", f)
	}
	write(t, auth, "right")
	if keyservicetest.Newest(t, key) != id {
		t.Error("another version")
	}
}

// The keystore may be replaced, and the TPM not open it: what was read before stays in use.
func TestPCRsChangeWhileInUse(t *testing.T) {
	device := tpmtest.Start(t)
	config := created(t, device)
	key := open(t, config, quiet)
	wrapped, err := key.Wrap(t.Context(), "", []byte("a secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if f := keyservicetest.Find(t, key, "tpm-pcrs-changed"); f.Rule != "" {
		t.Errorf("nothing changed, found %v", f)
	}
	rotated := rotate(t, config)
	device.Extend(7)
	if keyservicetest.Newest(t, key) != wrapped.Version {
		t.Error("the new keystore was opened although PCR 7 has changed")
	}
	if _, err := key.Unwrap(t.Context(), wrapped, nil); err != nil {
		t.Error(err)
	}
	for _, rule := range []string{"tpm-pcrs-changed", "keystore-unusable"} {
		if f := keyservicetest.Find(t, key, rule); f.Severity != finding.Error || !strings.Contains(f.What, "PCR 7") {
			t.Errorf("%s: found %v", rule, f)
		}
	}
	device.Restart()
	for range 100 {
		if keyservicetest.Newest(t, key) == rotated {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the new keystore was not opened once the TPM let it")
}

func TestCancelledWhileTheTPMStalls(t *testing.T) {
	device := tpmtest.Start(t)
	config := created(t, device)
	proxy := testserver.StartProxy(t, string(device.Device))
	config.Device = tpmseal.Device(proxy.Address)
	inUse := open(t, config, quiet)
	rotated := rotate(t, config)
	remaining := map[string]func(context.Context) error{
		"Open":                        func(ctx context.Context) error { _, err := tpm.Open(ctx, config, quiet); return err },
		"Versions, keystore replaced": func(ctx context.Context) error { _, _, err := inUse.Versions(ctx); return err },
		"Unwrap, keystore replaced": func(ctx context.Context) error {
			_, err := inUse.Unwrap(ctx, keyservice.Wrapped{Version: rotated, Bytes: make([]byte, 60)}, nil)
			return err
		},
		"Verify": func(ctx context.Context) error { _, err := config.Verify(ctx); return err },
		"Rotate": func(ctx context.Context) error { _, err := config.Rotate(ctx, 0); return err },
	}
	defer proxy.Set(testserver.Stall)()
	for name, call := range remaining {
		keyservicetest.CheckCancelled(t, name, call)
	}
}

func TestOpenRefuses(t *testing.T) {
	device := tpmtest.Start(t)
	another := created(t, device)
	for name, c := range map[string]struct {
		spoil func(t *testing.T, config *tpm.Config)
		kind  keyservice.Kind
		text  string
		hint  string
	}{
		"keystore missing": {func(t *testing.T, c *tpm.Config) { remove(t, c.Keystore) }, keyservice.NotFound, "no such file", "trousseau tpm create"},
		"key missing":      {func(t *testing.T, c *tpm.Config) { remove(t, c.SealedKey) }, keyservice.NotFound, "reading the sealed key", "trousseau tpm create"},
		"key world-readable": {func(t *testing.T, c *tpm.Config) {
			if err := os.Chmod(c.SealedKey, 0o644); err != nil {
				t.Fatal(err)
			}
		}, keyservice.Denied, "reading the sealed key", "chmod 0600"},
		"key damaged": {func(t *testing.T, c *tpm.Config) {
			if err := os.Truncate(c.SealedKey, 50); err != nil {
				t.Fatal(err)
			}
		}, keyservice.Corrupt, "the file is damaged", "trousseau tpm restore"},
		"key is another file":     {func(t *testing.T, c *tpm.Config) { write(t, c.SealedKey, "hello") }, keyservice.Invalid, "does not begin with", "name a file"},
		"key of another keystore": {func(t *testing.T, c *tpm.Config) { c.SealedKey = another.SealedKey }, keyservice.Denied, "wrong passphrase or key", "do not belong together"},
		"keystore damaged": {func(t *testing.T, c *tpm.Config) {
			if err := os.Truncate(c.Keystore, 50); err != nil {
				t.Fatal(err)
			}
		}, keyservice.Corrupt, "the file is damaged", "restore the keystore"},
		"auth file missing": {func(t *testing.T, c *tpm.Config) { c.AuthFile = "/nowhere/auth" }, keyservice.Denied, "reading the auth file", "authFile"},
	} {
		config := created(t, device)
		c.spoil(t, &config)
		_, err := tpm.Open(t.Context(), config, quiet)
		keyservicetest.WantKind(t, err, c.kind, c.text)
		if !strings.Contains(keyservice.HintOf(err), c.hint) {
			t.Errorf("%s: hint %q, want one with %q", name, keyservice.HintOf(err), c.hint)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tpm.Open(ended, created(t, device), quiet); !keyservice.Canceled(err) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestInspect(t *testing.T) {
	device := tpmtest.Start(t)
	config := created(t, device)
	key := open(t, config, quiet)
	for rule, severity := range map[string]finding.Severity{"tpm-simulated": finding.Warning, "keystore-copies": finding.Info} {
		if f := keyservicetest.Find(t, key, rule); f.Severity != severity {
			t.Errorf("%s: found %v", rule, f)
		}
	}
	if f := keyservicetest.Find(t, key, "keystore-copies"); !strings.Contains(f.Fix, "docs/keyservices/tpm.md") {
		t.Errorf("found %v", f)
	}
	for _, rule := range []string{"tpm-refuses", "tpm-no-pcrs", "tpm-pcrs-changed", "tpm-lockout", "tpm-unavailable", "tpm-not-shared"} {
		if f := keyservicetest.Find(t, key, rule); f.Rule != "" {
			t.Errorf("found in a good node: %v", f)
		}
	}
	if _, err := config.Reseal(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if f := keyservicetest.Find(t, key, "tpm-no-pcrs"); f.Severity != finding.Warning {
		t.Errorf("found %v", f)
	}
	write(t, config.SealedKey, "hello")
	if f := keyservicetest.Find(t, key, "tpm-sealed-key-unusable"); f.Severity != finding.Error {
		t.Errorf("found %v", f)
	}
	key.Close()
	if _, err := key.Inspect(t.Context()); err == nil || keyservice.KindOf(err) != keyservice.Unavailable {
		t.Errorf("closed: %v", err)
	}

	config = created(t, device)
	key = open(t, config, quiet)
	device.Stop()
	if f := keyservicetest.Find(t, key, "tpm-unavailable"); f.Severity != finding.Warning {
		t.Errorf("found %v", f)
	}
}

func TestValidate(t *testing.T) {
	good := tpm.Config{Keystore: "/k", SealedKey: "/k.tpm", Device: tpmseal.DefaultDevice}
	for name, c := range map[string]struct {
		change func(*tpm.Config)
		fields []string // that problems are reported of
	}{
		"good":            {func(*tpm.Config) {}, nil},
		"with auth":       {func(c *tpm.Config) { c.AuthFile = "systemd:tpm" }, nil},
		"nothing":         {func(c *tpm.Config) { *c = tpm.Config{} }, []string{"device", "keystore", "sealedKey"}},
		"relative":        {func(c *tpm.Config) { c.Keystore, c.SealedKey, c.AuthFile = "k", "s", "a" }, []string{"authFile", "keystore", "sealedKey"}},
		"the same":        {func(c *tpm.Config) { c.SealedKey = c.Keystore }, []string{"sealedKey"}},
		"NUL":             {func(c *tpm.Config) { c.SealedKey = "/s\x00" }, []string{"sealedKey"}},
		"TPM of a server": {func(c *tpm.Config) { c.Device = "192.0.2.1:2321" }, []string{"device"}},
	} {
		config := good
		c.change(&config)
		keyservicetest.CheckFields(t, name, config.Validate, c.fields)
	}
	if id := good.ID(); id != "tpm" {
		t.Errorf("id %q", id)
	}
}
