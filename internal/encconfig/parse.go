package encconfig

import (
	"context"
	"errors"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
)

// Config is an EncryptionConfiguration with defaults filled in.
type Config = apiserver.EncryptionConfiguration

// Load reads a file as an API server of this Kubernetes version would at its start, and refuses what that refuses. It
// calls no plugin.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading EncryptionConfiguration: %w", err)
	}
	config, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading EncryptionConfiguration %s: %w", path, err)
	}
	// The API server's loader also tries the plugins, in the background and for as long as its context lasts.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := encryptionconfig.LoadEncryptionConfig(ctx, path, true, providerID); err != nil {
		return nil, fmt.Errorf("loading EncryptionConfiguration %s: %w", path, err)
	}
	return config, nil
}

// providerID stands for the id of an API server, which goes into the loader's metrics.
const providerID = "trousseau"

// parse decodes strictly, as the API server does.
func parse(data []byte) (*Config, error) {
	if len(data) == 0 {
		return nil, errors.New("the file is empty")
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(apiserver.AddToScheme(scheme), apiserverv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder()
	object, kind, err := decoder.Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	config, ok := object.(*Config)
	if !ok {
		return nil, fmt.Errorf("it is a %s, not an EncryptionConfiguration", kind.Kind)
	}
	return config, validation.ValidateEncryptionConfiguration(config, true).ToAggregate()
}
