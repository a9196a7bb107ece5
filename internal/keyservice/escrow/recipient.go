package escrow

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/plugin"
	"golang.org/x/crypto/ssh"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// recipient is one public key.
type recipient struct {
	age.Recipient
	text    string // without what may differ between two texts for one key
	plugin  bool   // a program of its own wraps for it
	rsaBits int    // of an SSH key of that type, or 0
}

// parseRecipient takes what age's own command takes as a recipient. Its errors do not quote the text, which may be an identity.
func parseRecipient(text string) (recipient, error) {
	const prefix = "age1"
	switch {
	case strings.HasPrefix(strings.ToUpper(text), "AGE-"):
		return recipient{}, errors.New("is an identity, which is secret: name its recipient (age-keygen -y), and make another identity")
	case strings.HasPrefix(text, "ssh-"):
		return parseSSH(text)
	case strings.HasPrefix(text, "age1pq1"):
		r, err := age.ParseHybridRecipient(text)
		return recipient{Recipient: r, text: text}, malformed(err)
	case strings.HasPrefix(text, prefix) && strings.Contains(text[len(prefix):], "1"):
		r, err := plugin.NewRecipient(text, &plugin.ClientUI{}) // nobody sits at a daemon
		return recipient{Recipient: pluginRecipient{r}, text: text, plugin: true}, malformed(err)
	case strings.HasPrefix(text, prefix):
		r, err := age.ParseX25519Recipient(text)
		return recipient{Recipient: r, text: text}, malformed(err)
	}
	return recipient{}, errors.New("is no recipient: write one that begins with age1, ssh-ed25519 or ssh-rsa; " +
		"passphrases are not supported")
}

func malformed(err error) error {
	if err == nil {
		return nil
	}
	return errors.New("is no whole recipient: copy it again, each character counts")
}

// parseSSH takes one line of an authorized_keys file, without options. Comments count for nothing.
func parseSSH(text string) (recipient, error) {
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(rest) > 0 {
		return recipient{}, errors.New("is no SSH public key: copy the one line of its .pub file")
	}
	r := recipient{text: string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(key)))}
	if k, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok {
			r.rsaBits = k.N.BitLen()
		}
	}
	if r.Recipient, err = agessh.ParseRecipient(r.text); err != nil {
		return recipient{}, errors.New("is an SSH key that age cannot use: use ssh-ed25519, or ssh-rsa with at least 2,048 bits")
	}
	return r, nil
}

// compatible returns why age would refuse the recipients together, or nil. Plugins are not asked.
func compatible(all []recipient) error {
	all = slices.DeleteFunc(slices.Clone(all), func(r recipient) bool { return r.plugin })
	if len(all) == 0 {
		return nil
	}
	_, err := age.Encrypt(io.Discard, plain(all)...)
	return err
}

func plain(all []recipient) []age.Recipient {
	recipients := make([]age.Recipient, len(all))
	for i, r := range all {
		recipients[i] = r.Recipient
	}
	return recipients
}

// version returns the id of the version that the recipients are, in any order.
func version(all []recipient) keyservice.VersionID {
	texts := make([]string, len(all))
	for i, r := range all {
		texts[i] = r.text
	}
	slices.Sort(texts)
	sum := sha256.Sum256(fmt.Appendf(nil, "trousseau escrow recipients\x00%s", strings.Join(texts, "\n")))
	return keyservice.VersionID(base64.RawURLEncoding.EncodeToString(sum[:16]))
}
