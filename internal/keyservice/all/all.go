// Package all is the one list of key services: a field of Service and a case in it make a key service known to the
// configuration, its documentation and the daemon. Nothing registers itself.
package all

import (
	"context"
	"errors"
	"log/slog"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv"
	"github.com/trousseau-io/trousseau/internal/keyservice/escrow"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
)

// Service is the settings of a key in one key service. Exactly one field is set in what was read from a configuration.
type Service struct {
	// A key in a keystore: an encrypted file, the same on every node, that `trousseau keystore` makes. For clusters
	// without another key service, and beside one.
	Local *local.Config `yaml:"local,omitempty" oneof:"key service"`

	// A key in the transit engine of HashiCorp Vault (the Community edition too) or OpenBao.
	Vault *vault.Config `yaml:"vault,omitempty" oneof:"key service"`

	// A symmetric key in AWS KMS.
	AWSKMS *awskms.Config `yaml:"awskms,omitempty" oneof:"key service"`

	// A key in Azure Key Vault or Azure Managed HSM.
	AzureKV *azurekv.Config `yaml:"azurekv,omitempty" oneof:"key service"`

	// A symmetric key in Google Cloud KMS.
	GCPKMS *gcpkms.Config `yaml:"gcpkms,omitempty" oneof:"key service"`

	// A key in a hardware security module, or whatever else has a PKCS#11 module. It takes the programs that
	// `make build-pkcs11` builds.
	PKCS11 *pkcs11.Config `yaml:"pkcs11,omitempty" oneof:"key service"`

	// A key on a server that speaks KMIP.
	KMIP *kmip.Config `yaml:"kmip,omitempty" oneof:"key service"`

	// A key in a keystore that only this node's TPM 2.0 opens. `trousseau tpm` makes it and carries it to other nodes.
	TPM *tpm.Config `yaml:"tpm,omitempty" oneof:"key service"`

	// Keys of people, as age knows them, that wrap here and open elsewhere: for recovery when every other key is lost.
	Escrow *escrow.Config `yaml:"escrow,omitempty" oneof:"key service"`

	// Another KMS v2 plugin behind its socket: to give it a share, or to move away from it.
	Upstream *upstream.Config `yaml:"upstream,omitempty" oneof:"key service"`
}

// set returns the one that is set.
func (s Service) set() choice {
	switch {
	case s.Local != nil:
		return choose(local.Describe(), *s.Local, local.Open)
	case s.Vault != nil:
		return choose(vault.Describe(), *s.Vault, vault.Open)
	case s.AWSKMS != nil:
		return choose(awskms.Describe(), *s.AWSKMS, awskms.Open)
	case s.AzureKV != nil:
		return choose(azurekv.Describe(), *s.AzureKV, azurekv.Open)
	case s.GCPKMS != nil:
		return choose(gcpkms.Describe(), *s.GCPKMS, gcpkms.Open)
	case s.PKCS11 != nil:
		return choose(pkcs11.Describe(), *s.PKCS11, pkcs11.Open)
	case s.KMIP != nil:
		return choose(kmip.Describe(), *s.KMIP, kmip.Open)
	case s.TPM != nil:
		return choose(tpm.Describe(), *s.TPM, tpm.Open)
	case s.Escrow != nil:
		return choose(escrow.Describe(), *s.Escrow, escrow.Open)
	case s.Upstream != nil:
		return choose(upstream.Describe(), *s.Upstream, upstream.Open)
	}
	return choice{open: func(context.Context, *slog.Logger) (keyservice.Key, error) {
		return nil, &keyservice.Error{
			Kind: keyservice.Invalid, Op: "opening a key", Err: errors.New("no key service is set"),
			Hint: "set exactly one key service",
		}
	}}
}

// Descriptions returns what the manual says of each key service.
func Descriptions() []keyservice.Description {
	return []keyservice.Description{
		local.Describe(), vault.Describe(), awskms.Describe(), azurekv.Describe(), gcpkms.Describe(), pkcs11.Describe(),
		kmip.Describe(), tpm.Describe(), escrow.Describe(), upstream.Describe(),
	}
}

// choice is the settings of one key service without their type.
type choice struct {
	keyservice.Description
	id, leastPolicy string
	shutOff         func() string
	open            func(context.Context, *slog.Logger) (keyservice.Key, error)
}

// settings is what the settings of every key service have.
type settings interface {
	ID() string
	ShutOff() string // for a person, as Service.ShutOff
}

func choose[C settings, K keyservice.Key](
	of keyservice.Description, config C, open func(context.Context, C, *slog.Logger) (K, error),
) choice {
	c := choice{Description: of, id: config.ID(), shutOff: config.ShutOff, open: func(ctx context.Context, log *slog.Logger) (keyservice.Key, error) {
		key, err := open(ctx, config, log)
		if err != nil {
			return nil, err // and not a nil K in an interface that is not nil
		}
		return key, nil
	}}
	if p, ok := any(config).(interface{ LeastPolicy() string }); ok {
		c.leastPolicy = p.LeastPolicy()
	}
	return c
}

// Type returns the name of the key service, as the configuration has it.
func (s Service) Type() string { return s.set().Name }

// ID returns the default for the key's id, made of the settings that say which key it is and not of those that say where.
func (s Service) ID() string { return s.set().id }

// LeastPolicy returns what the key service has to allow, in its own language of policies, or "" if it has none.
func (s Service) LeastPolicy() string { return s.set().leastPolicy }

// ShutOff returns the commands, as lines of shell, that keep the key from opening anything, with how to undo that. They are for
// a person: what only people know stands in capitals.
func (s Service) ShutOff() string { return s.set().shutOff() }

// Opens reports whether the key can open what it wraps, where the daemon runs.
func (s Service) Opens() bool { return !s.set().WrapOnly }

// OnNode reports whether the key is on the node itself, in a keystore that has to be the same on every node.
func (s Service) OnNode() bool { return s.set().OnNode }

// Open opens the key. A key in a remote service opens while the service is away; a key in a file needs the file. The
// error is a *keyservice.Error. The caller closes the key.
func (s Service) Open(ctx context.Context, log *slog.Logger) (keyservice.Key, error) {
	return s.set().open(ctx, log)
}
