package azurekv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// versionName is the last part of a version's resource name, which the service draws at random: a key that was deleted and
// made again has none of its old ones.
var versionName = regexp.MustCompile(`^[0-9a-f]{32}$`)

// version is what the service tells of one version of the key.
type version struct {
	id        keyservice.VersionID
	created   time.Time
	disabled  bool
	notBefore time.Time // zero for none
	expires   time.Time // zero for none
}

// state is what the version may do now, by this host's clock. Outside of its time the service opens with a version and
// does not wrap.
func (v version) state() keyservice.State {
	now := time.Now()
	switch {
	case v.disabled:
		return keyservice.StateDisabled
	case now.Before(v.notBefore), !v.expires.IsZero() && !now.Before(v.expires):
		return keyservice.StateOpenOnly
	}
	return keyservice.StateEnabled
}

func (v version) describe() keyservice.Version {
	return keyservice.Version{ID: v.id, Created: v.created, State: v.state()}
}

// list returns all versions, the newest first. The service's order is none.
func (k *Key) list(ctx context.Context, op string) ([]version, error) {
	versions, err := call(ctx, k, request{op: op}, k.listPages)
	switch {
	case err != nil:
		return nil, err
	case len(versions) == 0:
		return nil, &keyservice.Error{
			Kind: keyservice.NotFound, Op: op, Err: errors.New("the key has no version"), Hint: hintNoKey,
		}
	}
	for _, v := range versions {
		if !versionName.MatchString(string(v.id)) || v.created.IsZero() {
			return nil, damagedAnswer(op, fmt.Errorf("it lists a version %.64q that was made at %s", v.id, v.created))
		}
	}
	slices.SortFunc(versions, func(a, b version) int {
		return cmp.Or(b.created.Compare(a.created), cmp.Compare(a.id, b.id))
	})
	return versions, nil
}

func (k *Key) listPages(ctx context.Context) (versions []version, err error) {
	for pages := k.client.NewListKeyPropertiesVersionsPager(k.config.Key, nil); pages.More(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, item := range page.Value {
			versions = append(versions, newVersion(item))
		}
	}
	return versions, nil
}

// newVersion takes an item of an answer, which may lack anything.
func newVersion(item *azkeys.KeyProperties) version {
	if item == nil || item.Attributes == nil {
		return version{}
	}
	a := item.Attributes
	return version{
		id:        keyservice.VersionID(item.KID.Version()),
		created:   valueOf(a.Created),
		disabled:  !valueOf(a.Enabled),
		notBefore: valueOf(a.NotBefore),
		expires:   valueOf(a.Expires),
	}
}

// valueOf returns what a pointer of the SDK points to, or the zero value for what the service did not say.
func valueOf[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

// newest returns the place in the list of the newest version that wraps, or 0 if none does.
func newest(versions []version) int {
	return max(0, slices.IndexFunc(versions, func(v version) bool { return v.state() == keyservice.StateEnabled }))
}

// Versions implements keyservice.Key. The newest version is the newest that wraps: one that was made for later, with
// nbf, is not yet it.
func (k *Key) Versions(ctx context.Context) (newestVersion, previous keyservice.Version, err error) {
	versions, err := k.list(ctx, "listing versions of "+k.config.ID())
	if err != nil {
		return newestVersion, previous, err
	}
	at := newest(versions)
	if at+1 < len(versions) {
		previous = versions[at+1].describe()
	}
	return versions[at].describe(), previous, nil
}

// pick returns the version to wrap with: the newest for no id. It refuses one that does not wrap.
func (k *Key) pick(ctx context.Context, op string, id keyservice.VersionID) (version, error) {
	versions, err := k.list(ctx, op)
	if err != nil {
		return version{}, err
	}
	at := newest(versions)
	if id != "" {
		at = slices.IndexFunc(versions, func(v version) bool { return v.id == id })
	}
	if at < 0 {
		return version{}, noVersion(op, id)
	}
	if v := versions[at]; v.state() != keyservice.StateEnabled {
		return version{}, &keyservice.Error{
			Kind: keyservice.Disabled, Op: op, Err: fmt.Errorf("version %q is %s", v.id, v.state()), Hint: hintDisabled,
		}
	}
	return versions[at], nil
}

func noVersion(op string, id keyservice.VersionID) error {
	return &keyservice.Error{
		Kind: keyservice.NotFound, Op: op, Err: fmt.Errorf("the key has no version %q", id), Hint: hintNoKey,
	}
}
