package vault_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

func enable(t testing.TB, v *testserver.Vault, kind string) {
	t.Helper()
	if err := v.Client().Sys().EnableAuthWithOptions(kind, &api.EnableAuthOptions{Type: kind}); err != nil {
		t.Fatal(err)
	}
}

// TestAuthMethods logs in with each method to a server behind TLS, and then with a credential that is wrong.
func TestAuthMethods(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t, testserver.WithTLS())
	e := newEngine(t, v, "transit")
	signer := newSigner(t)
	methods := map[string]func(t *testing.T) (good vault.Auth, wrong vault.Auth){
		"tokenFile": func(t *testing.T) (vault.Auth, vault.Auth) {
			return vault.Auth{TokenFile: secretFile(t, e.token(t, nil))}, vault.Auth{TokenFile: secretFile(t, "hvs.wrong")}
		},
		"approle": func(t *testing.T) (vault.Auth, vault.Auth) {
			enable(t, v, "approle")
			good, _ := e.appRole(t, "node")
			wrong := *good.AppRole
			wrong.SecretIDFile = secretFile(t, "00000000-0000-0000-0000-000000000000")
			return good, vault.Auth{AppRole: &wrong}
		},
		"jwt": func(t *testing.T) (vault.Auth, vault.Auth) {
			enable(t, v, "jwt")
			v.Write("auth/jwt/config", map[string]any{"jwt_validation_pubkeys": signer.public(t)})
			v.Write("auth/jwt/role/node", map[string]any{
				"role_type": "jwt", "user_claim": "sub", "bound_audiences": "vault", "token_policies": []string{e.mount},
			})
			auth := func(ends time.Time) vault.Auth {
				jwt := signer.sign(t, map[string]any{
					"sub": "node-1", "aud": "vault", "nbf": ends.Add(-2 * time.Hour).Unix(), "exp": ends.Unix(),
				})
				return vault.Auth{JWT: &vault.JWT{Mount: "jwt", Role: "node", JWTFile: secretFile(t, jwt)}}
			}
			return auth(time.Now().Add(time.Hour)), auth(time.Now().Add(-time.Hour))
		},
		"kubernetes": func(t *testing.T) (vault.Auth, vault.Auth) {
			enable(t, v, "kubernetes")
			good := signer.sign(t, serviceAccount("kube-system", "trousseau"))
			wrong := signer.sign(t, serviceAccount("default", "somebody"))
			host, ca := newTokenReviewer(t, map[string]string{
				good: "system:serviceaccount:kube-system:trousseau", wrong: "system:serviceaccount:default:somebody",
			})
			v.Write("auth/kubernetes/config", map[string]any{
				"kubernetes_host": host, "kubernetes_ca_cert": ca, "disable_local_ca_jwt": true, "disable_iss_validation": true,
			})
			v.Write("auth/kubernetes/role/node", map[string]any{
				"bound_service_account_names": "trousseau", "bound_service_account_namespaces": "kube-system",
				"token_policies": []string{e.mount},
			})
			auth := func(jwt string) vault.Auth {
				return vault.Auth{Kubernetes: &vault.Kubernetes{Mount: "kubernetes", Role: "node", TokenFile: secretFile(t, jwt)}}
			}
			return auth(good), auth(wrong)
		},
		"cert": func(t *testing.T) (vault.Auth, vault.Auth) {
			enable(t, v, "cert")
			v.Write("auth/cert/certs/node", map[string]any{
				"certificate": v.CA.PEM(t), "allowed_common_names": "node-1", "token_policies": []string{e.mount},
			})
			auth := func(name string) vault.Auth {
				cert, key := v.CA.Issue(t, name)
				return vault.Auth{Cert: &vault.Cert{Mount: "cert", Role: "node", CertFile: cert, KeyFile: credential.File(key)}}
			}
			return auth("node-1"), auth("node-2")
		},
		"userpass": func(t *testing.T) (vault.Auth, vault.Auth) {
			enable(t, v, "userpass")
			v.Write("auth/userpass/users/node", map[string]any{"password": "right-one", "token_policies": []string{e.mount}})
			auth := func(password string) vault.Auth {
				return vault.Auth{Userpass: &vault.Userpass{
					Mount: "userpass", Username: "node", PasswordFile: secretFile(t, password),
				}}
			}
			return auth("right-one"), auth("wrong-one")
		},
	}
	for name, setup := range methods {
		t.Run(name, func(t *testing.T) {
			good, wrong := setup(t)
			keyservicetest.RoundTrip(t, open(t, e.config(good), nil))
			var lines keyservicetest.Log
			_, err := open(t, e.config(wrong), lines.Logger()).Wrap(t.Context(), "", secret, aad)
			keyservicetest.WantKind(t, err, keyservice.Denied, "")
			for _, leak := range []string{"wrong-one", "hvs.wrong", "00000000-0000", "eyJ"} {
				if strings.Contains(err.Error()+lines.String(), leak) {
					t.Errorf("the wrong credential is in the error or the log: %v", err)
				}
			}
		})
	}
}

