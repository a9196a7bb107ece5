// Package tpmtest starts TPMs for tests: swtpm, a program that plays a TPM 2.0 with all its cryptography, states and
// refusals. Only tests may import it.
package tpmtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// TPM is a running swtpm. Its methods fail the test rather than return errors.
type TPM struct {
	*testserver.Process // to stop it, and to start it again: a reboot, which resets the PCRs
	Device              tpmseal.Device

	t testing.TB
}

// Start starts a new TPM behind a port of this host. It runs for as long as the test lasts.
func Start(t testing.TB) *TPM {
	t.Helper()
	address := testserver.FreeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	return start(t, tpmseal.Device(address), "type=tcp,bindaddr=127.0.0.1,port="+port)
}

// StartUnix is Start with a Unix socket.
func StartUnix(t testing.TB) *TPM {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // the folder of a test has too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	return start(t, tpmseal.Device(socket), "type=unixio,path="+socket)
}

func start(t testing.TB, device tpmseal.Device, server string) *TPM {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		testserver.Missing(t, "swtpm", "apt-get install swtpm")
	}
	tpm := &TPM{Device: device, t: t}
	tpm.Process = testserver.Start(t, testserver.Command{
		Name: "swtpm", Path: path,
		Args:  []string{"socket", "--tpm2", "--tpmstate", "dir=" + t.TempDir(), "--server", server, "--flags", "startup-clear"},
		Ready: func(context.Context) error { return tpm.do(func(transport.TPM) error { return nil }) },
	})
	return tpm
}

// Extend changes the value of a PCR, as the start of another program would.
func (tpm *TPM) Extend(pcr int) {
	tpm.t.Helper()
	tpm.must("extending a PCR", func(t transport.TPM) error {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
				{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)},
			}},
		}.Execute(t)
		return err
	})
}

// Clear makes the TPM forget its owner, whose sealed keys never open again.
func (tpm *TPM) Clear() {
	tpm.t.Helper()
	tpm.must("clearing the TPM", func(t transport.TPM) error {
		_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(t)
		return err
	})
}

// SetOwnerPassword gives the owner a password.
func (tpm *TPM) SetOwnerPassword(password string) {
	tpm.t.Helper()
	tpm.must("setting the owner's password", func(t transport.TPM) error {
		_, err := tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NewAuth:    tpm2.TPM2BAuth{Buffer: []byte(password)},
		}.Execute(t)
		return err
	})
}

// Loaded returns how many objects and sessions are left in the TPM, which holds three of each.
func (tpm *TPM) Loaded() (n int) {
	tpm.t.Helper()
	tpm.must("counting objects and sessions", func(t transport.TPM) error {
		for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} {
			answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 16}.Execute(t)
			if err != nil {
				return err
			}
			handles, err := answer.CapabilityData.Data.Handles()
			if err != nil {
				return err
			}
			n += len(handles.Handle)
		}
		return nil
	})
	return n
}

func (tpm *TPM) must(what string, f func(transport.TPM) error) {
	tpm.t.Helper()
	if err := tpm.do(f); err != nil {
		tpm.t.Fatalf("%s: %v", what, err)
	}
}

func (tpm *TPM) do(f func(transport.TPM) error) error {
	network := "tcp"
	if filepath.IsAbs(string(tpm.Device)) {
		network = "unix"
	}
	conn, err := net.Dial(network, string(tpm.Device))
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close()
	return f(transport.FromReadWriteCloser(conn))
}
