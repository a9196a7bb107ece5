// Package kms is the KMS plugin that kube-apiserver calls: KMS v2 and v1beta1 as two thin services over one Plugin.
//
// The Plugin seals with exactly the key versions that Status announced, opens what any listed policy sealed, and answers
// Status from memory: probes run beside it. Where the policy allows it, it seals while keys are missing, and announces that
// before it answers. It is the only package that knows Kubernetes' limits. It does not listen, authenticate callers or bound
// how many there are, and it retries nothing.
package kms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/trousseau-io/trousseau/internal/coldstart"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/seedstore"
)

// Kubernetes' limits and the Plugin's own, in bytes.
const (
	// maxCiphertext is how much ciphertext KMS v2 stores; the bound itself is allowed (k8s.io/apiserver,
	// storage/value/encrypt/envelope/kmsv2: encryptedDEKSourceMaxSize).
	maxCiphertext = 1024
	// maxPlaintext is ours. API servers send seeds and keys of 32 bytes, and "ping"; conformance tools send more.
	maxPlaintext = 512
)

// Setup is what a Plugin works with: all that a reload of the configuration replaces.
type Setup struct {
	Ring            *envelope.Ring
	Pins            map[string]keyservice.VersionID // by key id: the version to seal with, whatever is newest
	Hint            Hint
	Outage          Outage
	Grace           time.Duration // with OutageGrace
	ProbeInterval   time.Duration
	ActivationDelay time.Duration
	Cache           *seedstore.Store // of what was opened lately; nil caches nothing
	ColdStart       *coldstart.Store // what to go on with while too few keys answer; nil is nothing
	Notice          func(Notice)     // told of events; nil if nobody asks. It returns soon and does not call the Plugin
}

// Plugin answers the API server. Its methods may be called concurrently.
type Plugin struct {
	log      *slog.Logger
	refusals refusals
	flights  flights
	current  atomic.Pointer[session]
	keeping  keeping
}

// New returns a Plugin that works with setup as soon as Run runs.
func New(setup Setup, log *slog.Logger) *Plugin {
	p := &Plugin{log: log}
	first := p.newSession(setup, nil)
	first.live.Store(true)
	p.current.Store(first)
	return p
}

// Run probes the keys until ctx ends, and returns nil. Without it Status and Encrypt wait.
func (p *Plugin) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		s := p.current.Load()
		s.run(ctx)
	}
	return nil
}

// Replace makes the Plugin work with setup, and returns when no call uses the keys of the old one any more. Key ids
// and health carry over for keys that are in both. A setup that cannot seal, while the old one can, is refused.
func (p *Plugin) Replace(ctx context.Context, setup Setup) error {
	old := p.current.Load()
	next := p.newSession(setup, old)
	next.probeAll(ctx)
	if _, err := next.status(time.Now()); err != nil {
		if _, oldErr := old.status(time.Now()); oldErr == nil {
			next.close()
			return fmt.Errorf("trying the new configuration: %w", err)
		}
	}
	p.current.Store(next)
	next.takeOver(old)
	old.retire()
	if next.ColdStart != nil && old.ColdStart != nil {
		next.ColdStart.Inherit(old.ColdStart)
	}
	old.close()
	return nil
}

// Sealed is what Encrypt answers.
type Sealed struct {
	Ciphertext  []byte            // at most 1,024 bytes for v2
	KeyID       string            // what Status announces
	Annotations map[string][]byte // nil unless shares were spilled
}

