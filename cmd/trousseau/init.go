package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/setup"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// initFlags is what was given on the command line, completed by answers on a terminal.
type initFlags struct {
	dir, cluster, socket, observe string
	resources                     []string

	local               bool
	unsealed            bool
	passphrase, keyFile string

	addresses                       []string
	key, mount, namespace, ca       string
	tokenFile, roleID, secretIDFile string
}

func newInit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write the daemon's configuration, a keystore if needed, and the EncryptionConfiguration",
		Long: `Writes into a directory what a cluster needs to start with Trousseau, and says what to do next. Nothing outside of the
directory is changed, no existing file is overwritten, and either all files are written or none. What is not given is asked
for on a terminal.

The key is either in a keystore (--local), or in Vault or OpenBao (--vault-address, --vault-key and a way to log in: a token
file, or AppRole; for the others change auth in the written file, see docs/keyservices/vault.md).`,
		Example: `  trousseau init --cluster prod-eu-1 --local
  trousseau init --cluster prod-eu-1 --vault-address https://vault-1:8200 --vault-address https://vault-2:8200 \
    --vault-key k8s --vault-approle-role-id ROLE --vault-approle-secret-id-file /etc/trousseau/secret-id`,
		Args: cobra.NoArgs,
	}
	f := addInitFlags(cmd)
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if isTerminal(cmd.InOrStdin()) && !*asJSON {
			if err := f.ask(cmd); err != nil {
				return err
			}
		}
		if missing := f.missing(); missing != nil {
			return badUsage{fmt.Errorf("missing: %s", strings.Join(missing, "; "))}
		}
		options, err := f.options()
		if err != nil {
			return err
		}
		result, err := setup.Write(options)
		if problems, ok := errors.AsType[*strictyaml.Problems](err); ok {
			return badUsage{explainProblems(problems)}
		}
		if err != nil {
			return err
		}
		if result.Unsealed {
			warnUnsealed(cmd, result.Keystore)
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), result)
		}
		printNext(cmd.OutOrStdout(), result)
		return nil
	}
	return cmd
}

func addInitFlags(cmd *cobra.Command) *initFlags {
	f, flags := new(initFlags), cmd.Flags()
	flags.StringVar(&f.dir, "dir", "/etc/trousseau", "the `DIR` to write to; made if only its last part is missing")
	flags.StringVar(&f.cluster, "cluster", "", "the cluster's `NAME`, such as prod-eu-1")
	flags.StringVar(&f.socket, "socket", defaultSocket, "the `PATH` where the daemon will listen")
	flags.StringVar(&f.observe, "observe-listen", "127.0.0.1:8095", "the `ADDRESS` where the daemon will serve metrics and health, or off")
	flags.StringSliceVar(&f.resources, "resources", []string{"secrets"}, "which `RESOURCES` to store encrypted, such as secrets,configmaps")

	flags.BoolVar(&f.local, "local", false, "keep the key in a keystore; without one of the next flags a random key is drawn that seals it")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "seal the keystore with the passphrase in this `FILE`")
	flags.StringVar(&f.keyFile, "key-file", "", "seal the keystore with the random key in this `FILE`")
	flags.BoolVar(&f.unsealed, "unsealed", false, "do not seal the keystore; for development only")

	flags.StringArrayVar(&f.addresses, "vault-address", nil, "the `URL` of a Vault or OpenBao server; repeat for each")
	flags.StringVar(&f.key, "vault-key", "", "the `NAME` of the transit key")
	flags.StringVar(&f.mount, "vault-mount", "transit", "the `PATH` where transit is mounted")
	flags.StringVar(&f.namespace, "vault-namespace", "", "the `NAMESPACE` of both, if there is one")
	flags.StringVar(&f.ca, "vault-ca-file", "", "the `FILE` with the certificates that vouch for the servers")
	flags.StringVar(&f.tokenFile, "vault-token-file", "", "log in with the token in this `FILE`")
	flags.StringVar(&f.roleID, "vault-approle-role-id", "", "log in with this AppRole `ID`")
	flags.StringVar(&f.secretIDFile, "vault-approle-secret-id-file", "", "the `FILE` with the AppRole's secret id")

	cmd.MarkFlagsMutuallyExclusive("local", "vault-address")
	cmd.MarkFlagsMutuallyExclusive("passphrase-file", "key-file", "unsealed")
	cmd.MarkFlagsMutuallyExclusive("vault-token-file", "vault-approle-role-id")
	cmd.MarkFlagsRequiredTogether("vault-approle-role-id", "vault-approle-secret-id-file")
	return f
}

