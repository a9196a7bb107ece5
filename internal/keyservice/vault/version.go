package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// version is one version of a transit key. Its number alone would be the same for a key that was deleted and made again;
// the creation time is not.
type version struct {
	number  int
	created int64 // Unix seconds
}

// id returns the number in decimal, a dot and the creation time in base 36: "3.t8k2f1".
func (v version) id() keyservice.VersionID {
	return keyservice.VersionID(strconv.Itoa(v.number) + "." + strconv.FormatInt(v.created, 36))
}

// parseVersion accepts only what id returns.
func parseVersion(id keyservice.VersionID) (version, bool) {
	number, created, _ := strings.Cut(string(id), ".")
	n, err := strconv.ParseInt(number, 10, 32)
	t, err2 := strconv.ParseInt(created, 36, 64)
	v := version{int(n), t}
	return v, err == nil && err2 == nil && n > 0 && t > 0 && v.id() == id
}

// settings is what a server tells of a key. It holds no material.
type settings struct {
	Type                 string                     `json:"type"`
	Keys                 map[string]json.RawMessage `json:"keys"` // see version
	LatestVersion        int                        `json:"latest_version"`
	MinDecryptionVersion int                        `json:"min_decryption_version"`
	MinEncryptionVersion int                        `json:"min_encryption_version"`
	MinAvailableVersion  int                        `json:"min_available_version"`
	AutoRotatePeriod     int64                      `json:"auto_rotate_period"` // seconds
	Derived              bool                       `json:"derived"`
	Convergent           bool                       `json:"convergent_encryption"`
	Exportable           bool                       `json:"exportable"`
	AllowPlaintextBackup bool                       `json:"allow_plaintext_backup"`
	DeletionAllowed      bool                       `json:"deletion_allowed"`
	Imported             bool                       `json:"imported_key"`
	SoftDeleted          bool                       `json:"soft_deleted"` // OpenBao
}

// ciphers are the types that authenticate associated data. The last one is OpenBao's.
var ciphers = []string{"aes256-gcm96", "aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305"}

// problem returns why the key cannot be used, or nil.
func (s settings) problem() error {
	switch {
	case !slices.Contains(ciphers, s.Type):
		return fmt.Errorf("its type %.40q is none of %s", s.Type, strings.Join(ciphers, ", "))
	case s.Derived || s.Convergent:
		return errors.New("it is a derived key, which needs a context with each call")
	}
	return nil
}

// version returns the version with a number; false means that the server does not list it. It lists versions from
// min_decryption_version on, with their creation time (and with an object instead for types that cannot be used).
func (s settings) version(number int) (version, bool) {
	created, err := strconv.ParseInt(string(s.Keys[strconv.Itoa(number)]), 10, 64)
	return version{number, created}, err == nil && created > 0
}

func (s settings) describe(v version) keyservice.Version {
	state := keyservice.StateEnabled
	switch {
	case s.SoftDeleted:
		state = keyservice.StateDisabled
	case v.number < s.MinEncryptionVersion:
		state = keyservice.StateOpenOnly
	}
	return keyservice.Version{ID: v.id(), Created: time.Unix(v.created, 0), State: state}
}

// read asks for the key's settings, remembers them and refuses a key that cannot be used.
func (k *Key) read(ctx context.Context, op string) (settings, error) {
	var got settings
	r := request{method: "GET", path: k.config.path("keys")}
	if err := k.call(ctx, op, r, &got); err != nil {
		return settings{}, err
	}
	if err := got.problem(); err != nil {
		return got, &keyservice.Error{
			Kind: keyservice.Invalid, Op: op, Err: err,
			Hint: fmt.Sprintf("make another key: vault write -f %s type=aes256-gcm96", k.config.Mount+"/keys/NAME"),
		}
	}
	if _, ok := got.version(got.LatestVersion); !ok {
		return got, damagedAnswer(op, errors.New("the newest version has no creation time"))
	}
	k.mu.Lock()
	k.known = got
	k.mu.Unlock()
	return got, nil
}

func (k *Key) lastRead() settings {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known
}

// Versions implements keyservice.Key.
func (k *Key) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	s, err := k.read(ctx, "listing versions of "+k.config.ID())
	if err != nil {
		return newest, previous, err
	}
	latest, _ := s.version(s.LatestVersion)
	newest = s.describe(latest)
	if before, ok := s.version(s.LatestVersion - 1); ok && before.number >= s.MinDecryptionVersion {
		previous = s.describe(before)
	}
	return newest, previous, nil
}

// pick returns the version to wrap with. It reads the key unless the last read knows this very version.
func (k *Key) pick(ctx context.Context, op string, id keyservice.VersionID) (version, error) {
	if id == "" {
		s, err := k.read(ctx, op)
		v, _ := s.version(s.LatestVersion)
		return v, err
	}
	v, ok := parseVersion(id)
	if !ok {
		return version{}, noVersion(op, id)
	}
	if known, ok := k.lastRead().version(v.number); ok && known == v {
		return v, nil
	}
	s, err := k.read(ctx, op)
	if err != nil {
		return version{}, err
	}
	return v, s.whyGone(op, v)
}

// whyGone returns nil if the key has v and serves, and else why not.
func (s settings) whyGone(op string, v version) error {
	known, ok := s.version(v.number)
	switch {
	case s.SoftDeleted:
		return &keyservice.Error{
			Kind: keyservice.Disabled, Op: op, Err: errors.New("the key is soft-deleted"), Hint: hintDisabled,
		}
	case ok && known == v:
		return nil
	case ok:
		return &keyservice.Error{
			Kind: keyservice.NotFound, Op: op,
			Err: fmt.Errorf("version %q is gone: the key was deleted and made again, and its version %d is now %q",
				v.id(), v.number, known.id()),
			Hint: hintGone,
		}
	case v.number < s.MinDecryptionVersion && v.number >= s.MinAvailableVersion:
		return &keyservice.Error{
			Kind: keyservice.Disabled, Op: op,
			Err:  fmt.Errorf("version %q is below the key's min_decryption_version %d", v.id(), s.MinDecryptionVersion),
			Hint: hintDisabled,
		}
	}
	return noVersion(op, v.id())
}

// explain looks for the reason behind a refusal, and returns err if it finds none. The server says "permission denied" to
// encrypting with a key that is gone, since that would create one; it says that authentication failed of what was wrapped
// by a key that was made again; and its words for a key that is switched off differ.
func (k *Key) explain(ctx context.Context, op string, v version, err error) error {
	switch keyservice.KindOf(err) {
	case keyservice.Denied, keyservice.Corrupt, keyservice.Invalid:
	default:
		return err
	}
	s, readErr := k.read(ctx, op)
	if readErr == nil {
		readErr = s.whyGone(op, v)
	}
	if readErr != nil {
		if kind := keyservice.KindOf(readErr); kind == keyservice.NotFound || kind == keyservice.Disabled {
			return readErr
		}
	}
	return err
}
