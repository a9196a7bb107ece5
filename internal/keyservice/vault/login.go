package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// method is one way to get a token. Only the session's goroutine logs in; fingerprints are read by others too.
type method interface {
	name() string
	// logIn reads the credential and returns a token for it: held, if nothing new can be had.
	logIn(ctx context.Context, at *servers, held *token) (*token, error)
	// fingerprint changes with the content of the credential's files.
	fingerprint() (credential.Fingerprint, error)
}

// tokenLogin takes a token that somebody else cares for.
type tokenLogin struct{ file credential.File }

func (l tokenLogin) name() string                                 { return "tokenFile" }
func (l tokenLogin) fingerprint() (credential.Fingerprint, error) { return l.file.Fingerprint() }

// logIn does not ask whether the token is good: the next call will tell. It asks how long it lives, and can do without an
// answer, because a policy need not allow the question.
func (l tokenLogin) logIn(ctx context.Context, at *servers, held *token) (*token, error) {
	const op = "logging in to vault with a token"
	secret, err := readCredential(op, l.file)
	if err != nil {
		return nil, err
	}
	if held != nil && held.secret.Equal(secret) {
		secret.Wipe()
		return held, nil
	}
	t := newToken(secret, false)
	got, err := lookUp(ctx, op, at, t)
	switch {
	case err == nil:
		t.lives(time.Duration(got.TTL)*time.Second, got.Renewable)
	case keyservice.KindOf(err).Outage():
		return nil, err
	}
	return t, nil
}

// tokenFacts is what a server tells of a token to who holds it.
type tokenFacts struct {
	TTL            int64    `json:"ttl"` // seconds; 0 is for ever
	Renewable      bool     `json:"renewable"`
	Policies       []string `json:"policies"`
	NumUses        int      `json:"num_uses"`         // 0 is without bound
	Period         int64    `json:"period"`           // seconds
	ExplicitMaxTTL int64    `json:"explicit_max_ttl"` // seconds
}

func lookUp(ctx context.Context, op string, at *servers, t *token) (tokenFacts, error) {
	var facts tokenFacts
	got, err := at.do(ctx, op, request{method: "GET", path: "auth/token/lookup-self"}.with(t))
	if err != nil {
		return facts, err
	}
	return facts, got.decode(op, &facts)
}

// approleLogin logs in with a role id and a secret id. A wrapped secret id can be unwrapped once, so it is kept.
type approleLogin struct {
	AppRole
	unwrapped credential.Secret
	from      credential.Fingerprint // of the wrapping token that unwrapped came from
}

func (l *approleLogin) name() string { return "approle" }
func (l *approleLogin) fingerprint() (credential.Fingerprint, error) {
	return l.SecretIDFile.Fingerprint()
}

func (l *approleLogin) logIn(ctx context.Context, at *servers, _ *token) (*token, error) {
	const op = "logging in to vault with approle"
	secret, err := readCredential(op, l.SecretIDFile)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	if l.SecretIDWrapped {
		if secret, err = l.unwrap(ctx, op, at, secret); err != nil {
			return nil, err
		}
	}
	id := string(secret.Bytes())
	return logIn(ctx, op, at, "auth/"+l.Mount+"/login", []string{id},
		map[string]string{"role_id": l.RoleID, "secret_id": id})
}

// unwrap returns a copy of the secret id behind a wrapping token, which the caller wipes.
func (l *approleLogin) unwrap(ctx context.Context, op string, at *servers, wrapping credential.Secret) (credential.Secret, error) {
	from := wrapping.Fingerprint()
	if l.unwrapped.Bytes() != nil && from == l.from {
		return credential.NewSecret(l.unwrapped.Bytes()), nil
	}
	if err := l.checkOrigin(ctx, op, at, wrapping); err != nil {
		return credential.Secret{}, err
	}
	r := request{method: "POST", path: "sys/wrapping/unwrap", token: string(wrapping.Bytes()), login: true}
	got, err := at.do(ctx, op, r)
	if err != nil {
		return credential.Secret{}, err
	}
	var data struct {
		SecretID string `json:"secret_id"`
	}
	if err := got.decode(op, &data); err != nil {
		return credential.Secret{}, err
	}
	if data.SecretID == "" {
		return credential.Secret{}, damagedAnswer(op, errors.New("there is no secret id in the wrapping"))
	}
	l.unwrapped.Wipe()
	l.unwrapped, l.from = credential.NewSecret([]byte(data.SecretID)), from
	return credential.NewSecret([]byte(data.SecretID)), nil
}

