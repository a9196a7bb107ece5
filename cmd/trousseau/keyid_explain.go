package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyid"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/kmsclient"
)

// explain is the verb with its flags.
type explain struct {
	config, value string
	timeout       time.Duration
	json          *bool
}

func newExplain() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain [KEYID]",
		Short: "Say which policy, key and version a key id stands for",
		Long: `A key id is a hash. This computes the key ids that the configuration's policies give with the newest version of each
key and the one before it, and says which one matches, and which one the daemon announces. Without KEYID it lists them all.

With --value it reads a raw value of etcd instead (- is standard input) and says what the envelope in it tells of itself,
which needs no key and no daemon; with a configuration, also which of its policies that is.`,
		Example: "  trousseau key-id explain t1.9LqdC1c6Y7l2nB8vMZk0Tq3xRfA\n" +
			"  etcdctl get --print-value-only /registry/secrets/default/s | trousseau key-id explain --value -",
		Args: cobra.MaximumNArgs(1),
	}
	var e explain
	cmd.Flags().StringVar(&e.config, "config", defaultConfig, "the daemon's configuration, a `FILE`")
	cmd.Flags().StringVar(&e.value, "value", "", "explain the raw value of etcd in this `FILE`; - is standard input")
	cmd.Flags().DurationVar(&e.timeout, "timeout", 10*time.Second, "how long to wait for the key services")
	e.json = addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), e.timeout)
		defer cancel()
		switch {
		case e.value != "" && len(args) > 0:
			return badUsage{errors.New("give either KEYID or --value")}
		case e.value != "":
			return e.explainValue(ctx, cmd)
		}
		return e.explainID(ctx, cmd, args)
	}
	return cmd
}

// explainID matches one key id, or lists all if none is given.
func (e explain) explainID(ctx context.Context, cmd *cobra.Command, args []string) error {
	d, err := config.Load(e.config)
	if err != nil {
		return err
	}
	keys, err := keyring.Open(ctx, d, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer keys.Close()
	announced := announcedBy(ctx, d.Socket.Path)
	known := keyid.Ask(ctx, keys)
	for _, s := range known.Silent {
		warn(cmd, "key %s does not tell its versions: %v", s.Key, s.Err)
	}
	if announced == "" && !*e.json {
		warn(cmd, "no daemon answers on %s: which key id is announced is not known", d.Socket.Path)
	}
	if len(args) == 0 {
		return e.printIDs(cmd, known.List(announced))
	}
	id, found := known.Find(args[0])
	if !found {
		return unknownID(cmd, args[0], known.List(announced))
	}
	id.Announced = id.KeyID == announced
	return e.printIDs(cmd, []keyid.ID{id})
}

// announcedBy asks the daemon, if there is one.
func announcedBy(ctx context.Context, socket string) string {
	client, err := kmsclient.Dial(kmsclient.Options{Socket: socket})
	if err != nil {
		return ""
	}
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		return ""
	}
	return status.KeyID
}

func unknownID(cmd *cobra.Command, id string, known []keyid.ID) error {
	fmt.Fprintln(cmd.ErrOrStderr(), "Known key ids are:")
	for _, k := range known {
		fmt.Fprintf(cmd.ErrOrStderr(), "  %s  %s\n", k.KeyID, line(k))
	}
	if !keyid.Valid(id) {
		return advised{fmt.Errorf("%.64q is no key id of Trousseau", id),
			"a key id is t1. and 27 characters; another plugin's id is explained by that plugin"}
	}
	return advised{fmt.Errorf("no listed policy gives %s with the versions that its keys tell of", id),
		"it may be of an older version, of a policy, generation or cluster that is not listed any more, " +
			"or of a key that was made again: explain a value that is stored under it with --value"}
}

func (e explain) printIDs(cmd *cobra.Command, ids []keyid.ID) error {
	if *e.json {
		return printJSON(cmd.OutOrStdout(), ids)
	}
	var rows [][]any
	for _, id := range ids {
		rows = append(rows, []any{id.KeyID, line(id)})
	}
	return table(cmd.OutOrStdout(), rows...)
}

// line describes a key id after the id itself.
func line(id keyid.ID) string {
	text := fmt.Sprintf("policy %d (%d of %d", id.Policy, id.Need, len(id.Keys))
	if id.Generation != 0 {
		text += fmt.Sprintf(", generation %d", id.Generation)
	}
	text += ") of " + id.Cluster
	for _, part := range id.Keys {
		if part.Version == "" {
			text += fmt.Sprintf(", without key %s", part.Key)
			continue
		}
		text += fmt.Sprintf(", key %s, version %s", part.Key, part.Version)
		if part.Created != nil {
			text += " of " + part.Created.UTC().Format(time.RFC3339)
		}
		if part.Older {
			text += " (not the newest)"
		}
	}
	if id.Former {
		text += ", former cluster"
	}
	if id.Announced {
		text += ", announced now"
	}
	return text
}

// explainValue reads a raw value, and finds its policy if there is a configuration.
func (e explain) explainValue(ctx context.Context, cmd *cobra.Command) error {
	raw, err := e.readValue(cmd)
	if err != nil {
		return err
	}
	value, parsed, err := keyid.Read(raw)
	if err != nil {
		return err
	}
	id, err := e.find(ctx, cmd, parsed)
	if err != nil {
		return errors.Join(e.printValue(cmd, value, nil), err)
	}
	if err := e.printValue(cmd, value, id); err != nil {
		return err
	}
	if id != nil && value.KeyID != "" && id.KeyID != value.KeyID {
		return advised{fmt.Errorf("it is stored under %q, and was sealed under %s", value.KeyID, id.KeyID),
			"the value was put together from two: restore the object from a backup, and find out who can write to etcd"}
	}
	return nil
}

func (e explain) readValue(cmd *cobra.Command) ([]byte, error) {
	if e.value == "-" {
		return readInput(cmd, "the raw value")
	}
	return os.ReadFile(e.value)
}

// find returns the listed policy of an envelope, or nil where there is no configuration.
func (e explain) find(ctx context.Context, cmd *cobra.Command, parsed *envelope.Envelope) (*keyid.ID, error) {
	d, err := config.Load(e.config)
	if errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keys, err := keyring.Open(ctx, d, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return nil, err
	}
	defer keys.Close()
	id, err := keyid.Of(keys.Ring, parsed)
	return &id, err
}

func (e explain) printValue(cmd *cobra.Command, v keyid.Value, id *keyid.ID) error {
	if *e.json {
		return printJSON(cmd.OutOrStdout(), struct {
			keyid.Value
			Explained *keyid.ID `json:"explained,omitempty"`
		}{v, id})
	}
	rows := [][]any{
		{"written by", fmt.Sprintf("provider %s, KMS %s", v.Provider, v.API)},
		{"key id", v.KeyID},
		{"cluster tag", v.ClusterTag},
		{"policy tag", v.PolicyTag},
		{"opens with", fmt.Sprintf("%d of %d keys", v.Need, v.Keys)},
	}
	for _, s := range v.Shares {
		rows = append(rows, []any{fmt.Sprintf("share in slot %d", s.Slot), fmt.Sprintf("version %s, %d bytes", s.Version, s.Bytes)})
	}
	rows = append(rows, []any{"stored per object", fmt.Sprintf("%d bytes", v.Stored)})
	if id != nil {
		rows = append(rows, []any{"this is", line(*id)})
	}
	return table(cmd.OutOrStdout(), rows...)
}
