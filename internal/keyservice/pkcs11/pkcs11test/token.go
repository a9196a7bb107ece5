// Package pkcs11test makes tokens for tests: SoftHSM in the place of an HSM, with keys that OpenSC's pkcs11-tool makes.
//
// Each token is in a store of its own, which SoftHSM finds by the environment variable SOFTHSM2_CONF when it is
// initialized. A program is given Env; a test that loads the module itself sets the variable before. Only tests and the lab
// may import it.
package pkcs11test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// Module is the library, where Debian's package softhsm2 puts it.
const Module = "/usr/lib/softhsm/libsofthsm2.so"

// Token is an initialized token. Its methods fail the test rather than return errors.
type Token struct {
	Label, PIN string
	PINFile    string // holds the PIN, mode 0600
	Conf       string // for SOFTHSM2_CONF

	t   testing.TB
	dir string // of the store
}

// Start makes a store with a token in it that has no key.
func Start(t testing.TB) *Token {
	t.Helper()
	if _, err := os.Stat(Module); err != nil {
		testserver.Missing(t, Module, "run: apt-get install softhsm2")
	}
	for program, pack := range map[string]string{"softhsm2-util": "softhsm2", "pkcs11-tool": "opensc"} {
		if _, err := exec.LookPath(program); err != nil {
			testserver.Missing(t, program, "run: apt-get install "+pack)
		}
	}
	dir := t.TempDir()
	k := &Token{
		Label: "k8s", PIN: "correct-horse", PINFile: filepath.Join(dir, "pin"), Conf: filepath.Join(dir, "softhsm2.conf"),
		t: t, dir: filepath.Join(dir, "tokens"),
	}
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k.WritePIN(k.PIN)
	if err := os.WriteFile(k.Conf, []byte("directories.tokendir = "+k.dir+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.AddToken()
	return k
}

// AddToken makes another token with the same label and PIN in the store. The other methods are for stores with one.
func (k *Token) AddToken() {
	k.t.Helper()
	k.run("softhsm2-util", "--init-token", "--free", "--label", k.Label, "--pin", k.PIN, "--so-pin", "battery-staple")
}

// Env returns what a program needs in its environment to use the token.
func (k *Token) Env() []string { return []string{"SOFTHSM2_CONF=" + k.Conf} }

// WritePIN replaces the content of PINFile at once, as an agent does.
func (k *Token) WritePIN(pin string) {
	k.t.Helper()
	if err := os.WriteFile(k.PINFile+".new", []byte(pin+"\n"), 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Rename(k.PINFile+".new", k.PINFile); err != nil {
		k.t.Fatal(err)
	}
}

// GenerateAES makes an AES-256 key that does not leave the token. Rotating is to make one whose label comes after the others.
func (k *Token) GenerateAES(label string) {
	k.t.Helper()
	k.Tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", id(label), "--private", "--sensitive")
}

// GenerateRSA makes a pair of RSA keys with 2048 bits.
func (k *Token) GenerateRSA(label string) {
	k.t.Helper()
	k.Tool("--keypairgen", "--key-type", "RSA:2048", "--label", label, "--id", id(label), "--private", "--sensitive")
}

// Delete removes the objects with this label of a type: secrkey, privkey or pubkey.
func (k *Token) Delete(label string, types ...string) {
	k.t.Helper()
	for _, t := range types {
		k.Tool("--delete-object", "--type", t, "--label", label)
	}
}

// TakeAway removes the token from its store while programs may use it, and returns what puts it back.
func (k *Token) TakeAway() (back func()) {
	k.t.Helper()
	tokens, err := os.ReadDir(k.dir)
	if err != nil || len(tokens) != 1 {
		k.t.Fatalf("the store has %d tokens, error %v", len(tokens), err)
	}
	here, away := filepath.Join(k.dir, tokens[0].Name()), k.dir+"-away"
	if err := os.Rename(here, away); err != nil {
		k.t.Fatal(err)
	}
	return func() {
		if err := os.Rename(away, here); err != nil {
			k.t.Fatal(err)
		}
	}
}

// Tool runs pkcs11-tool, logged in.
func (k *Token) Tool(args ...string) {
	k.t.Helper()
	k.run("pkcs11-tool", append([]string{"--module", Module, "--token-label", k.Label, "--login", "--pin", k.PIN}, args...)...)
}

// TryPIN logs in from another process, with a PIN that is wrong.
func (k *Token) TryPIN(wrong string) {
	k.t.Helper()
	_, err := k.command("pkcs11-tool", "--module", Module, "--token-label", k.Label, "--login", "--pin", wrong, "-O")
	if err == nil {
		k.t.Fatalf("the PIN %q is right", wrong)
	}
}

func (k *Token) run(program string, args ...string) {
	k.t.Helper()
	if out, err := k.command(program, args...); err != nil {
		k.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

func (k *Token) command(program string, args ...string) (output []byte, err error) {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), k.Env()...)
	return cmd.CombinedOutput()
}

// id returns the CKA_ID of a label: the label itself, in hexadecimal.
func id(label string) string { return fmt.Sprintf("%x", label) }
