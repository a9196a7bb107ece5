package awskms

import (
	"context"
	"fmt"
	"hash/maphash"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/trousseau-io/trousseau/internal/credential"
)

const (
	// loginTimeout bounds one request for credentials. The SDK makes it for all callers that wait, without their deadlines:
	// one that never ended would block every later call.
	loginTimeout = 10 * time.Second
	// expiryWindow is how long before their end credentials are replaced, so that none ends on its way. It is short because
	// a log in that fails is an error, however long the old credentials would last.
	expiryWindow = 30 * time.Second
	// patience is how old refused credentials must be to be replaced: a policy that denies everything must not become a
	// flood of log ins.
	patience = 5 * time.Second
	// sessionName is how the audit log calls the sessions of an assumed role.
	sessionName = "trousseau"
)

// credentials is the provider that KMS requests are signed with: the SDK's chain, set up again when the files that it reads
// have changed. It implements aws.CredentialsProvider. The providers in the chain renew what expires, and read web
// identity tokens anew each time; a retrieval does not end with the call that waits for it, but that call returns.
type credentials struct {
	config Config
	seed   maphash.Seed

	mu     sync.Mutex
	chain  aws.CredentialsProvider // nil until the first call and after a refusal
	seen   uint64                  // fingerprint of the files that chain was made of
	loaded time.Time
}

func newCredentials(config Config) *credentials {
	return &credentials{config: config, seed: maphash.MakeSeed()}
}

// loginError is what went wrong before KMS was asked: with the files, or with what they and the environment lead to.
type loginError struct {
	err   error
	files bool
}

func (e *loginError) Error() string { return e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// Retrieve implements aws.CredentialsProvider.
func (c *credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	chain, err := c.current(ctx)
	if err != nil {
		return aws.Credentials{}, &loginError{err: err, files: true}
	}
	got, err := chain.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &loginError{err: err}
	}
	return got, nil
}

// current returns the chain for what the files hold now. It reads files and contacts nobody.
func (c *credentials) current(ctx context.Context) (aws.CredentialsProvider, error) {
	seen, err := c.fingerprint()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chain != nil && seen == c.seen {
		return c.chain, nil
	}
	chain, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	c.chain, c.seen, c.loaded = chain, seen, time.Now()
	return chain, nil
}

// refuse has other credentials retrieved after AWS denied a call that began at the given time. It returns false if the present
// ones are too new for others to be worth a try.
func (c *credentials) refuse(began time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chain == nil || c.loaded.After(began) {
		return true // another call has just replaced them
	}
	if time.Since(c.loaded) < patience {
		return false
	}
	c.chain = nil
	return true
}

// fingerprint changes with the content of the files that the SDK reads once. One that strangers may read is refused, and one
// of the SDK's own choice may be missing.
func (c *credentials) fingerprint() (uint64, error) {
	if c.config.CredentialsFile != "" {
		sum, err := credential.File(c.config.CredentialsFile).Fingerprint()
		return uint64(sum), err
	}
	env, err := config.NewEnvConfig()
	if err != nil {
		return 0, fmt.Errorf("reading the AWS_* variables: %w", err)
	}
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, file := range []struct{ set, usual string }{
		{env.SharedCredentialsFile, config.DefaultSharedCredentialsFilename()},
		{env.SharedConfigFile, config.DefaultSharedConfigFilename()},
	} {
		path := file.set
		if path == "" {
			path = file.usual
		}
		if content, err := os.ReadFile(path); err == nil {
			h.Write(content)
			clear(content)
		}
		h.WriteByte(0)
	}
	return h.Sum64(), nil
}

// load sets the chain up. The SDK's warnings are dropped: they go to standard error, past the log.
func (c *credentials) load(ctx context.Context) (aws.CredentialsProvider, error) {
	window := func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow }
	options := []func(*config.LoadOptions) error{
		config.WithRegion(c.config.target().region),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(loginTimeout)),
		config.WithCredentialsCacheOptions(window),
		config.WithLogger(logging.Nop{}),
	}
	if c.config.FIPS {
		options = append(options, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	profile := c.config.Profile
	if file := c.config.CredentialsFile; file != "" {
		options = append(options, config.WithSharedCredentialsFiles([]string{file}), config.WithSharedConfigFiles([]string{}))
		if profile == "" {
			profile = config.DefaultSharedConfigProfile
		}
	}
	if profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	role := c.config.AssumeRole
	if role == nil {
		return cfg.Credentials, nil
	}
	provider := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = sessionName
		if role.ExternalID != "" {
			o.ExternalID = &role.ExternalID
		}
	})
	return aws.NewCredentialsCache(provider, window), nil
}
