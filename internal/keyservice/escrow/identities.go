package escrow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/plugin"
	"golang.org/x/crypto/ssh"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Identities are what opens what a Key has wrapped: the private keys of recipients. A person has them, away from the
// cluster.
type Identities struct{ all []age.Identity }

// ParseIdentities reads the content of an identity file: the lines that age-keygen or a plugin prints, or one SSH private key.
// A passphrase on the file or the key is not supported. Plugins run when something is opened; they ask for what they need
// at the terminal, and say what they have to say through say. Errors, which are Invalid, hold nothing of the file.
func ParseIdentities(file []byte, say func(text string)) (*Identities, error) {
	all, err := parseIdentities(file, say)
	if err != nil {
		return nil, fail("reading identities", fmt.Errorf("%w: %w", errIdentity, err))
	}
	return &Identities{all}, nil
}

func parseIdentities(file []byte, say func(string)) ([]age.Identity, error) {
	switch {
	case bytes.HasPrefix(file, []byte("age-encryption.org/")), bytes.HasPrefix(file, []byte("-----BEGIN AGE ")):
		return nil, errors.New("it is encrypted itself: decrypt it with age first")
	case bytes.HasPrefix(file, []byte("-----BEGIN ")):
		identity, err := agessh.ParseIdentity(file)
		if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
			return nil, errors.New("the SSH key has a passphrase: remove it from a copy (ssh-keygen -p -f COPY)")
		}
		if err != nil {
			return nil, errors.New("it holds no SSH key of type ssh-ed25519 or ssh-rsa")
		}
		return []age.Identity{identity}, nil
	}
	printf := func(format string, args ...any) { say(fmt.Sprintf(format, args...)) }
	ui := plugin.NewTerminalUI(printf, printf)
	var all []age.Identity
	number := 0
	for line := range strings.Lines(string(file)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		identity, err := parseIdentity(line, ui)
		if err != nil {
			return nil, fmt.Errorf("line %d is no identity", number)
		}
		all = append(all, identity)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no identity in it")
	}
	return all, nil
}

func parseIdentity(line string, ui *plugin.ClientUI) (age.Identity, error) {
	switch {
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		identity, err := plugin.NewIdentity(line, ui)
		return pluginIdentity{identity}, err
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		return age.ParseHybridIdentity(line)
	}
	return age.ParseX25519Identity(line)
}

// Unwrap returns the secret that a Key wrapped with aad. What does not open is Corrupt: age cannot tell a changed file from
// one for others. The version is not looked at, since identities do not tell what other recipients there are.
func (i *Identities) Unwrap(wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	const op = "opening what an escrow key wrapped"
	content, err := i.decrypt(wrapped.Bytes)
	defer clear(content)
	if err != nil {
		return nil, fail(op, err)
	}
	if n := len(content) - bindingSize; n < 1 || n > keyservice.MaxSecretSize || !bytes.Equal(content[:bindingSize], binding(aad)) {
		return nil, fail(op, errOpen)
	}
	return bytes.Clone(content[bindingSize:]), nil
}

func (i *Identities) decrypt(file []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(file), i.all...)
	if errors.Is(err, errNoPlugin) || errors.Is(err, errPlugin) {
		return nil, err
	}
	if err != nil {
		return nil, errOpen // with no more: age's words may quote the file
	}
	// One byte more than there may be, so that something longer is noticed. The end must be read to be authenticated.
	content, err := io.ReadAll(io.LimitReader(r, bindingSize+keyservice.MaxSecretSize+1))
	if err != nil {
		return content, errOpen
	}
	return content, nil
}
