package escrow_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age/plugin"

	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// buildAge builds the command of the age that go.mod names.
func buildAge(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "age")
	if out, err := exec.Command("go", "build", "-o", program, "filippo.io/age/cmd/age").CombinedOutput(); err != nil {
		testserver.Missing(t, "age's own command ("+strings.TrimSpace(string(out))+")", "run: go get filippo.io/age/cmd/age")
	}
	return program
}

func installed(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		testserver.Missing(t, program, "run: apt-get install "+pkg)
	}
	return path
}

// ageOpens opens a wrapped share with an age command and compares it with what docs/formats.md says.
func ageOpens(t *testing.T, program string, p pair) {
	t.Helper()
	dir := t.TempDir()
	wrapped := keyservicetest.Wrap(t, open(t, p.recipient), "")
	for name, content := range map[string]string{"identity": p.identity, "wrapped": string(wrapped.Bytes)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(program, "-d", "-i", filepath.Join(dir, "identity"), filepath.Join(dir, "wrapped"))
	var said bytes.Buffer
	command.Stderr = &said
	got, err := command.Output()
	sum := sha256.Sum256(aad)
	if want := append(sum[:16:16], share...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %v, %d bytes, %s", filepath.Base(program), err, len(got), &said)
	}
}

func TestAgeOpens(t *testing.T) {
	program := buildAge(t)
	installPlugin(t)
	standsFor := x25519(t)
	for name, p := range map[string]pair{
		"X25519":       x25519(t),
		"post-quantum": hybrid(t),
		"ssh-ed25519":  sshEd25519(t),
		"ssh-rsa":      sshRSA(t, 2048),
		"plugin": {
			pluginRecipient("works", standsFor.recipient), plugin.EncodeIdentity(pluginName, []byte(standsFor.identity)),
		},
	} {
		t.Run(name, func(t *testing.T) { ageOpens(t, program, p) })
	}
}

// The age that Debian 12 has, 1.1.1, is from before post-quantum recipients.
func TestInstalledAgeOpens(t *testing.T) {
	program := installed(t, "age", "age")
	keygen := installed(t, "age-keygen", "age")
	file, err := exec.Command(keygen).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(file), "public key: ")
	recipient, _, _ := strings.Cut(after, "\n")
	ageOpens(t, program, pair{recipient, string(file)})
	ageOpens(t, program, sshEd25519(t))
}

func TestKeysOfSSHKeygen(t *testing.T) {
	keygen := installed(t, "ssh-keygen", "openssh-client")
	for _, args := range [][]string{{"-t", "ed25519"}, {"-t", "rsa", "-b", "3072"}, {"-t", "rsa", "-b", "2048", "-m", "PEM"}} {
		file := filepath.Join(t.TempDir(), "key")
		if out, err := exec.Command(keygen, append(args, "-q", "-N", "", "-C", "operator", "-f", file)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		private, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		public, err := os.ReadFile(file + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		key := open(t, strings.TrimSpace(string(public)))
		got, err := identities(t, string(private)).Unwrap(keyservicetest.Wrap(t, key, ""), aad)
		if err != nil || !bytes.Equal(got, share) {
			t.Errorf("%q: %v, equal %t", args, err, bytes.Equal(got, share))
		}
	}
}
