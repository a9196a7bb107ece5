package azurekvtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// key is a key with its versions, the newest last.
type key struct {
	kind     string // RSA or oct-HSM
	versions []*version
	settings Settings
	purge    time.Time // of a deleted key
}

// Settings are what an owner may choose for a key.
type Settings struct {
	Operations    []string // wrapKey and unwrapKey, at first
	RecoveryLevel string   // Recoverable, at first
	Exportable    bool
	Managed       bool
	Rotates       bool // a rotation policy makes new versions
}

type version struct {
	id, url   string
	created   time.Time
	disabled  bool
	notBefore time.Time // zero for none
	expires   time.Time // zero for none
	rsa       *rsa.PrivateKey
	symmetric []byte
}

// CreateKey makes a key of the type "RSA" or "oct-HSM" with one version.
func (f *Fake) CreateKey(name, kind string) {
	f.mu.Lock()
	f.keys[name] = &key{kind: kind, settings: Settings{Operations: []string{"wrapKey", "unwrapKey"}, RecoveryLevel: "Recoverable"}}
	f.mu.Unlock()
	f.Rotate(name)
}

// Rotate makes a new version and returns its name. It waits until the clock shows another second than when the last version
// was made: the service tells the time of versions in seconds.
func (f *Fake) Rotate(name string) string {
	v := &version{id: hex.EncodeToString(random(16)), symmetric: random(32)}
	var err error
	if v.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		panic(err) // never fails
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.keys[name]
	v.url = f.URL + "/keys/" + name + "/" + v.id
	if n := len(k.versions); n > 0 {
		time.Sleep(time.Until(k.versions[n-1].created.Add(time.Second)))
	}
	v.created = time.Now().Truncate(time.Second)
	k.versions = append(k.versions, v)
	return v.id
}

// SetEnabled enables or disables a version; "" is the newest.
func (f *Fake) SetEnabled(name, id string, enabled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[name].version(id).disabled = !enabled
}

// SetTimes limits when a version may be used; "" is the newest. A zero time is no limit.
func (f *Fake) SetTimes(name, id string, notBefore, expires time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.keys[name].version(id)
	v.notBefore, v.expires = notBefore, expires
}

// Set chooses the settings of a key.
func (f *Fake) Set(name string, settings Settings) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[name].settings = settings
}

// Delete deletes a key, which may be recovered until it is purged.
func (f *Fake) Delete(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deleted[name] = f.keys[name]
	f.deleted[name].purge = time.Now().Add(90 * 24 * time.Hour)
	delete(f.keys, name)
}

// Recover brings a deleted key back.
func (f *Fake) Recover(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[name] = f.deleted[name]
	delete(f.deleted, name)
}

// Purge destroys a deleted key.
func (f *Fake) Purge(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.deleted, name)
}

// version returns a version or nil. f.mu is held.
func (k *key) version(id string) *version {
	if id == "" {
		return k.versions[len(k.versions)-1]
	}
	if i := slices.IndexFunc(k.versions, func(v *version) bool { return v.id == id }); i >= 0 {
		return k.versions[i]
	}
	return nil
}

func (k *key) attributes(v *version) map[string]any {
	a := map[string]any{
		"enabled": !v.disabled, "created": v.created.Unix(), "updated": v.created.Unix(),
		"recoveryLevel": k.settings.RecoveryLevel, "exportable": k.settings.Exportable,
	}
	for name, at := range map[string]time.Time{"nbf": v.notBefore, "exp": v.expires} {
		if !at.IsZero() {
			a[name] = at.Unix()
		}
	}
	return a
}

// find returns what a request names, or the refusal if it is not there.
func (f *Fake) find(r *http.Request) (*key, *version, *Refusal) {
	name, id := r.PathValue("name"), r.PathValue("version")
	if k := f.keys[name]; k != nil {
		if v := k.version(id); v != nil {
			return k, v, nil
		}
	}
	return nil, nil, &Refusal{Status: 404, Code: "KeyNotFound", Message: "A key with (name/id) " + name + "/" + id + " was not found in " +
		"this key vault. If you recently deleted this key you may be able to recover it using the correct recovery command."}
}

// page is how many versions one answer lists: few, so that there are pages.
const page = 2

