package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/trousseau-io/trousseau/internal/keyservice/awskms/awskmstest"
	"github.com/trousseau-io/trousseau/internal/kmsclient"
	"github.com/trousseau-io/trousseau/internal/testserver"
	"github.com/trousseau-io/trousseau/lab/cluster"
	"github.com/trousseau-io/trousseau/lab/keyservices"
)

// bench is a cluster over three key services that can be broken. bao is a real Vault behind a front with TLS, which the
// daemon knows by a name; disk is a keystore; aws is a fake.
type bench struct {
	policy    string
	sandbox   *sandbox
	vault     *testserver.Vault
	front     *testserver.Front
	token     string // file of the daemon's credential for Vault
	keystore  string // file
	aws       *awskmstest.Fake
	d         *daemon
	command   []string // that runs the daemon
	c         *cluster.Running
	apiServer *testserver.Process // has started when it answers: its /livez waits up to a minute for its KMS plugin
	w         *witness
}

const vaultName = "bao.lab.test"

func startBench(t *testing.T, policy string) *bench {
	t.Helper()
	b := &bench{policy: policy, sandbox: startSandbox(t), token: filepath.Join(t.TempDir(), "token")}
	b.vault, _ = vaultKey(t)
	b.front = testserver.StartFront(t, vaultName, b.vault.Address)
	b.sandbox.resolve(t, vaultName)
	b.newToken(t)
	bao := fmt.Sprintf("name: bao, vault: {addresses: [\"https://%s:%s\"], caFile: %s, mount: transit, key: k8s, auth: {tokenFile: %s}}",
		vaultName, b.front.Port, b.front.CA.File, b.token)
	config := daemonConfig{key: bao, alive: true, inside: b.sandbox.inside()}
	if policy != one {
		disk, aws := b.moreKeys(t)
		config.more = fmt.Sprintf("- {%s}\n- {%s}\n", disk, aws)
	}
	config.more += fmt.Sprintf("policies: [%s]\nstateDir: %s\n", policies[policy], b.sandbox.state)
	b.d = startDaemon(t, config)
	b.command = append(config.inside, testserver.Binary(t, "trousseaud", ""), "--config", b.d.file)
	eventually(t, slack, b.full)
	b.c = cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, b.d.kmsV2())})
	b.w = &witness{cluster: b.c}
	b.c.APIServer.Stop()
	apiServer := b.c.Cluster.APIServer()
	apiServer.Ready = func(context.Context) error {
		_, err := b.c.Client.Discovery().ServerVersion()
		return err
	}
	b.apiServer = testserver.Start(t, apiServer)
	return b
}

func (b *bench) moreKeys(t *testing.T) (disk, aws string) {
	t.Helper()
	for _, service := range keyservices.All() {
		if service.Name == "local" {
			disk = service.Start(t).Entry
		}
	}
	_, rest, _ := strings.Cut(disk, "keystore: ")
	b.keystore, _, _ = strings.Cut(rest, ",")
	b.aws = awskmstest.Start(t)
	credentials, _ := b.aws.CredentialsFile(t)
	return disk, fmt.Sprintf("name: aws, awskms: {keyARN: %q, endpoint: %q, credentialsFile: %s}", b.aws.CreateKey(true), b.aws.URL, credentials)
}

// newToken gives the daemon a new credential for Vault, by renaming a file.
func (b *bench) newToken(t *testing.T) {
	t.Helper()
	secret, err := b.vault.Client().Auth().Token().Create(&api.TokenCreateRequest{TTL: "1h"})
	if err != nil {
		t.Fatalf("creating a token: %v", err)
	}
	next := writeFile(t, filepath.Dir(b.token), "next", secret.Auth.ClientToken)
	if err := os.Rename(next, b.token); err != nil {
		t.Fatal(err)
	}
}

// full returns an error unless every key works.
func (b *bench) full() error {
	metrics, err := b.d.metrics()
	if err == nil && !strings.Contains(metrics, `trousseau_state{state="full"} 1`) {
		err = errors.New("not every key works")
	}
	return err
}

func vaultDown(_ *testing.T, b *bench) func() {
	b.vault.Stop()
	return b.vault.Start
}

// twoDown leaves the keystore, one key of the two that are needed.
func twoDown(t *testing.T, b *bench) func() {
	start := vaultDown(t, b)
	mend := b.aws.Faults.Set(testserver.Cut)
	return func() {
		start()
		mend()
	}
}

// allDown takes the keystore away as well. A running daemon has it in memory.
func allDown(t *testing.T, b *bench) func() {
	repair := twoDown(t, b)
	if err := os.Rename(b.keystore, b.keystore+".away"); err != nil {
		t.Fatal(err)
	}
	return func() {
		repair()
		if err := os.Rename(b.keystore+".away", b.keystore); err != nil {
			t.Fatal(err)
		}
	}
}

func vaultSlow(_ *testing.T, b *bench) func() { return b.front.Set(testserver.Slow) }

func vaultGarbles(_ *testing.T, b *bench) func() { return b.front.Set(testserver.Garble) }

// certificateExpired shows another certificate to those who connect anew, and makes all do so.
func certificateExpired(t *testing.T, b *bench) func() {
	return b.shows(t, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Minute))
}

func (b *bench) shows(t *testing.T, from, until time.Time) (repair func()) {
	b.front.Show(t, from, until)
	b.front.HangUp()
	return func() { b.front.Show(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)) }
}

func tokenRevoked(t *testing.T, b *bench) func() {
	token, err := os.ReadFile(b.token)
	if err != nil {
		t.Fatal(err)
	}
	b.vault.Write("auth/token/revoke", map[string]any{"token": string(token)})
	return func() { b.newToken(t) }
}

// nameGone makes the daemon connect anew when it has forgotten the address.
func nameGone(t *testing.T, b *bench) func() {
	b.sandbox.resolve(t, "")
	time.Sleep(6 * time.Second)
	b.front.HangUp()
	return func() { b.sandbox.resolve(t, vaultName) }
}

func diskFull(t *testing.T, b *bench) func() {
	empty := b.sandbox.fill(t)
	return func() {
		if !strings.Contains(b.d.Log(), "no space left on device") {
			t.Error("the daemon has not noticed that the disk is full")
		}
		empty()
	}
}

// clockBehind sets the clocks of the others ahead, because that of this machine is not to be touched: Vault's certificate is
// not valid yet, and AWS finds signatures that are an hour old.
func clockBehind(t *testing.T, b *bench) func() {
	repair := b.shows(t, time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
	if b.aws == nil {
		return repair
	}
	b.aws.SetClock(time.Hour)
	return func() {
		repair()
		b.aws.SetClock(0)
	}
}

// killedInACall kills the daemon while it seals, with a key service that takes requests and does not answer them.
func killedInACall(t *testing.T, b *bench) func() {
	repair := b.front.Set(testserver.Stall)
	client, err := kmsclient.Dial(kmsclient.Options{Socket: b.d.socket})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	sealed := make(chan error, 1)
	go func() {
		_, err := client.Encrypt(t.Context(), "killed", []byte("0123456789abcdef0123456789abcdef"))
		sealed <- err
	}()
	time.Sleep(500 * time.Millisecond)
	b.d.Kill()
	if err := <-sealed; err == nil {
		t.Error("a call was answered by a daemon that was killed in the middle of it")
	}
	b.d.Start()
	return repair
}
