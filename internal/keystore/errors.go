package keystore

import "errors"

var (
	// ErrDamaged means that bytes of the file are missing or changed.
	ErrDamaged = errors.New("the file is damaged")
	// ErrWrongSecret means that the passphrase or key does not open the file, whose checksum is right.
	ErrWrongSecret = errors.New("wrong passphrase or key")
	// ErrSealing means that the file is sealed in another way than the one asked for.
	ErrSealing = errors.New("sealed in another way")
	// ErrInvalid means that the file is whole, and not a keystore that this version reads.
	ErrInvalid = errors.New("not a keystore that this version reads")
	// ErrWeakSecret means that the passphrase or key is too short to seal with.
	ErrWeakSecret = errors.New("too short a secret")
	// ErrNoVersion means that the keystore has no version of that id.
	ErrNoVersion = errors.New("the keystore has no such version")
	// ErrBusy means that another process is writing a keystore in the same directory.
	ErrBusy = errors.New("another process is writing here")
	// ErrPending means that the newest version lies in the future, so that it is too early to make another.
	ErrPending = errors.New("the newest version is not in use yet")
)

// hints holds the operator's next action for each of the errors above.
var hints = []struct {
	err  error
	hint string
}{
	{ErrDamaged, "restore the keystore from a backup, or copy it from another node of the cluster"},
	{ErrWrongSecret, "give the passphrase or key that sealed this keystore; the file is not damaged by accident"},
	{ErrSealing, "configure the way in which the keystore is sealed: passphraseFile, keyFile or unsealed"},
	{ErrInvalid, "name a file that `trousseau keystore create` made, or use a newer version of Trousseau"},
	{ErrWeakSecret, "make one with: head -c 32 /dev/urandom | base64 -w0"},
	{ErrNoVersion, "copy the keystore that holds the version to this node; no other key opens what it wrapped"},
	{ErrBusy, "wait until the other `trousseau keystore` ends, and try again"},
	{ErrPending, "wait until its time has come; if the time is wrong, correct the clock"},
}

// Hint returns the operator's next action for an error of this package, or "".
func Hint(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.hint
		}
	}
	return ""
}
