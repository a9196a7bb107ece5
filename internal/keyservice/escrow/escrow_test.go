package escrow_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"log/slog"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/escrow"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

var (
	quiet      = slog.New(slog.DiscardHandler)
	share, aad = []byte(keyservicetest.Secret), []byte(keyservicetest.AAD)
)

// pair is a recipient with its identity file.
type pair struct{ recipient, identity string }

func x25519(t *testing.T) pair {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return pair{identity.Recipient().String(), identity.String()}
}

func hybrid(t *testing.T) pair {
	t.Helper()
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return pair{identity.Recipient().String(), identity.String()}
}

func sshPair(t *testing.T, key crypto.Signer) pair {
	t.Helper()
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	private, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return pair{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), string(pem.EncodeToMemory(private))}
}

func sshEd25519(t *testing.T) pair {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sshPair(t, key)
}

func sshRSA(t *testing.T, bits int) pair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return sshPair(t, key)
}

func open(t *testing.T, recipients ...string) *escrow.Key {
	t.Helper()
	return keyservicetest.Open(t, escrow.Open, escrow.Config{Recipients: recipients}, nil)
}

func identities(t *testing.T, file string) *escrow.Identities {
	t.Helper()
	i, err := escrow.ParseIdentities([]byte(file), func(text string) { t.Error("a plugin says", text) })
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// opening is an escrow key together with an identity: what the suite asks for, and no daemon has.
type opening struct {
	*escrow.Key
	identities *escrow.Identities
}

func (o opening) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	if _, err := o.Key.Unwrap(ctx, wrapped, aad); keyservice.KindOf(err) != keyservice.Invalid {
		return nil, err // closed, or the context has ended
	}
	newest, _, err := o.Versions(ctx)
	if err != nil {
		return nil, err
	}
	if wrapped.Version != newest.ID {
		return nil, &keyservice.Error{Kind: keyservice.NotFound, Op: "looking for the version"}
	}
	return o.identities.Unwrap(wrapped, aad)
}

func TestConformance(t *testing.T) {
	forms := escrow.Describe().Forms
	for i, p := range []pair{x25519(t), hybrid(t), sshEd25519(t), sshRSA(t, 3072)} {
		t.Run(forms[i].Algorithm, func(t *testing.T) {
			keyservicetest.Run(t, func(*testing.T) keyservicetest.Harness {
				return keyservicetest.Harness{
					Open: func(t *testing.T, log *slog.Logger) keyservice.Key {
						key := keyservicetest.Open(t, escrow.Open, escrow.Config{Recipients: []string{p.recipient}}, log)
						return opening{key, identities(t, p.identity)}
					},
					Form:    forms[i],
					Secrets: []string{p.identity},
				}
			})
		})
	}
}

func TestNothingOpensHere(t *testing.T) {
	key := open(t, x25519(t).recipient)
	_, err := key.Unwrap(t.Context(), keyservicetest.Wrap(t, key, ""), aad)
	keyservicetest.CheckKind(t, "unwrapping", err, keyservice.Invalid, "only wraps here")
}

func TestEachRecipientOpens(t *testing.T) {
	pairs := []pair{x25519(t), sshEd25519(t), sshRSA(t, 2048), x25519(t)}
	var recipients, files []string
	for _, p := range pairs {
		recipients = append(recipients, p.recipient)
	}
	for _, i := range []int{0, 3} {
		files = append(files, pairs[i].identity)
	}
	wrapped := keyservicetest.Wrap(t, open(t, recipients...), "")
	for _, file := range []string{
		pairs[0].identity, pairs[1].identity, pairs[2].identity, pairs[3].identity,
		"# made by hand\r\n\r\n" + x25519(t).identity + "\n  " + strings.Join(files, "\n"),
	} {
		got, err := identities(t, file).Unwrap(wrapped, aad)
		if err != nil || !bytes.Equal(got, share) {
			t.Errorf("identity %d: %v, equal %t", len(file), err, bytes.Equal(got, share))
		}
	}
	for _, stranger := range []pair{x25519(t), hybrid(t), sshEd25519(t), sshRSA(t, 2048)} {
		_, err := identities(t, stranger.identity).Unwrap(wrapped, aad)
		keyservicetest.CheckKind(t, "a stranger", err, keyservice.Corrupt, "do not open")
	}
}

func TestVersionIsTheSetOfRecipients(t *testing.T) {
	a, b, s := x25519(t).recipient, x25519(t).recipient, sshEd25519(t).recipient
	id := func(recipients ...string) keyservice.VersionID {
		newest, previous, err := open(t, recipients...).Versions(t.Context())
		if err != nil || newest.State != keyservice.StateEnabled || !newest.Created.IsZero() || previous.ID != "" {
			t.Fatalf("newest %v, previous %v, %v", newest, previous, err)
		}
		return newest.ID
	}
	if id(a, b, s) != id(s+" operator@example.com", b, a) {
		t.Error("the order of the recipients, or a comment, makes another version")
	}
	for _, other := range []keyservice.VersionID{id(a), id(b), id(a, b), id(a, b, s, x25519(t).recipient)} {
		if other == id(a, b, s) {
			t.Error("other recipients are the same version")
		}
	}
	const vector = "age1tkxva7ddqe8499td0r5lt0acma4wusqtpwdytlcg7rlzwc5mkcwsakf59g"
	if got := id(vector); got != "gFPOEVsfUliz1Y4hcxTEjQ" {
		t.Errorf("the version of %s is %q", vector, got)
	}
}

// What an age file with another content means is for nobody to guess.
func TestContentThatNoKeyWrote(t *testing.T) {
	p := x25519(t)
	recipient, err := age.ParseX25519Recipient(p.recipient)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 15, 16, 77, 1 << 20} {
		var file bytes.Buffer
		w, err := age.Encrypt(&file, recipient)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, n))
		w.Close()
		_, err = identities(t, p.identity).Unwrap(keyservice.Wrapped{Bytes: file.Bytes()}, nil)
		keyservicetest.CheckKind(t, "another content", err, keyservice.Corrupt, "do not open")
	}
}

func TestIdentitiesThatCannotBeUsed(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	good := x25519(t).identity
	for name, c := range map[string]struct{ file, text string }{
		"empty":                  {"", "no identity"},
		"comments only":          {"# nothing\n\n", "no identity"},
		"a recipient":            {"# x\n" + x25519(t).recipient, "line 2 is no identity"},
		"cut":                    {good + "\n" + good[:len(good)-1], "line 2 is no identity"},
		"plugin identity cut":    {"AGE-PLUGIN-X-1QQ", "line 1 is no identity"},
		"encrypted":              {"age-encryption.org/v1\n-> scrypt ", "encrypted itself"},
		"encrypted and armoured": {"-----BEGIN AGE ENCRYPTED FILE-----\n", "encrypted itself"},
		"SSH with a passphrase":  {string(pem.EncodeToMemory(locked)), "has a passphrase"},
		"a certificate":          {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no SSH key"},
	} {
		_, err := escrow.ParseIdentities([]byte(c.file), func(string) {})
		keyservicetest.CheckKind(t, name, err, keyservice.Invalid, c.text)
		if err != nil && strings.Contains(err.Error(), good[20:40]) {
			t.Errorf("%s: the error holds an identity", name)
		}
	}
}
