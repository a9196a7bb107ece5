package credential_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/credential"
)

func write(t *testing.T, content string, mode os.FileMode) credential.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return credential.File(path)
}

func TestReadTrimsOneNewline(t *testing.T) {
	for content, want := range map[string]string{
		"s3cret":                                "s3cret",
		"s3cret\n":                              "s3cret",
		"s3cret\r\n":                            "s3cret",
		"s3cret\n\n":                            "s3cret\n",
		"s3cret\r":                              "s3cret\r",
		" s3 \x00 cret ":                        " s3 \x00 cret ",
		strings.Repeat("x", credential.MaxSize): strings.Repeat("x", credential.MaxSize),
	} {
		secret, err := write(t, content, 0o600).Read()
		if err != nil {
			t.Fatalf("%.20q: %v", content, err)
		}
		if got := string(secret.Bytes()); got != want {
			t.Errorf("%.20q: read %.20q, want %.20q", content, got, want)
		}
	}
}

func TestReadRefusesContent(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"empty":        {"", "is empty"},
		"newline only": {"\n", "is empty"},
		"too large":    {strings.Repeat("x", credential.MaxSize+1), "more than 65536 bytes"},
	} {
		_, err := write(t, c.content, 0o600).Read()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestReadChecksPermissions(t *testing.T) {
	for mode, ok := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o640: true, 0o440: true, 0o700: true,
		0o604: false, 0o602: false, 0o620: false, 0o660: false, 0o644: false, 0o666: false,
	} {
		file := write(t, "s3cret", mode)
		_, err := file.Read()
		if ok != (err == nil) {
			t.Errorf("mode %#o: error %v", mode, err)
		}
		if err != nil && !strings.Contains(err.Error(), "chmod 0600 "+string(file)) {
			t.Errorf("mode %#o: error without its fix: %v", mode, err)
		}
	}
}

func TestReadFollowsLinks(t *testing.T) {
	file := write(t, "s3cret", 0o600)
	link := filepath.Join(t.TempDir(), "..data")
	if err := os.Symlink(string(file), link); err != nil {
		t.Fatal(err)
	}
	if _, err := credential.File(link).Read(); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(string(file), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := credential.File(link).Read(); err == nil {
		t.Error("a link hides that others can read its target")
	}
}

func TestReadSystemdCredential(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("s3cret\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := credential.File("systemd:token").Read(); err == nil || !strings.Contains(err.Error(), "LoadCredential=token:") {
		t.Errorf("without systemd: error %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	secret, err := credential.File("systemd:token").Read()
	if err != nil || string(secret.Bytes()) != "s3cret" {
		t.Errorf("read %q, error %v", secret.Bytes(), err)
	}
	if _, err := credential.File("systemd:other").Read(); err == nil || !strings.Contains(err.Error(), "LoadCredential=other:") {
		t.Errorf("missing credential: error %v", err)
	}
}

func TestValidate(t *testing.T) {
	for file, ok := range map[credential.File]bool{
		"/etc/trousseau/passphrase": true, "systemd:token": true, "systemd:token.v2": true,
		"": false, "passphrase": false, "./passphrase": false, "/etc/a\x00b": false,
		"systemd:": false, "systemd:.": false, "systemd:..": false, "systemd:../etc/shadow": false, "systemd:a/b": false,
		"systemd:a:b": false, "systemd:a\nb": false, "env:TOKEN": false,
	} {
		if err := file.Validate(); ok != (err == nil) {
			t.Errorf("%q: error %v", file, err)
		}
		if !ok {
			if _, err := file.Read(); err == nil {
				t.Errorf("%q: read although it is invalid", file)
			}
		}
	}
}
