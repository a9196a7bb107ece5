package escrow

import (
	"errors"
	"fmt"
	"os/exec"

	"filippo.io/age"
	"filippo.io/age/plugin"
)

// pluginRecipient tells what its plugin did wrong from all other errors of age.
type pluginRecipient struct{ *plugin.Recipient }

func (r pluginRecipient) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	stanzas, labels, err := r.Recipient.WrapWithLabels(fileKey)
	return stanzas, labels, pluginError(err)
}

// pluginIdentity does the same for what opens.
type pluginIdentity struct{ *plugin.Identity }

func (i pluginIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	fileKey, err := i.Identity.Unwrap(stanzas)
	return fileKey, pluginError(err)
}

func pluginError(err error) error {
	switch {
	case err == nil || errors.Is(err, age.ErrIncorrectIdentity):
		return err
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: %w", errNoPlugin, err)
	}
	return fmt.Errorf("%w: %.300q", errPlugin, err.Error())
}
