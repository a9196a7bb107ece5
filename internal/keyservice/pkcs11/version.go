//go:build cgo

package pkcs11

import (
	"fmt"
	"slices"
	"strings"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// candidate is a key in the token that the configuration means.
type candidate struct {
	handle p11.ObjectHandle
	label  string
	order  string // what stands for the * of the configured label
}

// known are the handles of versions in one era of the module. A handle may be given to another key after a deletion, so
// wrapping asks the key again which version it is; unwrapping with another key does not open.
type known struct {
	era     int
	handles map[keyservice.VersionID]p11.ObjectHandle
}

// candidates returns the keys that the configuration means, oldest first and at least one.
func (k *Key) candidates(s session) ([]candidate, error) {
	class, keyType := uint(p11.CKO_SECRET_KEY), uint(p11.CKK_AES)
	if k.config.Mechanism == rsaOAEP {
		class, keyType = p11.CKO_PRIVATE_KEY, p11.CKK_RSA
	}
	template := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_KEY_TYPE, keyType),
	}
	switch {
	case k.config.Label == "":
		template = append(template, p11.NewAttribute(p11.CKA_ID, k.keyID))
	case !strings.Contains(k.config.Label, "*"):
		template = append(template, p11.NewAttribute(p11.CKA_LABEL, k.config.Label))
	}
	handles, err := s.find(template...)
	if err != nil {
		return nil, fmt.Errorf("looking for the key: %w", err)
	}
	var found []candidate
	for _, handle := range handles {
		label, err := s.attribute(handle, p11.CKA_LABEL)
		if err != nil {
			return nil, fmt.Errorf("reading the label of a key: %w", err)
		}
		order, ok := match(k.config.Label, string(label))
		if ok || k.config.Label == "" {
			found = append(found, candidate{handle, string(label), order})
		}
	}
	if len(found) == 0 {
		return nil, errNoKey
	}
	slices.SortFunc(found, func(a, b candidate) int { return compare(a.order, b.order) })
	for i := range found[1:] {
		if found[i].order == found[i+1].order {
			return nil, fmt.Errorf("%w: %q", errKeys, found[i].label)
		}
	}
	return found, nil
}

// version asks a key which version it is, and remembers its handle.
func (k *Key) version(s session, handle p11.ObjectHandle) (keyservice.VersionID, error) {
	identity, err := k.mechanism.identity(s, handle)
	if err != nil {
		return "", err
	}
	id := versionID(identity)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known.era != s.era || k.known.handles == nil {
		k.known = known{s.era, make(map[keyservice.VersionID]p11.ObjectHandle)}
	}
	k.known.handles[id] = handle
	return id, nil
}

func (k *Key) remembered(s session, id keyservice.VersionID) (p11.ObjectHandle, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	handle, ok := k.known.handles[id]
	return handle, ok && k.known.era == s.era
}

// newest returns the key to wrap with when no version is asked for.
func (k *Key) newest(s session) (p11.ObjectHandle, keyservice.VersionID, error) {
	found, err := k.candidates(s)
	if err != nil {
		return 0, "", err
	}
	handle := found[len(found)-1].handle
	id, err := k.version(s, handle)
	return handle, id, err
}

// lookUp asks the keys, the newest first, until one is the version. A key that may not be used cannot tell which it is.
func (k *Key) lookUp(s session, id keyservice.VersionID) (p11.ObjectHandle, error) {
	found, err := k.candidates(s)
	if err != nil {
		return 0, err
	}
	var silent error
	for _, c := range slices.Backward(found) {
		is, err := k.version(s, c.handle)
		switch {
		case err == nil && is == id:
			return c.handle, nil
		case err != nil && judge(err).kind == keyservice.Disabled:
			silent = fmt.Errorf("%w: version %q, key %q: %w", errDisabled, id, c.label, err)
		case err != nil:
			return 0, err
		}
	}
	if silent != nil {
		return 0, silent
	}
	return 0, fmt.Errorf("%w: %q", errNoVersion, id)
}

// sealing returns the key of a version, which has just said that it is that.
func (k *Key) sealing(s session, id keyservice.VersionID) (p11.ObjectHandle, keyservice.VersionID, error) {
	if id == "" {
		return k.newest(s)
	}
	if handle, ok := k.remembered(s, id); ok {
		return handle, id, k.is(s, handle, id)
	}
	handle, err := k.lookUp(s, id)
	return handle, id, err
}

// is asks a key whether it is the version that its handle is remembered for. A handle that another key has by now is as good
// as an invalid one.
func (k *Key) is(s session, handle p11.ObjectHandle, id keyservice.VersionID) error {
	is, err := k.version(s, handle)
	if err == nil && is != id {
		return p11.Error(p11.CKR_KEY_HANDLE_INVALID)
	}
	return err
}

// opening returns the key of a version.
func (k *Key) opening(s session, id keyservice.VersionID) (p11.ObjectHandle, error) {
	if handle, ok := k.remembered(s, id); ok {
		return handle, nil
	}
	return k.lookUp(s, id)
}

// describe returns what the attributes of a key say of it.
func (k *Key) describe(s session, c candidate) (v keyservice.Version, err error) {
	if v.ID, err = k.version(s, c.handle); err != nil {
		return v, err
	}
	v.Created = s.date(c.handle, p11.CKA_START_DATE)
	switch seals, opens := k.mechanism.allowed(s, c.handle); {
	case !opens:
		v.State = keyservice.StateDisabled
	case !seals:
		v.State = keyservice.StateOpenOnly
	}
	return v, nil
}

// find returns all objects with the attributes.
func (s session) find(template ...*p11.Attribute) ([]p11.ObjectHandle, error) {
	if err := s.FindObjectsInit(s.handle, template); err != nil {
		return nil, err
	}
	var all []p11.ObjectHandle
	for {
		some, _, err := s.FindObjects(s.handle, 100)
		if err != nil {
			return nil, err // the session is closed, and the search with it
		}
		if len(some) == 0 {
			return all, s.FindObjectsFinal(s.handle)
		}
		all = append(all, some...)
	}
}

func (s session) attribute(object p11.ObjectHandle, attribute uint) ([]byte, error) {
	got, err := s.GetAttributeValue(s.handle, object, []*p11.Attribute{p11.NewAttribute(attribute, nil)})
	if err != nil {
		return nil, err
	}
	return got[0].Value, nil
}

// is reports whether an attribute of an object is there and true.
func (s session) is(object p11.ObjectHandle, attribute uint) bool {
	value, err := s.attribute(object, attribute)
	return err == nil && len(value) == 1 && value[0] != 0
}

// date returns an attribute that holds a date, or the zero time if the object has none.
func (s session) date(object p11.ObjectHandle, attribute uint) time.Time {
	value, err := s.attribute(object, attribute)
	if err != nil {
		return time.Time{}
	}
	date, err := time.Parse("20060102", string(value))
	if err != nil {
		return time.Time{}
	}
	return date
}
