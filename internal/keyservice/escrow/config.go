package escrow

import (
	"errors"
	"fmt"
)

// Config is the age recipients for whom everything is wrapped as well, and each of whom can open it. The daemon has nothing
// that opens: a person does, with the identity file of a recipient.
type Config struct {
	// The public keys of the recipients: X25519 (`age1...`) or post-quantum (`age1pq1...`, not together with others) as
	// `age-keygen` prints them, SSH keys of type `ssh-ed25519` or `ssh-rsa`, or those of a plugin (`age1NAME1...`), whose
	// program `age-plugin-NAME` must then be on the daemon's PATH. There are no passphrases. Each further recipient makes all
	// that is stored longer, by 98 (X25519) to 1,557 bytes (post-quantum). The order means nothing, but the set must be the
	// same on all nodes: another set is another version of the key. What was wrapped before a change keeps its recipients.
	Recipients []string `yaml:"recipients" required:"true" max:"16"`
}

// ID returns the name of the key in envelopes, logs and metrics. Recipients come and go, so they are not in it.
func (c Config) ID() string { return "escrow" }

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	seen := make(map[string]int)
	all := make([]recipient, 0, len(c.Recipients))
	for i, text := range c.Recipients {
		field := fmt.Sprintf("recipients[%d]", i)
		r, err := parseRecipient(text)
		if err != nil {
			report(field, err.Error())
			continue
		}
		if first, twice := seen[r.text]; twice {
			report(field, fmt.Sprintf("is recipients[%d] again: remove one", first))
			continue
		}
		seen[r.text] = i
		all = append(all, r)
	}
	if err := compatible(all); err != nil {
		report("recipients", fmt.Sprintf("do not go together (%v): use post-quantum recipients only, or none", err))
	}
}

// parse returns the recipients for callers that did not decode c from a document.
func (c *Config) parse() ([]recipient, error) {
	var problems []error
	c.Validate(func(field, problem string) { problems = append(problems, errors.New(field+" "+problem)) })
	if len(c.Recipients) == 0 {
		problems = append(problems, errors.New("recipients is empty: name at least one"))
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	all := make([]recipient, len(c.Recipients))
	for i, text := range c.Recipients {
		all[i], _ = parseRecipient(text) // Validate has
	}
	return all, nil
}
