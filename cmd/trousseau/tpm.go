package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/keyservice/tpm"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
)

func newTPM() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tpm",
		Short: "Create keystores that only a node's TPM opens, carry their key to other nodes, back it up",
		Long: "The key service tpm keeps its keys in a keystore, the same on every control plane node, and the keystore's own key\n" +
			"sealed to each node's TPM 2.0 in a file beside it, KEYSTORE.tpm. docs/keyservices/tpm.md describes how to set nodes up,\n" +
			"what to do before and after firmware updates, and how to recover.",
		Args: cobra.NoArgs,
		RunE: showHelp,
	}
	cmd.AddCommand(
		newTPMCreate(), newTPMVerify(), newTPMRotate(), newTPMRequest(), newTPMGrant(), newTPMAccept(), newTPMBackup(), newTPMRestore(),
		newTPMReseal(),
	)
	return cmd
}

// node is the flags that say what belongs to a keystore on this node.
type node struct{ device, sealedKey, authFile string }

func addNode(cmd *cobra.Command) *node {
	n := new(node)
	addDevice(cmd, n)
	cmd.Flags().StringVar(&n.sealedKey, "sealed-key", "", "the `FILE` with the keystore's key, sealed to this node's TPM (default KEYSTORE.tpm)")
	cmd.Flags().StringVar(&n.authFile, "auth-file", "", "the `FILE` with the secret that the TPM wants to see, too")
	return n
}

func addDevice(cmd *cobra.Command, n *node) {
	cmd.Flags().StringVar(&n.device, "device", string(tpmseal.DefaultDevice), "the `TPM`: the path of a device or socket, or 127.0.0.1:PORT")
}

// config returns what the flags say of a keystore.
func (n *node) config(path string) (tpm.Config, error) {
	c := tpm.Config{Keystore: path, SealedKey: n.sealedKey, Device: tpmseal.Device(n.device)}
	if c.SealedKey == "" {
		c.SealedKey = path + ".tpm"
	}
	if err := c.Device.Validate(); err != nil {
		return c, badUsage{fmt.Errorf("--device: %w", err)}
	}
	var err error
	c.AuthFile, err = credentialFile(n.authFile)
	return c, err
}

// addPCRs adds the flag for what a key is sealed to. PCR 7 is whether Secure Boot is on, and with which keys.
func addPCRs(cmd *cobra.Command) *string {
	return cmd.Flags().String("pcrs", "7", "the `PCRs` that have to keep their values, such as 7 or 7,11; none for any system on this node")
}

// sealing returns what the flags say of a keystore and of the PCRs that its key is sealed to.
func (n *node) sealing(path, pcrs string) (tpm.Config, tpmseal.PCRs, error) {
	selected, err := tpmseal.ParsePCRs(pcrs)
	if err != nil {
		return tpm.Config{}, 0, badUsage{fmt.Errorf("--pcrs: %w", err)}
	}
	c, err := n.config(path)
	return c, selected, err
}

// sealedOutput is a keystore that opens on this node as JSON.
type sealedOutput struct {
	Keystore  string          `json:"keystore"`
	SealedKey string          `json:"sealedKey"`
	PCRs      []int           `json:"pcrs"`
	Auth      bool            `json:"auth"`
	Versions  []versionOutput `json:"versions"` // oldest first
}

func printSealed(cmd *cobra.Command, c tpm.Config, v tpm.Verified, asJSON bool) error {
	out := sealedOutput{Keystore: c.Keystore, SealedKey: c.SealedKey, PCRs: v.PCRs.List(), Auth: v.Auth}
	rows := [][]any{{"VERSION", "CREATED", "STATE"}}
	for _, version := range v.Versions {
		o := versionOf(version)
		out.Versions = append(out.Versions, o)
		rows = append(rows, []any{o.ID, o.Created.Format(time.RFC3339), o.State})
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), out)
	}
	with := ""
	if v.Auth {
		with = " and with the auth file"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s opens on this node%s, while PCRs keep their values: %s.\n", c.Keystore, with, v.PCRs)
	return table(cmd.OutOrStdout(), rows...)
}

// warnNoPCRs is for a state that is meant to pass.
func warnNoPCRs(cmd *cobra.Command, pcrs tpmseal.PCRs) {
	if pcrs == 0 {
		warn(cmd, "the key is sealed to no PCR: any system that is started on this node opens it. Seal it anew after the update: "+
			"trousseau tpm reseal --pcrs 7")
	}
}
