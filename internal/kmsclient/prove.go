package kmsclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
)

// Proof is what was seen while a value was sealed and opened as the API server would.
type Proof struct {
	Status     Status        `json:"status"`
	Ciphertext int           `json:"ciphertextBytes"` // at most 1,024
	Stored     int           `json:"storedBytes"`     // with each object: ciphertext, key id and annotations
	Wrap       time.Duration `json:"wrapNanoseconds"`
	Unwrap     time.Duration `json:"unwrapNanoseconds"`
}

// Prove seals a value and opens it again with the API server's own transformer for KMS v2, as an API server does that
// writes, and then one that has just started and reads. It checks what the API server checks: health, version, key id,
// the sizes of everything that is stored, and that the value is not stale.
func Prove(ctx context.Context, c *Client) (Proof, error) {
	if c.options.V1beta1 {
		return Proof{}, &Error{Err: errors.New("proving with KMS v1beta1 is not supported"), Hint: "prove with KMS v2"}
	}
	proof, err := prove(ctx, c)
	if errors.Is(err, errKeyChanged) {
		proof, err = prove(ctx, c) // between two calls: the API server would try again too
	}
	if err == nil {
		return proof, nil
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		err = &Error{Err: fmt.Errorf("proving: %w", err), Hint: "an API server refuses this answer too: see the plugin's log"}
	}
	return proof, err
}

var errKeyChanged = errors.New("Encrypt answers another key id than Status")

func prove(ctx context.Context, c *Client) (Proof, error) {
	status, err := c.Status(ctx)
	if err != nil {
		return Proof{}, err
	}
	proof := Proof{Status: status}
	if err := healthy(status); err != nil {
		return proof, err
	}
	start := time.Now()
	uid := string(uuid.NewUUID())
	transformer, object, cacheKey, err := kmsv2.GenerateTransformer(ctx, uid, c.service, true)
	if err != nil {
		return proof, c.fail("wrapping a new seed", unwrapped(err))
	}
	proof.Wrap = time.Since(start)
	proof.Ciphertext = len(object.EncryptedDEKSource)
	proof.Stored = Sealed{object.EncryptedDEKSource, object.KeyID, object.Annotations}.Size()
	if object.KeyID != status.KeyID {
		return proof, fmt.Errorf("%w: %q and %q", errKeyChanged, object.KeyID, status.KeyID)
	}
	state := kmsv2.State{
		Transformer: transformer, UID: uid, CacheKey: cacheKey, KMSProviderName: providerName,
		EncryptedObjectKeyID:                  object.KeyID,
		EncryptedObjectEncryptedDEKSource:     object.EncryptedDEKSource,
		EncryptedObjectAnnotations:            object.Annotations,
		EncryptedObjectEncryptedDEKSourceType: kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED,
		ExpirationTimestamp:                   time.Now().Add(time.Minute),
	}
	proof.Unwrap, err = c.writeAndRead(ctx, state)
	return proof, err
}

func healthy(s Status) error {
	switch {
	case s.Healthz != "ok":
		return fmt.Errorf("the plugin says that it is %q, not ok", s.Healthz)
	case s.Version != kmsv2.KMSAPIVersionv2 && s.Version != kmsv2.KMSAPIVersionv2beta1:
		return fmt.Errorf("the plugin speaks version %q, not v2", s.Version)
	}
	if _, err := kmsv2.ValidateKeyID(s.KeyID); err != nil {
		return fmt.Errorf("the plugin's key id: %w", err)
	}
	return nil
}

// writeAndRead writes with one transformer and reads with another, whose cache is empty, so that it has to ask the plugin.
func (c *Client) writeAndRead(ctx context.Context, state kmsv2.State) (time.Duration, error) {
	current := func() (kmsv2.State, error) { return state, nil }
	at := value.DefaultContext("/registry/secrets/trousseau/proof")
	secret := []byte(rand.Text())
	stored, err := kmsv2.NewEnvelopeTransformer(c.service, providerName, current, "").TransformToStorage(ctx, secret, at)
	if err != nil {
		return 0, fmt.Errorf("writing a value: %w", err)
	}
	if bytes.Contains(stored, secret) {
		return 0, errors.New("what was written holds the value in clear")
	}
	start := time.Now()
	got, stale, err := kmsv2.NewEnvelopeTransformer(c.service, providerName, current, "").TransformFromStorage(ctx, stored, at)
	took := time.Since(start)
	switch {
	case err != nil:
		return took, c.fail("reading a value", unwrapped(err))
	case !bytes.Equal(got, secret):
		return took, errors.New("what was read is not what was written")
	case stale:
		return took, errors.New("what was just written is stale already")
	}
	return took, nil
}

// unwrapped returns the innermost error: the plugin's own, which the API server's code has put words around.
func unwrapped(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
