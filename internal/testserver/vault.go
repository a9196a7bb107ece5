package testserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"
)

// Vault is a running HashiCorp Vault, initialised and unsealed, with nothing mounted. It keeps its address and its keys
// when it is stopped and started again, and is unsealed by each start.
type Vault struct {
	*Process
	Address   string // URL
	RootToken string
	UnsealKey string // what sys/unseal takes
	CA        *CA    // issuer of the server's certificate; nil for plain HTTP
}

// VaultOption changes how StartVault sets a server up.
type VaultOption func(*vaultSetup)

type vaultSetup struct {
	tls bool
}

// WithTLS serves HTTPS under a CA of the server's own, which also vouches for the certificates of its clients.
func WithTLS() VaultOption { return func(s *vaultSetup) { s.tls = true } }

// StartVault starts a Vault on a free port of 127.0.0.1 with storage of its own.
func StartVault(t testing.TB, options ...VaultOption) *Vault {
	t.Helper()
	path := Binary(t, "vault-lab", "run: lab/servers/build.sh vault")
	var setup vaultSetup
	for _, option := range options {
		option(&setup)
	}
	listen, storage := FreeAddress(t), t.TempDir()
	v := &Vault{Address: "http://" + listen}
	args := []string{"-listen", listen, "-storage", storage}
	if setup.tls {
		v.Address = "https://" + listen
		v.CA = NewCA(t)
		cert, key := v.CA.Issue(t, "vault")
		args = append(args, "-tls-cert", cert, "-tls-key", key, "-tls-client-ca", v.CA.File)
	}
	v.Process = Start(t, Command{Name: "vault", Path: path, Args: args, Ready: v.healthy})
	v.readKeys(filepath.Join(storage, "init.json"))
	return v
}

// healthy asks for what Vault answers without a token: that it is initialised, unsealed and active.
func (v *Vault) healthy(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.Address+"/v1/sys/health", nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if v.CA != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: v.CA.Pool()}
	}
	client := http.Client{Transport: transport, Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("vault's health is %s", response.Status)
	}
	return nil
}

func (v *Vault) readKeys(path string) {
	v.t.Helper()
	stored, err := os.ReadFile(path)
	if err != nil {
		v.t.Fatalf("reading vault's keys: %v", err)
	}
	var keys struct {
		RootToken string `json:"root_token"`
		UnsealKey string `json:"unseal_key"`
	}
	if err := json.Unmarshal(stored, &keys); err != nil {
		v.t.Fatalf("reading vault's keys: %v", err)
	}
	v.RootToken, v.UnsealKey = keys.RootToken, keys.UnsealKey
}

// Client returns a new client that holds the root token. It does not retry, so that a test sees the first answer.
func (v *Vault) Client() *api.Client {
	v.t.Helper()
	config := api.DefaultConfig()
	if config.Error != nil {
		v.t.Fatalf("making a vault client: %v", config.Error)
	}
	config.Address, config.MaxRetries = v.Address, 0
	if v.CA != nil {
		if err := config.ConfigureTLS(&api.TLSConfig{CACert: v.CA.File}); err != nil {
			v.t.Fatalf("making a vault client: %v", err)
		}
	}
	client, err := api.NewClient(config)
	if err != nil {
		v.t.Fatalf("making a vault client: %v", err)
	}
	client.SetToken(v.RootToken)
	return client
}

// MountTransit mounts a transit engine at mount.
func (v *Vault) MountTransit(mount string) {
	v.t.Helper()
	if err := v.Client().Sys().MountWithContext(v.t.Context(), mount, &api.MountInput{Type: "transit"}); err != nil {
		v.t.Fatalf("mounting transit at %q: %v", mount, err)
	}
}

// CreateKey creates a transit key; params are those of the API, nil for Vault's defaults.
func (v *Vault) CreateKey(mount, key string, params map[string]any) {
	v.t.Helper()
	v.Write(mount+"/keys/"+key, params)
}

// Write writes to a path with the root token and returns the data of the answer, which may be nil.
func (v *Vault) Write(path string, data map[string]any) map[string]any {
	v.t.Helper()
	secret, err := v.Client().Logical().WriteWithContext(v.t.Context(), path, data)
	if err != nil {
		v.t.Fatalf("writing vault's %q: %v", path, err)
	}
	if secret == nil {
		return nil
	}
	return secret.Data
}

// Seal seals the server: it goes on answering and refuses everything.
func (v *Vault) Seal() {
	v.t.Helper()
	if err := v.Client().Sys().SealWithContext(v.t.Context()); err != nil {
		v.t.Fatalf("sealing vault: %v", err)
	}
}

// Unseal undoes Seal.
func (v *Vault) Unseal() {
	v.t.Helper()
	status, err := v.Client().Sys().UnsealWithContext(v.t.Context(), v.UnsealKey)
	if err != nil {
		v.t.Fatalf("unsealing vault: %v", err)
	}
	if status.Sealed {
		v.t.Fatal("unsealing vault: it is still sealed")
	}
}
