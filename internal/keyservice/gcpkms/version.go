package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// version is one version of a key. Google Cloud gives no number of a key twice, and no name of a key to another one; the
// creation time tells apart the versions of two keys that an operator gave the same id.
type version struct {
	number  int64
	created int64 // Unix seconds
}

// id returns the number in decimal, a dot and the creation time in base 36: "3.t8k2f1".
func (v version) id() keyservice.VersionID {
	return keyservice.VersionID(strconv.FormatInt(v.number, 10) + "." + strconv.FormatInt(v.created, 36))
}

// parseVersion accepts only what id returns.
func parseVersion(id keyservice.VersionID) (version, bool) {
	number, created, _ := strings.Cut(string(id), ".")
	n, err := strconv.ParseInt(number, 10, 64)
	t, err2 := strconv.ParseInt(created, 36, 64)
	v := version{n, t}
	return v, err == nil && err2 == nil && n > 0 && t > 0 && v.id() == id
}

// versionName returns the resource name of a version.
func (c Config) versionName(number int64) string {
	return c.Key + "/cryptoKeyVersions/" + strconv.FormatInt(number, 10)
}

// versionNumber returns the number in the resource name of a version of this key. Projects are not compared: the service
// may name them by id where the configuration has the number.
func (c Config) versionNumber(name string) (int64, error) {
	key, number, _ := strings.Cut(name, "/cryptoKeyVersions/")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || withoutProject(key) != withoutProject(c.Key) {
		return 0, errors.New("it names no version of this key")
	}
	return n, nil
}

func withoutProject(name string) string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(name, "projects/"), "/")
	return rest
}

// Versions implements keyservice.Key. The newest version is the primary one, whatever its number: an operator makes a
// version primary when it is to be used. The one before it is that with the number before, unless it is destroyed. When
// a version became primary the service does not tell, so one that was made long before is adopted at once.
func (k *Key) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	op := "listing versions of " + k.config.ID()
	key, err := k.read(ctx, op)
	if err != nil {
		return newest, previous, err
	}
	primary, err := k.learn(op, key.GetPrimary())
	if err != nil {
		return newest, previous, err
	}
	newest = describe(primary, key.GetPrimary())
	if primary.number == 1 {
		return newest, previous, nil
	}
	before, err := k.readVersion(ctx, op, primary.number-1)
	if err != nil {
		if keyservice.KindOf(err) == keyservice.NotFound {
			return newest, previous, nil
		}
		return keyservice.Version{}, previous, err
	}
	if before.GetState() == kmspb.CryptoKeyVersion_DESTROYED {
		return newest, previous, nil
	}
	v, err := k.learn(op, before)
	if err != nil {
		return keyservice.Version{}, previous, err
	}
	return newest, describe(v, before), nil
}

// describe calls every state disabled in which a version neither wraps nor unwraps: disabled, not yet generated or imported,
// about to be destroyed, destroyed.
func describe(v version, as *kmspb.CryptoKeyVersion) keyservice.Version {
	state := keyservice.StateDisabled
	if as.GetState() == kmspb.CryptoKeyVersion_ENABLED {
		state = keyservice.StateEnabled
	}
	return keyservice.Version{ID: v.id(), Created: time.Unix(v.created, 0), State: state}
}

// read asks for the key and refuses one that cannot be used.
func (k *Key) read(ctx context.Context, op string) (*kmspb.CryptoKey, error) {
	got, err := call(ctx, k, op, (*kms.KeyManagementClient).GetCryptoKey, &kmspb.GetCryptoKeyRequest{Name: k.config.Key})
	switch {
	case err != nil:
		return nil, err
	case got.GetPurpose() != kmspb.CryptoKey_ENCRYPT_DECRYPT:
		return nil, &keyservice.Error{
			Kind: keyservice.Invalid, Op: op, Err: fmt.Errorf("the purpose of the key is %s", got.GetPurpose()),
			Hint: "make another key: gcloud kms keys create KEY --purpose=encryption ...",
		}
	case got.GetPrimary() == nil:
		return nil, &keyservice.Error{
			Kind: keyservice.NotFound, Op: op, Err: errors.New("the key has no primary version"),
			Hint: "make one: gcloud kms keys versions create --primary ...",
		}
	}
	return got, nil
}

func (k *Key) readVersion(ctx context.Context, op string, number int64) (*kmspb.CryptoKeyVersion, error) {
	return call(ctx, k, op, (*kms.KeyManagementClient).GetCryptoKeyVersion,
		&kmspb.GetCryptoKeyVersionRequest{Name: k.config.versionName(number)})
}

// learn remembers a version that the service described.
func (k *Key) learn(op string, as *kmspb.CryptoKeyVersion) (version, error) {
	number, err := k.config.versionNumber(as.GetName())
	if err != nil {
		return version{}, damagedAnswer(op, err)
	}
	v := version{number, as.GetCreateTime().GetSeconds()}
	if v.created <= 0 {
		return version{}, damagedAnswer(op, errors.New("the version has no creation time"))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known[v.number] = v.created
	return v, nil
}

// identify returns the version with a number. It asks the service about each number once.
func (k *Key) identify(ctx context.Context, op string, number int64) (version, error) {
	k.mu.Lock()
	created, ok := k.known[number]
	k.mu.Unlock()
	if ok {
		return version{number, created}, nil
	}
	got, err := k.readVersion(ctx, op, number)
	if err != nil {
		return version{}, err
	}
	return k.learn(op, got)
}

// pick returns the version with an id, if this key has it.
func (k *Key) pick(ctx context.Context, op string, id keyservice.VersionID) (version, error) {
	wanted, ok := parseVersion(id)
	if !ok {
		return version{}, noVersion(op, id)
	}
	v, err := k.identify(ctx, op, wanted.number)
	if err == nil && v != wanted {
		err = noVersion(op, id)
	}
	return v, err
}