// listVersions lists in an order that is none.
func (f *Fake) listVersions(r *http.Request) (any, *Refusal) {
	k, _, refused := f.find(r)
	if refused != nil {
		return nil, refused
	}
	versions := slices.Clone(k.versions)
	slices.SortFunc(versions, func(a, b *version) int { return slices.Compare([]byte(a.id), []byte(b.id)) })
	skip, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken")) // absent is 0
	next, items := any(nil), []any{}
	for i, v := range versions[min(skip, len(versions)):] {
		if i == page {
			next = fmt.Sprintf("https://%s%s?api-version=%s&$skiptoken=%d", r.Host, r.URL.Path,
				r.URL.Query().Get("api-version"), skip+page)
			break
		}
		items = append(items, map[string]any{"kid": v.url, "attributes": k.attributes(v)})
	}
	return map[string]any{"value": items, "nextLink": next}, nil
}

func (f *Fake) getKey(r *http.Request) (any, *Refusal) {
	k, v, refused := f.find(r)
	if refused != nil {
		return nil, refused
	}
	return map[string]any{
		"key":        map[string]any{"kid": v.url, "kty": k.kind, "key_ops": k.settings.Operations},
		"attributes": k.attributes(v), "managed": k.settings.Managed,
	}, nil
}

func (f *Fake) getRotationPolicy(r *http.Request) (any, *Refusal) {
	k, _, refused := f.find(r)
	if refused != nil {
		return nil, refused
	}
	actions := []string{"Notify"}
	if k.settings.Rotates {
		actions = append(actions, "Rotate")
	}
	var list []any
	for _, a := range actions {
		list = append(list, map[string]any{"trigger": map[string]any{"timeAfterCreate": "P90D"}, "action": map[string]string{"type": a}})
	}
	return map[string]any{"lifetimeActions": list}, nil
}

func (f *Fake) getDeletedKey(r *http.Request) (any, *Refusal) {
	k := f.deleted[r.PathValue("name")]
	if k == nil {
		return nil, &Refusal{Status: 404, Code: "KeyNotFound", Message: "Deleted Key not found: " + r.PathValue("name")}
	}
	return map[string]any{"scheduledPurgeDate": k.purge.Unix()}, nil
}

func (f *Fake) wrapKey(r *http.Request) (any, *Refusal) {
	return f.operate(r, "wrapKey", func(k *key, v *version, value []byte) ([]byte, error) {
		if k.kind == "RSA" {
			return rsa.EncryptOAEP(sha256.New(), rand.Reader, &v.rsa.PublicKey, value, nil)
		}
		return wrapAES(v.symmetric, value)
	})
}

func (f *Fake) unwrapKey(r *http.Request) (any, *Refusal) {
	return f.operate(r, "unwrapKey", func(k *key, v *version, value []byte) ([]byte, error) {
		if k.kind == "RSA" {
			return rsa.DecryptOAEP(sha256.New(), nil, v.rsa, value, nil)
		}
		return unwrapAES(v.symmetric, value)
	})
}

func (f *Fake) operate(r *http.Request, name string, apply func(*key, *version, []byte) ([]byte, error)) (any, *Refusal) {
	k, v, refused := f.find(r)
	if refused == nil {
		refused = k.mayUse(v, name)
	}
	if refused != nil {
		return nil, refused
	}
	bad := func(message string) (any, *Refusal) {
		return nil, &Refusal{Status: 400, Code: "BadParameter", Message: message}
	}
	var body struct{ Alg, Value string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return bad("Request body not specified")
	}
	value, err := base64.RawURLEncoding.DecodeString(body.Value)
	if err != nil || len(value) == 0 {
		return bad("Property 'value' is required and must be base64url.")
	}
	if body.Alg != map[string]string{"RSA": "RSA-OAEP-256", "oct-HSM": "A256KW"}[k.kind] {
		return bad("Key and encryption algorithm are incompatible. The key is of type " + k.kind)
	}
	result, err := apply(k, v, value)
	if err != nil {
		return bad("The parameter is incorrect.")
	}
	return map[string]string{"kid": v.url, "value": base64.RawURLEncoding.EncodeToString(result)}, nil
}

// mayUse refuses what the state of a version forbids. The service has been seen to wrap with a disabled version of an RSA key,
// which is a use of its public part alone.
func (k *key) mayUse(v *version, operation string) *Refusal {
	now := time.Now()
	forbidden := func(inner, message string) *Refusal {
		return &Refusal{Status: 403, Code: "Forbidden", Inner: inner, Message: "Operation " + operation + " is " + message}
	}
	switch {
	case !slices.Contains(k.settings.Operations, operation):
		return forbidden("KeyOperationForbidden", "not permitted on this key.")
	case v.disabled && (k.kind != "RSA" || operation == "unwrapKey"):
		return forbidden("KeyDisabled", "not allowed on a disabled key.")
	case operation == "wrapKey" && (now.Before(v.notBefore) || !v.expires.IsZero() && now.After(v.expires)):
		return forbidden("", "not allowed on a key that is not yet valid or has expired.")
	}
	return nil
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