// encrypt seals plaintext in at most limit bytes of ciphertext, 0 meaning any number.
func (p *Plugin) encrypt(ctx context.Context, plaintext []byte, limit int) (Sealed, error) {
	if len(plaintext) == 0 || len(plaintext) > maxPlaintext {
		return Sealed{}, invalid("sealing", fmt.Errorf("plaintext has %d bytes, allowed are 1 to %d", len(plaintext), maxPlaintext),
			"only an API server's seeds and keys belong here; Secrets themselves never reach a KMS plugin")
	}
	s := p.enter()
	defer s.leave()
	announced, err := s.announcement(ctx)
	if err != nil {
		return Sealed{}, err
	}
	e, err := s.seal(ctx, announced, plaintext)
	if err != nil {
		return Sealed{}, err
	}
	if took := e.Versions(); !slices.Equal(took, announced.versions) {
		announced = s.took(took) // the service chose for itself: announce that before answering
	}
	ciphertext, spilled, err := e.Marshal(limit)
	if err != nil {
		return Sealed{}, invalid("sealing", err, "use keys with shorter ciphertexts, or fewer of them")
	}
	sealed := Sealed{Ciphertext: ciphertext, KeyID: announced.keyID}
	if spilled != nil {
		sealed.Annotations = map[string][]byte{envelope.SharesAnnotation: spilled}
	}
	s.keep(sealed.hash(), plaintext)
	return sealed, nil
}

// decrypt opens what encrypt sealed. Its KeyID is "" where none is stored (v1beta1).
func (p *Plugin) decrypt(ctx context.Context, sealed Sealed) ([]byte, error) {
	for name, value := range sealed.Annotations {
		if name != envelope.SharesAnnotation || len(value) == 0 {
			return nil, invalid("opening", fmt.Errorf("annotation %.64q was not made by this plugin", name),
				"the value in etcd was changed; restore the object from a backup")
		}
	}
	e, err := envelope.Parse(sealed.Ciphertext, sealed.Annotations[envelope.SharesAnnotation])
	if err != nil {
		return nil, err
	}
	return p.flights.do(ctx, sealed, func(ctx context.Context) ([]byte, error) {
		s := p.enter()
		defer s.leave()
		return s.open(ctx, e, sealed, sealed.hash())
	})
}

// ended is the error of a call whose context has ended before there was an answer.
func ended(ctx context.Context) error {
	return &keyservice.Error{
		Kind: keyservice.Unavailable, Op: "opening", Err: context.Cause(ctx),
		Hint: "the key services answer too slowly; look at trousseau_key_call_duration_seconds",
	}
}

// KeyID returns the key id that Status announces, or why Status fails. It calls no key service; right after the start it
// waits for the first probe, as long as ctx lasts.
func (p *Plugin) KeyID(ctx context.Context) (string, error) {
	s := p.enter()
	defer s.leave()
	announced, err := s.announcement(ctx)
	if err != nil {
		return "", err
	}
	if _, err := s.status(time.Now()); err != nil {
		return "", err
	}
	return announced.keyID, nil
}

// Snapshot returns the state of everything, for readiness and metrics. It never waits.
func (p *Plugin) Snapshot() Snapshot {
	return p.current.Load().snapshot(time.Now())
}

// Forget drops what the Plugin keeps of seeds and roots, in memory and on disk, and has it keep nothing until Resume. It is
// for a lockdown; refusing calls is the caller's part. An error says what could not be removed.
func (p *Plugin) Forget() error {
	p.keeping.mu.Lock()
	defer p.keeping.mu.Unlock()
	p.keeping.forgets = true
	return p.current.Load().forget()
}

// Resume ends what Forget began.
func (p *Plugin) Resume() {
	p.keeping.mu.Lock()
	defer p.keeping.mu.Unlock()
	p.keeping.forgets = false
}

// enter returns the current session, whose keys stay open until leave.
func (p *Plugin) enter() *session {
	for {
		if s := p.current.Load(); s.enter() {
			return s
		}
	}
}

func invalid(op string, err error, hint string) error {
	return &keyservice.Error{Kind: keyservice.Invalid, Op: op, Err: err, Hint: hint}
}

var errStarting = errors.New("no key service has answered since the start")

func starting() error {
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: "starting", Err: errStarting, Hint: "see the log for what each key answers"}
}
