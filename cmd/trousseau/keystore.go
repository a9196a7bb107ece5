package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

func newKeystore() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keystore",
		Short: "Create, rotate, back up and verify the keystore of local keys",
		Long: "A keystore is an encrypted file with the versions of one key, the same on every control plane node.\n" +
			"docs/keyservices/local.md describes how to keep it, its secret and its backups.",
		Args: cobra.NoArgs,
		RunE: showHelp,
	}
	cmd.AddCommand(newKeystoreCreate(), newKeystoreRotate(), newKeystoreBackup(), newKeystoreVerify())
	return cmd
}

// sealing is the flags that say how a keystore is sealed.
type sealing struct {
	prefix              string // of the flags' names
	passphrase, keyFile string
	unsealed            bool
}

func addSealing(cmd *cobra.Command) *sealing {
	s := new(sealing)
	flags := cmd.Flags()
	flags.StringVar(&s.passphrase, "passphrase-file", "", "the `FILE` with the passphrase that seals the keystore (16 bytes or more)")
	flags.StringVar(&s.keyFile, "key-file", "", "the `FILE` with the random key that seals the keystore (32 bytes or more)")
	flags.BoolVar(&s.unsealed, "unsealed", false, "the keystore is not sealed; for development only")
	cmd.MarkFlagsMutuallyExclusive("passphrase-file", "key-file", "unsealed")
	cmd.MarkFlagsOneRequired("passphrase-file", "key-file", "unsealed")
	return s
}

// addNewSealing adds the flags for sealing a backup with another secret than the original.
func addNewSealing(cmd *cobra.Command) *sealing {
	s := &sealing{prefix: "new-"}
	flags := cmd.Flags()
	flags.StringVar(&s.passphrase, "new-passphrase-file", "", "seal the backup with the passphrase in this `FILE` instead")
	flags.StringVar(&s.keyFile, "new-key-file", "", "seal the backup with the random key in this `FILE` instead")
	cmd.MarkFlagsMutuallyExclusive("new-passphrase-file", "new-key-file")
	return s
}

func (s *sealing) given() bool { return s.passphrase != "" || s.keyFile != "" || s.unsealed }

// with calls f with the sealer that the flags describe, and wipes its secret.
func (s *sealing) with(f func(keystore.Sealer) error) error {
	if s.unsealed {
		return f(keystore.Unsealed())
	}
	path, sealer := s.keyFile, keystore.Key
	if s.passphrase != "" {
		path, sealer = s.passphrase, keystore.Passphrase
	}
	if path == "" {
		return badUsage{fmt.Errorf("--%spassphrase-file and --%[1]skey-file are empty", s.prefix)}
	}
	file, err := credentialFile(path)
	if err != nil {
		return err
	}
	secret, err := file.Read()
	if err != nil {
		return err
	}
	defer secret.Wipe()
	return f(sealer(secret))
}

// credentialFile makes a path on the command line absolute, which those in the configuration always are.
func credentialFile(path string) (credential.File, error) {
	if path == "" || strings.HasPrefix(path, "systemd:") {
		return credential.File(path), nil
	}
	absolute, err := filepath.Abs(path)
	return credential.File(absolute), err
}

// versionOutput is a version as JSON.
type versionOutput struct {
	ID      keyservice.VersionID `json:"id"`
	Created time.Time            `json:"created"`
	State   string               `json:"state"`
}

func versionOf(v keyservice.Version) versionOutput {
	return versionOutput{v.ID, v.Created.UTC(), v.State.String()}
}

// summaryOutput is a keystore as JSON.
type summaryOutput struct {
	Keystore string          `json:"keystore"`
	Sealing  string          `json:"sealing"`
	Versions []versionOutput `json:"versions"` // oldest first
}

func printSummary(cmd *cobra.Command, path string, s keystore.Summary, asJSON bool) error {
	out := summaryOutput{Keystore: path, Sealing: s.Sealing.String()}
	rows := [][]any{{"VERSION", "CREATED", "STATE"}}
	for _, v := range s.Versions {
		o := versionOf(v)
		out.Versions = append(out.Versions, o)
		rows = append(rows, []any{o.ID, o.Created.Format(time.RFC3339), o.State})
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), out)
	}
	sealed := "sealed by a " + out.Sealing
	if s.Sealing == keystore.SealingNone {
		sealed = "not sealed"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s is whole and opens; %s.\n", path, sealed)
	return table(cmd.OutOrStdout(), rows...)
}

func printVersion(cmd *cobra.Command, v keyservice.Version, asJSON bool, text string) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), versionOf(v))
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

// warnUnsealed is loud: the flag is easily copied from a trial into production.
func warnUnsealed(cmd *cobra.Command, path string) {
	warn(cmd, "%s IS NOT SEALED: whoever reads the file has its keys. Use it for development only.", path)
}

// explainWrongSealing tells how a keystore is sealed where the flags said something else.
func explainWrongSealing(path string, err error) error {
	if !errors.Is(err, keystore.ErrSealing) {
		return err
	}
	s, peekErr := keystore.Peek(path)
	if peekErr != nil {
		return err
	}
	flag := map[keystore.Sealing]string{
		keystore.SealingPassphrase: "--passphrase-file", keystore.SealingKey: "--key-file", keystore.SealingNone: "--unsealed",
	}[s.Sealing]
	return advised{err, "give " + flag + " for this keystore; if you did not expect that, somebody replaced it"}
}
