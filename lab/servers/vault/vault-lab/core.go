package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/audit"
	auditfile "github.com/hashicorp/vault/builtin/audit/file"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

// initResult is what Vault tells once, when its storage is new. A unseal key of one share opens it alone.
type initResult struct {
	RootToken string `json:"root_token"`
	UnsealKey string `json:"unseal_key"` // base64, as Vault's HTTP API takes it
}

// openCore returns an unsealed Vault over dir, which it initialises if it is new.
func openCore(ctx context.Context, dir string) (*vault.Core, initResult, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, initResult{}, fmt.Errorf("making the storage directory: %w", err)
	}
	logger := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Info, Output: os.Stderr})
	backend, err := file.NewFileBackend(map[string]string{"path": filepath.Join(dir, "data")}, logger)
	if err != nil {
		return nil, initResult{}, fmt.Errorf("opening the storage: %w", err)
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           backend,
		StorageType:        "file",
		Logger:             logger,
		DisableMlock:       true,
		AuditBackends:      map[string]audit.Factory{"file": auditfile.Factory},
		LogicalBackends:    logicalBackends(),
		CredentialBackends: credentialBackends(),
		BuiltinRegistry:    registry{},
	})
	if err != nil {
		return nil, initResult{}, fmt.Errorf("making the core: %w", err)
	}
	keys, err := initialise(ctx, core, filepath.Join(dir, "init.json"))
	if err != nil {
		return nil, initResult{}, err
	}
	share, err := base64.StdEncoding.DecodeString(keys.UnsealKey)
	if err != nil {
		return nil, initResult{}, fmt.Errorf("decoding the unseal key: %w", err)
	}
	if unsealed, err := core.Unseal(share); err != nil {
		return nil, initResult{}, fmt.Errorf("unsealing: %w", err)
	} else if !unsealed {
		return nil, initResult{}, errors.New("unsealing: one share was not enough")
	}
	return core, keys, nil
}

// initialise makes new storage usable and keeps the keys at path, or reads there what it kept before.
func initialise(ctx context.Context, core *vault.Core, path string) (initResult, error) {
	stored, err := os.ReadFile(path)
	if err == nil {
		var keys initResult
		if err := json.Unmarshal(stored, &keys); err != nil {
			return initResult{}, fmt.Errorf("reading %q: %w", path, err)
		}
		return keys, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return initResult{}, err
	}
	result, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig:  &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
		RecoveryConfig: &vault.SealConfig{},
	})
	if err != nil {
		return initResult{}, fmt.Errorf("initialising: %w", err)
	}
	keys := initResult{
		RootToken: result.RootToken,
		UnsealKey: base64.StdEncoding.EncodeToString(result.SecretShares[0]),
	}
	stored, err = json.Marshal(keys)
	if err != nil {
		return initResult{}, fmt.Errorf("encoding the keys: %w", err)
	}
	if err := os.WriteFile(path, stored, 0o600); err != nil {
		return initResult{}, fmt.Errorf("keeping the keys: %w", err)
	}
	return keys, nil
}

// handler is Vault's HTTP API.
func handler(core *vault.Core) http.Handler {
	return vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core:           core,
		ListenerConfig: &configutil.Listener{},
	})
}
