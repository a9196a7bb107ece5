package local

import (
	"context"
	"crypto/sha256"
	"slices"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

// attempt is what one try to open the file depended on.
type attempt struct {
	file   [sha256.Size]byte
	secret credential.Fingerprint
}

// rejected is the last file that could not be taken over. The same file is not tried with the same secret again: argon2id
// costs too much to run for every unknown version that somebody sends.
type rejected struct {
	err error // nil if the file is the one in use
	of  attempt
}

// refresh takes over the file if its content is another than that in use. One call at a time does; it works on when
// its caller's context ends, which is all that refresh returns an error for.
func (k *Key) refresh(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case k.refreshing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { <-k.refreshing }()
		k.takeOver(context.WithoutCancel(ctx))
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeOver is refresh for the holder of the token.
func (k *Key) takeOver(ctx context.Context) {
	if current, err := k.current(); err != nil || current {
		k.note(err, attempt{})
		return
	}
	var last *attempt
	if k.rejected.err != nil {
		last = &k.rejected.of
	}
	store, of, err := k.source.read(ctx, last)
	switch {
	case err != nil:
		k.note(err, of)
	case store != nil:
		k.note(nil, attempt{})
		k.swap(store)
	}
}

// current reports whether the file is the one in use, which needs neither the secret nor argon2id to tell.
func (k *Key) current() (bool, error) {
	sum, err := keystore.Fingerprint(k.source.Keystore)
	if err != nil {
		return false, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.store == nil || sum == k.store.Fingerprint(), nil
}

// note keeps and logs what became of the file, if that is news.
func (k *Key) note(err error, of attempt) {
	was := k.rejected.err
	k.mu.Lock()
	k.rejected = rejected{err: err, of: of}
	k.mu.Unlock()
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		k.log.Error("the keystore on disk cannot be used, the versions read before stay in use",
			"error", err, "hint", keyservice.HintOf(k.source.fail("reading again", err)))
	case err == nil && was != nil:
		k.log.Info("the keystore on disk can be used again")
	}
}

// swap puts store in the place of the one in use, which is wiped once no call uses it.
func (k *Key) swap(store *keystore.Store) {
	k.mu.Lock()
	old := k.store
	if old == nil { // closed in the meantime
		k.mu.Unlock()
		store.Release()
		return
	}
	k.store = store
	k.mu.Unlock()
	old.Release()

	has := store.Summary().Versions
	newest, _ := store.Summary().Newest()
	k.log.Info("the keystore was replaced", "newest", newest.ID, "created", newest.Created, "versions", len(has))
	for _, v := range old.Summary().Versions {
		if !slices.ContainsFunc(has, func(w keyservice.Version) bool { return w.ID == v.ID }) {
			k.log.Error("the new keystore lacks a version that the old one had: what it wrapped does not open any more",
				"version", v.ID, "created", v.Created)
		}
	}
}