// checkOrigin refuses a wrapping token that wraps something else than a secret id of this mount: whoever can replace the
// file could otherwise have made the wrapping himself.
func (l *approleLogin) checkOrigin(ctx context.Context, op string, at *servers, wrapping credential.Secret) error {
	token := string(wrapping.Bytes())
	r := request{
		method: "POST", path: "sys/wrapping/lookup", login: true, secrets: []string{token},
		body: map[string]string{"token": token},
	}
	got, err := at.do(ctx, op, r)
	if err != nil {
		return err
	}
	var data struct {
		CreationPath string `json:"creation_path"`
	}
	if err := got.decode(op, &data); err != nil {
		return err
	}
	path := data.CreationPath
	if !strings.HasPrefix(path, "auth/"+l.Mount+"/role/") || !strings.HasSuffix(path, "/secret-id") {
		return &keyservice.Error{
			Kind: keyservice.Denied, Op: op, Err: fmt.Errorf("the wrapping token was made at %.80q and wraps no secret id", path),
			Hint: "find out who put it there, then deliver one from auth/" + l.Mount + "/role/NAME/secret-id",
		}
	}
	return nil
}

type jwtLogin struct{ JWT }

func (l jwtLogin) name() string                                 { return "jwt" }
func (l jwtLogin) fingerprint() (credential.Fingerprint, error) { return l.JWTFile.Fingerprint() }

func (l jwtLogin) logIn(ctx context.Context, at *servers, _ *token) (*token, error) {
	return logInWithJWT(ctx, "logging in to vault with jwt", at, l.Mount, l.Role, l.JWTFile)
}

type kubernetesLogin struct{ Kubernetes }

func (l kubernetesLogin) name() string { return "kubernetes" }
func (l kubernetesLogin) fingerprint() (credential.Fingerprint, error) {
	return l.TokenFile.Fingerprint()
}

func (l kubernetesLogin) logIn(ctx context.Context, at *servers, _ *token) (*token, error) {
	return logInWithJWT(ctx, "logging in to vault with kubernetes", at, l.Mount, l.Role, l.TokenFile)
}

func logInWithJWT(ctx context.Context, op string, at *servers, mount, role string, file credential.File) (*token, error) {
	secret, err := readCredential(op, file)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	jwt := string(secret.Bytes())
	return logIn(ctx, op, at, "auth/"+mount+"/login", []string{jwt}, map[string]string{"role": role, "jwt": jwt})
}

// certLogin shows the certificate while it connects; see transport.
type certLogin struct{ Cert }

func (l certLogin) name() string                                 { return "cert" }
func (l certLogin) fingerprint() (credential.Fingerprint, error) { return l.KeyFile.Fingerprint() }

func (l certLogin) logIn(ctx context.Context, at *servers, _ *token) (*token, error) {
	return logIn(ctx, "logging in to vault with a certificate", at, "auth/"+l.Mount+"/login", nil,
		map[string]string{"name": l.Role})
}

type userpassLogin struct{ Userpass }

func (l userpassLogin) name() string { return "userpass" }
func (l userpassLogin) fingerprint() (credential.Fingerprint, error) {
	return l.PasswordFile.Fingerprint()
}

func (l userpassLogin) logIn(ctx context.Context, at *servers, _ *token) (*token, error) {
	const op = "logging in to vault with userpass"
	secret, err := readCredential(op, l.PasswordFile)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	password := string(secret.Bytes())
	return logIn(ctx, op, at, "auth/"+l.Mount+"/login/"+l.Username, []string{password},
		map[string]string{"password": password})
}

// logIn sends a credential and takes the token of the answer.
func logIn(ctx context.Context, op string, at *servers, path string, secrets []string, body map[string]string) (*token, error) {
	got, err := at.do(ctx, op, request{method: "POST", path: path, body: body, login: true, secrets: secrets})
	if err != nil {
		return nil, err
	}
	granted, err := got.decodeLogin(op)
	if err != nil {
		return nil, err
	}
	t := newToken(credential.NewSecret([]byte(granted.Auth.ClientToken)), true)
	t.lives(time.Duration(granted.Auth.LeaseDuration)*time.Second, granted.Auth.Renewable)
	return t, nil
}

func readCredential(op string, file credential.File) (credential.Secret, error) {
	secret, err := file.Read()
	if err != nil {
		return secret, &keyservice.Error{
			Kind: keyservice.Denied, Op: op, Err: err, Hint: "put the credential into the file, readable by this process alone",
		}
	}
	return secret, nil
}
