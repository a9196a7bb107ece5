package setup_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/encconfig"
	"github.com/trousseau-io/trousseau/internal/setup"
)

func options(dir string) setup.Options {
	return setup.Options{Dir: dir, Cluster: "lab", Socket: "/run/trousseau/kms.sock", Observe: "off", Local: new(setup.Local)}
}

// TestWritten reads what was written with those who will read it.
func TestWritten(t *testing.T) {
	const roleID = "yes: # \"role\""
	for name, change := range map[string]func(*setup.Options){
		"local":    func(*setup.Options) {},
		"unsealed": func(o *setup.Options) { o.Local.Unsealed = true },
		"vault": func(o *setup.Options) {
			o.Local, o.Services = nil, []setup.Service{{Name: "vault", Settings: []setup.Setting{
				{"addresses", "https://[::1]:8200"}, {"addresses", "http://b:8200"}, {"allowPlainHTTP", "true"}, {"key", "007"},
				{"auth.approle.roleID", roleID}, {"auth.approle.secretIDFile", "/etc/trousseau/secret id"},
			}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(filepath.Join(t.TempDir(), "a: #directory"))
			change(&o)
			r, err := setup.Write(o)
			if err != nil {
				t.Fatal(err)
			}
			d, err := config.Load(r.Config)
			if err != nil {
				t.Fatal(err)
			}
			if d.Cluster.Name != "lab" || d.Cluster.Lineage.String() != r.Lineage || d.Socket.Path != o.Socket || d.Observe.Listen != "off" {
				t.Errorf("got %+v", d)
			}
			if v := d.Keys[0].Vault; v != nil && (v.Auth.AppRole.RoleID != roleID || len(v.Addresses) != 2 || v.Key != "007") {
				t.Errorf("got %+v", v)
			}
			if _, err := encconfig.Load(r.EncryptionConfig); err != nil {
				t.Error(err)
			}
			for _, path := range []string{r.Config, r.EncryptionConfig, r.Keystore, r.KeystoreKey} {
				if info, err := os.Stat(path); path != "" && (err != nil || info.Mode().Perm() != 0o600) {
					t.Errorf("%s: %v, %v", path, info, err)
				}
			}
		})
	}
}

// TestSeveralKeys wants the keys, the policy over them and a directory for state.
func TestSeveralKeys(t *testing.T) {
	transit := func(key string) setup.Service {
		return setup.Service{Name: "vault", Settings: []setup.Setting{{"addresses", "https://a:8200"}, {"key", key}, {"auth.tokenFile", "/token"}}}
	}
	for name, test := range map[string]struct {
		services []setup.Service
		need     int
		want     config.Policy
	}{
		"beside local":               {[]setup.Service{transit("a")}, 0, config.Policy{Keys: []string{"vault", "disk"}, Need: 2, Write: config.Write{AtLeast: 2}}},
		"two in one service, 2 of 3": {[]setup.Service{transit("a"), transit("b")}, 2, config.Policy{Keys: []string{"vault", "vault-2", "disk"}, Need: 2, Write: config.Write{AtLeast: 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(filepath.Join(t.TempDir(), "a: #directory"))
			o.Services, o.Need = test.services, test.need
			r, err := setup.Write(o)
			if err != nil {
				t.Fatal(err)
			}
			d, err := config.Load(r.Config)
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Policies) != 1 || !reflect.DeepEqual(d.Policies[0], test.want) || d.StateDir != o.Dir || r.StateDir != o.Dir {
				t.Errorf("got %+v with state in %s", d.Policies, d.StateDir)
			}
		})
	}
	for dir, want := range map[string]string{"/etc": "/var/lib/trousseau", "/etc/trousseau": "/var/lib/trousseau", "/etcetera": "/etcetera"} {
		if got := setup.StateDir(dir); got != want {
			t.Errorf("for %s: %s", dir, got)
		}
	}
}

// TestAskedForEverything answers every question about every key service, with the last of the choices and with the first, and
// wants a configuration that the daemon takes.
func TestAskedForEverything(t *testing.T) {
	answers := map[string]string{
		"keyARN": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "vault": "contoso", "managedHSM": "contoso",
		"addresses": "https://a:8200", "recipients": "age1tkxva7ddqe8499td0r5lt0acma4wusqtpwdytlcg7rlzwc5mkcwsakf59g",
		"id": "0a0b", "mechanism": "aes-gcm", "username": "node", "role": "node", "roleID": "role", "serial": "0123", "clientID": "5f6e9c0a-4c1d-4b7e-9a53-0d8f2b7c6e41",
		"tenantID": "5f6e9c0a-4c1d-4b7e-9a53-0d8f2b7c6e41",
	}
	for _, service := range setup.Services() {
		for name, choose := range map[string]func([]string) string{
			"first": func(fields []string) string { return fields[0] },
			"last":  func(fields []string) string { return fields[len(fields)-1] },
		} {
			t.Run(service+"/"+name, func(t *testing.T) {
				o := options(filepath.Join(t.TempDir(), "d"))
				settings := setup.Ask(service, setup.Questions{
					Choose: func(_ string, fields []string) string { return choose(fields) },
					Text: func(field string) string {
						last := field[strings.LastIndexByte(field, '.')+1:]
						switch {
						case service == "kmip" && last == "addresses":
							return "kmip:5696"
						case service == "gcpkms" && last == "key":
							return "projects/p/locations/l/keyRings/r/cryptoKeys/k"
						case answers[last] != "":
							return answers[last]
						case strings.HasSuffix(last, "File"), slices.Contains([]string{"socket", "keystore", "sealedKey", "module"}, last):
							return "/etc/trousseau/" + last
						}
						return "k8s"
					},
				})
				o.Local, o.Services = nil, []setup.Service{{Name: service, Settings: settings}}
				_, err := setup.Write(o)
				if service == "escrow" {
					if err == nil || !strings.Contains(err.Error(), "only wraps") {
						t.Errorf("a key that only wraps, alone: %v", err)
					}
					return
				}
				if err != nil {
					t.Errorf("%v\nof %+v", err, settings)
				}
			})
		}
	}
}

// TestEachClusterHasItsOwnLineage would fail with a generator that is not random.
func TestEachClusterHasItsOwnLineage(t *testing.T) {
	dir := t.TempDir()
	a, errA := setup.Write(options(filepath.Join(dir, "a")))
	b, errB := setup.Write(options(filepath.Join(dir, "b")))
	if errA != nil || errB != nil || a.Lineage == b.Lineage || len(a.Lineage) != 32 {
		t.Errorf("%q %v, %q %v", a.Lineage, errA, b.Lineage, errB)
	}
}

// TestAllOrNothing makes each step fail and wants the directory as it was.
func TestAllOrNothing(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(dir string) error
		change  func(*setup.Options)
		exists  bool
	}{
		"a file is in the way": {prepare: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, setup.EncryptionName), nil, 0o600)
		}, exists: true},
		"a dangling link is in the way": {prepare: func(dir string) error {
			return os.Symlink("nowhere", filepath.Join(dir, setup.ConfigName))
		}, exists: true},
		"no secret": {change: func(o *setup.Options) { o.Local.KeyFile = "/nowhere/secret" }},
		"no such field": {change: func(o *setup.Options) {
			o.Local, o.Services = nil, []setup.Service{{Name: "vault", Settings: []setup.Setting{{"adresses.x.y", "a"}}}}
		}},
		"no such service": {change: func(o *setup.Options) { o.Local, o.Services = nil, []setup.Service{{Name: "vaults"}} }},
		"too many needed": {change: func(o *setup.Options) { o.Need = 2 }},
		"bad name":        {change: func(o *setup.Options) { o.Cluster = "Lab" }},
		"bad resource":    {change: func(o *setup.Options) { o.Resources = []string{"Secrets"} }},
		"bad credential":  {change: func(o *setup.Options) { o.Local.PassphraseFile = credential.File("relative") }},
		"no parent":       {change: func(o *setup.Options) { o.Dir = filepath.Join(o.Dir, "no", "such") }},
		"a bad directory": {change: func(o *setup.Options) { o.Dir = "/dev/null" }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := options(dir)
			if test.prepare != nil {
				if err := test.prepare(dir); err != nil {
					t.Fatal(err)
				}
			}
			if test.change != nil {
				test.change(&o)
			}
			before := names(t, dir)
			if _, err := setup.Write(o); err == nil || errors.Is(err, setup.ErrExist) != test.exists {
				t.Errorf("got %v", err)
			}
			if after := names(t, dir); len(after) != len(before) {
				t.Errorf("left %v", after)
			}
		})
	}
}

func names(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}