func (f *initFlags) vault() bool { return len(f.addresses) > 0 }

// missing lists everything that still has to be given.
func (f *initFlags) missing() (missing []string) {
	add := func(absent bool, what string) {
		if absent {
			missing = append(missing, what)
		}
	}
	add(f.cluster == "", "--cluster")
	add(!f.local && !f.vault(), "--local or --vault-address")
	add(f.vault() && f.key == "", "--vault-key")
	add(f.vault() && f.tokenFile == "" && f.roleID == "", "--vault-token-file or --vault-approle-role-id")
	add(!f.local && (f.unsealed || f.passphrase != "" || f.keyFile != ""), "--local, which how to seal a keystore belongs to")
	add(!f.vault() && (f.key != "" || f.tokenFile != "" || f.roleID != ""), "--vault-address, which the other Vault flags belong to")
	return missing
}

// options turns paths into absolute ones, as configurations have them.
func (f *initFlags) options() (setup.Options, error) {
	o := setup.Options{Dir: f.dir, Cluster: f.cluster, Observe: f.observe, Resources: f.resources}
	var err error
	if o.Socket, err = filepath.Abs(f.socket); err != nil {
		return o, err
	}
	if f.local {
		o.Local = &setup.Local{Unsealed: f.unsealed}
		if o.Local.PassphraseFile, err = credentialFile(f.passphrase); err != nil {
			return o, err
		}
		o.Local.KeyFile, err = credentialFile(f.keyFile)
		return o, err
	}
	v := vault.Config{Addresses: f.addresses, Mount: f.mount, Key: f.key, Namespace: f.namespace}
	if f.ca != "" {
		if v.CAFile, err = filepath.Abs(f.ca); err != nil {
			return o, err
		}
	}
	if v.Auth.TokenFile, err = credentialFile(f.tokenFile); err != nil {
		return o, err
	}
	if f.roleID != "" {
		file, err := credentialFile(f.secretIDFile)
		if err != nil {
			return o, err
		}
		v.Auth.AppRole = &vault.AppRole{RoleID: f.roleID, SecretIDFile: file}
	}
	o.Vault = &v
	return o, nil
}

// explainProblems says what is wrong without naming lines of a file that was not written.
func explainProblems(problems *strictyaml.Problems) error {
	var lines []error
	for _, p := range problems.List {
		lines = append(lines, fmt.Errorf("%s: %s", p.Path, p.Text))
	}
	return errors.Join(lines...)
}

// printNext lists what was written, and what is left to the operator.
func printNext(w io.Writer, r setup.Result) {
	s := styleFor(w)
	fmt.Fprintln(w, s.paint(bold, "Written:"))
	rows := [][]any{{"  " + r.Config, "for trousseaud"}, {"  " + r.EncryptionConfig, "for kube-apiserver"}}
	if r.Keystore != "" {
		rows = append(rows, []any{"  " + r.Keystore, "the key; without it nothing that is stored can be read"})
	}
	if r.KeystoreKey != "" {
		rows = append(rows, []any{"  " + r.KeystoreKey, "what opens the keystore"})
	}
	_ = table(w, rows...)
	if r.KeystoreKey != "" {
		fmt.Fprintf(w, "\nMove %s to another device, or into a systemd credential, and set keyFile\n"+
			"to that: whoever copies it together with the keystore has the key. Keep a copy of both, apart,\n"+
			"outside of the cluster.\n", r.KeystoreKey)
	}
	fmt.Fprintf(w, `
%s
  1. Look at everything:   trousseau check --config %[2]s --encryption-config %[3]s
  2. Copy these files to every control plane node: they must be the same everywhere. Do not run init again.
     If the daemon runs as another user than root, chown them to that user.
  3. Start the daemon:     trousseaud --config %[2]s
     and prove it:         trousseau status --prove --socket %[4]s
  4. Once it runs on every node, copy %[5]s to a directory of its own, such as
     /etc/kubernetes/encryption, and give kube-apiserver:
                           --encryption-provider-config=/etc/kubernetes/encryption/%[5]s
                           --encryption-provider-config-automatic-reload=true
     If it is a static pod, mount that directory and %[6]s into it (hostPath): the directories,
     not the files, which are replaced. Never mount %[7]s.
  5. Write existing objects again, so that they are encrypted too:
                           kubectl get secrets -A -o json | kubectl replace -f -
`, s.paint(bold, "Next:"), r.Config, r.EncryptionConfig, r.Socket, setup.EncryptionName, filepath.Dir(r.Socket), filepath.Dir(r.Config))
}
