package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

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

	services []string
	settings []setting
	need     int
}

// setting is one --set. It belongs to the --key-service before it, or to the first one.
type setting struct {
	after int // how many --key-service came before
	text  string
}

func newInit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write the daemon's configuration, a keystore if needed, and the EncryptionConfiguration",
		Long: `Writes into a directory what a cluster needs to start with Trousseau, and says what to do next. Nothing outside of the
directory is changed, no existing file is overwritten, and either all files are written or none. What is not given is asked
for on a terminal.

A key is either in a keystore that is made here (--local), or exists already in a key service (--key-service). Its settings
are those that docs/configuration.md has for that key service, such as auth.tokenFile; give a list item by item.

With several keys, each holds a share of what is sealed, and --need of them open it. A key service together with --local is
recommended: who takes over the key service alone, or steals the keystore alone, opens nothing, and no second server is
needed. docs/operate/several-keys.md says how to choose.`,
		Example: `  trousseau init --cluster prod-eu-1 --local
  trousseau init --cluster prod-eu-1 --local --key-service vault --set addresses=https://vault-1:8200 --set key=k8s \
    --set auth.approle.roleID=ROLE --set auth.approle.secretIDFile=/etc/trousseau/secret-id
  trousseau init --cluster prod-eu-1 --local --need 2 --key-service awskms --set keyARN=ARN --key-service gcpkms --set key=NAME`,
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

	flags.BoolVar(&f.local, "local", false, "keep a key in a keystore; without one of the next flags a random key is drawn that seals it")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "seal the keystore with the passphrase in this `FILE`")
	flags.StringVar(&f.keyFile, "key-file", "", "seal the keystore with the random key in this `FILE`")
	flags.BoolVar(&f.unsealed, "unsealed", false, "do not seal the keystore; for development only")

	flags.Func("key-service", "take a key of the key service `NAME`; repeat for each: "+strings.Join(setup.Services(), ", "), func(name string) error {
		f.services = append(f.services, name)
		return nil
	})
	flags.Func("set", "set `FIELD=VALUE` of the key service before it; repeat for each, and for each item of a list", func(text string) error {
		f.settings = append(f.settings, setting{len(f.services), text})
		return nil
	})
	flags.IntVar(&f.need, "need", 0, "open with any `N` of the keys; 0 means all of them")

	cmd.MarkFlagsMutuallyExclusive("passphrase-file", "key-file", "unsealed")
	return f
}

// missing lists everything that still has to be given.
func (f *initFlags) missing() (missing []string) {
	add := func(absent bool, what string) {
		if absent {
			missing = append(missing, what)
		}
	}
	add(f.cluster == "", "--cluster")
	add(!f.local && f.services == nil, "--local or --key-service")
	add(!f.local && (f.unsealed || f.passphrase != "" || f.keyFile != ""), "--local, which how to seal a keystore belongs to")
	add(f.services == nil && f.settings != nil, "--key-service, which --set belongs to")
	return missing
}

// options turns paths into absolute ones, as configurations have them.
func (f *initFlags) options() (setup.Options, error) {
	o := setup.Options{Dir: f.dir, Cluster: f.cluster, Observe: f.observe, Resources: f.resources, Need: f.need}
	var err error
	if o.Socket, err = filepath.Abs(f.socket); err != nil {
		return o, err
	}
	if f.local {
		o.Local = &setup.Local{Unsealed: f.unsealed}
		if o.Local.PassphraseFile, err = credentialFile(f.passphrase); err != nil {
			return o, err
		}
		if o.Local.KeyFile, err = credentialFile(f.keyFile); err != nil {
			return o, err
		}
	}
	for _, name := range f.services {
		if !slices.Contains(setup.Services(), name) {
			return o, badUsage{fmt.Errorf("there is no key service %q: take one of %s, or --local", name, strings.Join(setup.Services(), ", "))}
		}
		o.Services = append(o.Services, setup.Service{Name: name})
	}
	for _, s := range f.settings {
		path, value, found := strings.Cut(s.text, "=")
		if !found || path == "" || value == "" {
			return o, badUsage{fmt.Errorf("--set %q is not FIELD=VALUE", s.text)}
		}
		service := &o.Services[max(s.after, 1)-1]
		service.Settings = append(service.Settings, setup.Setting{Path: path, Value: value})
	}
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
	if r.Keystore != "" && r.Policy == "" {
		rows = append(rows, []any{"  " + r.Keystore, "the key; without it nothing that is stored can be read"})
	} else if r.Keystore != "" {
		rows = append(rows, []any{"  " + r.Keystore, "one of the keys"})
	}
	if r.KeystoreKey != "" {
		rows = append(rows, []any{"  " + r.KeystoreKey, "what opens the keystore"})
	}
	_ = table(w, rows...)
	if r.Policy != "" {
		fmt.Fprintf(w, "\nWhat is sealed opens with %s. Without that many of these keys nothing that is\n"+
			"stored can be read. The daemon keeps state in %s: make it on every node (mode 0700).\n", r.Policy, r.StateDir)
	}
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
