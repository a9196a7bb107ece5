package escrow_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// The test binary is an age plugin when it is called as one. A recipient of it is what it does, then the recipient or
// identity that it stands for.
const pluginName = "trousseautest"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "age-plugin-"+pluginName {
		os.Exit(m.Run())
	}
	p, err := plugin.New(pluginName)
	if err != nil {
		panic(err)
	}
	p.HandleRecipient(func(data []byte) (age.Recipient, error) {
		does, text, _ := strings.Cut(string(data), " ")
		r, err := age.ParseX25519Recipient(text)
		return behaviour{does, r}, err
	})
	p.HandleIdentity(func(data []byte) (age.Identity, error) { return age.ParseX25519Identity(string(data)) })
	os.Exit(p.Main())
}

// behaviour is a recipient that may not do what it should.
type behaviour struct {
	does string
	age.Recipient
}

func (b behaviour) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	var labels []string
	switch b.does {
	case "fails":
		return nil, nil, errors.New("the token \n is not there")
	case "hangs":
		if dir, err := os.ReadFile(pidFile()); err == nil && len(dir) == 0 {
			os.WriteFile(pidFile(), []byte(strconv.Itoa(os.Getpid())), 0o600)
			io.Copy(io.Discard, os.Stdin) // ends at the latest with the process that waits for it
		}
	case "post-quantum":
		labels = []string{"postquantum"}
	}
	stanzas, err := b.Wrap(fileKey)
	return stanzas, labels, err
}

// pidFile is there, and empty, as long as the plugin is to hang.
func pidFile() string { return os.Getenv("TROUSSEAU_TEST_PID_FILE") }

func pluginRecipient(does, recipient string) string {
	return plugin.EncodeRecipient(pluginName, []byte(does+" "+recipient))
}

// installPlugin puts the plugin on the PATH, and nothing else there.
func installPlugin(t *testing.T) (dir string) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.Symlink(binary, filepath.Join(dir, "age-plugin-"+pluginName)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	return dir
}

func TestPlugin(t *testing.T) {
	installPlugin(t)
	p := x25519(t)
	wrapped := keyservicetest.Wrap(t, open(t, pluginRecipient("works", p.recipient), sshEd25519(t).recipient), "")
	identity := plugin.EncodeIdentity(pluginName, []byte(p.identity))
	got, err := identities(t, "# a plugin's\n"+identity).Unwrap(wrapped, aad)
	if err != nil || !bytes.Equal(got, share) {
		t.Errorf("with the plugin's identity: %v, equal %t", err, bytes.Equal(got, share))
	}
	_, err = identities(t, plugin.EncodeIdentity(pluginName, []byte(x25519(t).identity))).Unwrap(wrapped, aad)
	keyservicetest.CheckKind(t, "another identity", err, keyservice.Corrupt, "do not open")

	t.Setenv("PATH", t.TempDir())
	_, err = identities(t, identity).Unwrap(wrapped, aad)
	keyservicetest.CheckKind(t, "opening without the plugin", err, keyservice.Invalid, "not installed")
}

func TestPluginsThatDoNotWrap(t *testing.T) {
	p := x25519(t)
	for does, c := range map[string]struct {
		beside []string
		kind   keyservice.Kind
		text   string
	}{
		"fails":        {nil, keyservice.Unavailable, `the token \n is not there`},
		"post-quantum": {[]string{x25519(t).recipient}, keyservice.Invalid, "age does not wrap for these recipients together"},
	} {
		installPlugin(t)
		key := open(t, append(c.beside, pluginRecipient(does, p.recipient))...)
		_, err := key.Wrap(t.Context(), "", share, aad)
		keyservicetest.CheckKind(t, does, err, c.kind, c.text)
	}
	installPlugin(t)
	keyservicetest.Wrap(t, open(t, hybrid(t).recipient, pluginRecipient("post-quantum", p.recipient)), "")

	t.Setenv("PATH", t.TempDir())
	_, err := open(t, pluginRecipient("works", p.recipient)).Wrap(t.Context(), "", share, aad)
	keyservicetest.CheckKind(t, "not installed", err, keyservice.Invalid, `"trousseautest" plugin not found`)
}

// A plugin that waits for a touch that nobody gives takes nothing with it, and what it held up goes on when it ends.
func TestPluginThatHangs(t *testing.T) {
	dir := installPlugin(t)
	pids := filepath.Join(dir, "pid")
	t.Setenv("TROUSSEAU_TEST_PID_FILE", pids)
	if err := os.WriteFile(pids, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := x25519(t)
	key := open(t, pluginRecipient("hangs", p.recipient))

	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan error, 1)
	go func() {
		_, err := key.Wrap(ctx, "", share, aad)
		returned <- err
	}()
	pid := waitForPID(t, pids)
	start := time.Now()
	cancel()
	if err := <-returned; !keyservice.Canceled(err) {
		t.Errorf("cancelled: %v", err)
	}
	if took := time.Since(start); took > 50*time.Millisecond {
		t.Errorf("it took %v", took)
	}

	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := key.Wrap(soon, "", share, aad)
	keyservicetest.CheckKind(t, "while the plugin hangs", err, keyservice.Unavailable, "deadline exceeded")

	if err := os.Remove(pids); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	got, err := identities(t, p.identity).Unwrap(keyservicetest.Wrap(t, key, ""), aad)
	if err != nil || !bytes.Equal(got, share) {
		t.Errorf("after the plugin was killed: %v", err)
	}
}

func waitForPID(t *testing.T, file string) int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if pid, convErr := strconv.Atoi(string(text)); err == nil && convErr == nil {
			return pid
		}
		if time.Now().After(deadline) {
			t.Fatal("the plugin did not start")
		}
	}
}
