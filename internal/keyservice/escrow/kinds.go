package escrow

import (
	"errors"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

var (
	errClosed   = errors.New("the key is closed")
	errSize     = errors.New("the secret is empty or too long")
	errConfig   = errors.New("the configuration cannot work")
	errVersion  = errors.New("the recipients are another version")
	errOffline  = errors.New("an escrow key only wraps here")
	errTogether = errors.New("age does not wrap for these recipients together")
	errNoPlugin = errors.New("the plugin is not installed")
	errPlugin   = errors.New("the plugin failed")
	errIdentity = errors.New("the identity file cannot be used")
	errOpen     = errors.New("the bytes do not open with these identities: changed, wrapped for others or with other associated data")
)

// kinds assigns every cause its kind. A cause that is not listed is a context that ended.
var kinds = [...]struct {
	cause error
	kind  keyservice.Kind
	hint  string
}{
	{errClosed, keyservice.Unavailable, "this daemon is shutting down or reloading; try again"},
	{errSize, keyservice.Invalid, "wrap 1 to 60 bytes"},
	{errConfig, keyservice.Invalid, "correct the configuration of the key"},
	{errVersion, keyservice.NotFound, "remove keys[].version, or write the recipients of that version again"},
	{errOffline, keyservice.Invalid, "open it with the identity file of a recipient, away from the cluster"},
	{errTogether, keyservice.Invalid, "use post-quantum recipients only, or none, and see what the plugins ask for"},
	{errNoPlugin, keyservice.Invalid, "install age-plugin-NAME in a directory of this process's PATH"},
	{errPlugin, keyservice.Unavailable, "try the plugin by hand: `age -r RECIPIENT` as the same user"},
	{errIdentity, keyservice.Invalid, "give the file of age-keygen or of a plugin, or an SSH private key, without a passphrase"},
	{errOpen, keyservice.Corrupt, "use the identity of one of the recipients, and the cluster and policy that it was wrapped for"},
}

// fail returns the error of an operation.
func fail(op string, err error) error {
	for _, k := range kinds {
		if errors.Is(err, k.cause) {
			return &keyservice.Error{Kind: k.kind, Op: op, Hint: k.hint, Err: err}
		}
	}
	return &keyservice.Error{
		Kind: keyservice.Unavailable, Op: op, Err: err,
		Hint: "if a plugin hangs (ps -C age-plugin-NAME), end it: nothing else is waited for",
	}
}