// TestCertificateReplaced logs in with another certificate over another connection.
func TestCertificateReplaced(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t, testserver.WithTLS())
	e := newEngine(t, v, "transit")
	enable(t, v, "cert")
	v.Write("auth/cert/certs/node", map[string]any{
		"certificate": v.CA.PEM(t), "allowed_common_names": "node-2", "token_policies": []string{e.mount},
	})
	cert1, key1 := v.CA.Issue(t, "node-1")
	cert2, key2 := v.CA.Issue(t, "node-2")
	cert, key := secretFile(t, keyservicetest.ReadFile(t, cert1)), secretFile(t, keyservicetest.ReadFile(t, key1))
	k := open(t, e.config(vault.Auth{Cert: &vault.Cert{
		Mount: "cert", Role: "node", CertFile: string(cert), KeyFile: key,
	}}), nil)
	_, err := k.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "")
	keyservicetest.ReplaceFile(t, cert, keyservicetest.ReadFile(t, cert2))
	_, err = k.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "") // certificate and key are no pair yet
	keyservicetest.ReplaceFile(t, key, keyservicetest.ReadFile(t, key2))
	keyservicetest.RoundTrip(t, k)
}

func TestWrappedSecretID(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t)
	e := newEngine(t, v, "transit")
	enable(t, v, "approle")
	good, _ := e.appRole(t, "node")
	wrapping := func(path string, data map[string]any) string {
		client := v.Client()
		client.SetWrappingLookupFunc(func(string, string) string { return "5m" })
		answer, err := client.Logical().Write(path, data)
		if err != nil {
			t.Fatal(err)
		}
		return answer.WrapInfo.Token
	}
	role := *good.AppRole
	role.SecretIDWrapped = true
	role.SecretIDFile = secretFile(t, wrapping("auth/approle/role/node/secret-id", nil))
	config := e.config(vault.Auth{AppRole: &role})
	key := open(t, config, nil)
	keyservicetest.RoundTrip(t, key)

	// A second log in uses the secret id that was unwrapped at the first.
	e.revokeAll(t, "auth/approle/login")
	keyservicetest.RoundTrip(t, key)

	_, err := open(t, config, nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "wrapping token")
	if !strings.Contains(keyservice.HintOf(err), "new wrapping token") {
		t.Errorf("hint %q", keyservice.HintOf(err))
	}

	forged := wrapping("sys/wrapping/wrap", map[string]any{"secret_id": "forged"})
	role.SecretIDFile = secretFile(t, forged)
	_, err = open(t, e.config(vault.Auth{AppRole: &role}), nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "wraps no secret id")
}

// revokeAll revokes every token that was issued at a path.
func (e engine) revokeAll(t testing.TB, path string) {
	t.Helper()
	if _, err := e.Client().Logical().Write("sys/leases/revoke-prefix/"+path, map[string]any{"sync": true}); err != nil {
		t.Fatal(err)
	}
}

// signer issues JWTs.
type signer struct{ key *rsa.PrivateKey }

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key}
}

func (s signer) public(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (s signer) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(payload)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(signature)
}

func serviceAccount(namespace, name string) map[string]any {
	return map[string]any{
		"sub": "system:serviceaccount:" + namespace + ":" + name,
		"nbf": time.Now().Add(-time.Hour).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace": namespace, "serviceaccount": map[string]any{"name": name, "uid": name + "-uid"},
		},
	}
}

// newTokenReviewer is the one API of a Kubernetes API server that Vault calls: TokenReview.
func newTokenReviewer(t *testing.T, users map[string]string) (url, ca string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct {
				Token string `json:"token"`
			} `json:"spec"`
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		user, known := users[review.Spec.Token]
		_, name, _ := strings.Cut(strings.TrimPrefix(user, "system:serviceaccount:"), ":")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
			"status": map[string]any{"authenticated": known, "user": map[string]any{
				"username": user, "uid": name + "-uid", "groups": []string{"system:serviceaccounts"},
			}},
		})
	}))
	t.Cleanup(server.Close)
	return server.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}
