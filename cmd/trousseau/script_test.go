package main_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"
	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"

	"github.com/trousseau-io/trousseau/internal/socket"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// TestScripts runs what an operator types. The programs are those that users get, built once.
func TestScripts(t *testing.T) {
	bin := build(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", Setup: setup(bin), Cmds: commands(), RequireExplicitExec: true, RequireUniqueNames: true,
	})
}

// TestVaultScripts does the same beside a real Vault, which all scripts share.
func TestVaultScripts(t *testing.T) {
	vault := testserver.StartVault(t)
	vault.MountTransit("transit")
	vault.CreateKey("transit", "k8s", map[string]any{"type": "aes256-gcm96"})
	vault.CreateKey("transit", "loose", map[string]any{"type": "aes256-gcm96", "exportable": true})
	bin, cmds := build(t), commands()
	// token makes a token that may do what a policy says: token POLICY FILE
	cmds["token"] = func(ts *testscript.TestScript, _ bool, args []string) {
		vault.Write("sys/policies/acl/script", map[string]any{"policy": ts.ReadFile(args[0])})
		token, err := vault.Client().Auth().Token().CreateOrphanWithContext(context.Background(), &api.TokenCreateRequest{
			Policies: []string{"script"}, NoDefaultPolicy: true, Period: "24h",
		})
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(token.Auth.ClientToken), 0o600))
	}
	cmds["seal"] = func(*testscript.TestScript, bool, []string) { vault.Seal() }
	cmds["unseal"] = func(*testscript.TestScript, bool, []string) { vault.Unseal() }
	testscript.Run(t, testscript.Params{
		Dir: "testdata/vault", Cmds: cmds, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("ADDRESS", vault.Address)
			err := os.WriteFile(filepath.Join(env.WorkDir, "root-token"), []byte(vault.RootToken), 0o600)
			return errors.Join(err, setup(bin)(env))
		},
	})
}

// programs is the directory of the two programs.
var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "trousseau")
	if err != nil {
		panic(err)
	}
	programs = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// build returns the directory of the two programs, which are built once, for the first test that needs them.
func build(t *testing.T) string {
	t.Helper()
	if output, err := buildOnce(); err != nil {
		t.Fatalf("building the programs: %v\n%s", err, output)
	}
	return programs
}

var buildOnce = sync.OnceValues(func() ([]byte, error) {
	return exec.Command("go", "build", "-o", programs, ".", "../trousseaud").CombinedOutput()
})

// setup gives each script a directory in which a daemon may listen.
func setup(bin string) func(*testscript.Env) error {
	return func(env *testscript.Env) error {
		env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
		env.Setenv("SOCKET", filepath.Join(env.WorkDir, "run", "kms.sock"))
		return errors.Join(os.Chmod(env.WorkDir, 0o755), os.Mkdir(filepath.Join(env.WorkDir, "run"), 0o700))
	}
}

func commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits": exits, "store": store, "cut": cut, "flip": flip, "suspend": suspend,
	}
}

// exits runs a command and wants an exit code: exits CODE PROGRAM ARGS...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// store writes what an API server would write to etcd: store SOCKET FILE
func store(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	service, err := kmsv2.NewGRPCService(ctx, "unix://"+args[0], "trousseau", 3*time.Second)
	ts.Check(err)
	seed, object, cacheKey, err := kmsv2.GenerateTransformer(ctx, "store", service, true)
	ts.Check(err)
	state := kmsv2.State{
		Transformer: seed, CacheKey: cacheKey, ExpirationTimestamp: time.Now().Add(time.Minute),
		EncryptedObjectKeyID: object.KeyID, EncryptedObjectEncryptedDEKSource: object.EncryptedDEKSource,
		EncryptedObjectAnnotations:            object.Annotations,
		EncryptedObjectEncryptedDEKSourceType: kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED,
	}
	writer := kmsv2.NewEnvelopeTransformer(service, "trousseau", func() (kmsv2.State, error) { return state, nil }, "")
	stored, err := writer.TransformToStorage(ctx, []byte("secret"), value.DefaultContext("/registry/secrets/default/s"))
	ts.Check(err)
	stored = fmt.Appendf(nil, "k8s:enc:kms:v2:trousseau:%s", stored)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), stored, 0o600))
}

// cut removes the last bytes of a file: cut FILE COUNT
func cut(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	content := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(content[:len(content)-n]), 0o600))
}

// flip changes one bit of a byte, counted from the end of a file: flip FILE COUNT
func flip(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	content := []byte(ts.ReadFile(args[0]))
	content[len(content)-n] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o600))
}

// suspend stops the process that listens on a socket, so that it hangs: suspend SOCKET
func suspend(ts *testscript.TestScript, _ bool, args []string) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: args[0], Net: "unix"})
	ts.Check(err)
	defer c.Close()
	peer, err := socket.PeerOf(c)
	ts.Check(err)
	ts.Check(syscall.Kill(int(peer.PID), syscall.SIGSTOP))
}
