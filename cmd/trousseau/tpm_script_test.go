package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmtest"
)

// TestTPMScripts runs what an operator types on two nodes, each with a TPM: $TPM1 and $TPM2. There is one script, because
// what it does to the TPMs would disturb another.
func TestTPMScripts(t *testing.T) {
	tpms := map[string]*tpmtest.TPM{"1": tpmtest.Start(t), "2": tpmtest.Start(t)}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	bin, cmds := build(t), commands()
	// extend changes a PCR: extend TPM PCR
	cmds["extend"] = func(ts *testscript.TestScript, _ bool, args []string) {
		pcr, err := strconv.Atoi(args[1])
		ts.Check(err)
		tpms[args[0]].Extend(pcr)
	}
	// reboot restarts a TPM, so that its PCRs begin anew: reboot TPM
	cmds["reboot"] = func(_ *testscript.TestScript, _ bool, args []string) { tpms[args[0]].Restart() }
	// clear makes a TPM forget its owner: clear TPM
	cmds["clear"] = func(_ *testscript.TestScript, _ bool, args []string) { tpms[args[0]].Clear() }
	// fingerprint sets a variable to the fingerprint of a request: fingerprint VARIABLE FILE
	cmds["fingerprint"] = func(ts *testscript.TestScript, _ bool, args []string) {
		request, err := tpmseal.ParseRequest([]byte(ts.ReadFile(args[1])))
		ts.Check(err)
		ts.Setenv(args[0], request.Fingerprint())
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/tpm", Cmds: cmds, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			for name, tpm := range tpms {
				env.Setenv("TPM"+name, string(tpm.Device))
			}
			env.Setenv("RECIPIENT", identity.Recipient().String())
			err := os.WriteFile(filepath.Join(env.WorkDir, "identity"), []byte(identity.String()+"\n"), 0o600)
			return errors.Join(err, setup(bin)(env))
		},
	})
}
