package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms/awskmstest"
	"github.com/trousseau-io/trousseau/internal/testserver"
	"github.com/trousseau-io/trousseau/lab/cluster"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The policies that these tests move between.
const (
	onVault = "{keys: [bao]}"
	onThree = "{keys: [bao, disk, aws], need: 2}"
	onAWS   = "{keys: [aws]}"
)

// node is a control plane node: a daemon and an API server. All nodes have one etcd.
type node struct {
	*daemon
	server *cluster.Running
	peer   *node
	keys   map[string]string // entries of keys, by name
}

// startNodes starts two nodes that seal under the policy on Vault. Their keys are so that "trousseau check" has nothing to
// say against them.
func startNodes(t *testing.T) (one, two *node) {
	t.Helper()
	vault := testserver.StartVault(t)
	vault.MountTransit("transit")
	vault.CreateKey("transit", "k8s", map[string]any{"type": "aes256-gcm96"})
	token := writeFile(t, t.TempDir(), "token", vault.RootToken)
	bao := fmt.Sprintf("name: bao, vault: {addresses: [%q], mount: transit, key: k8s, auth: {tokenFile: %s}}", vault.Address, token)
	aws, disks, lineage := roleOfAWS(t), twoKeystores(t), newLineage()
	one = &node{keys: map[string]string{"bao": bao, "aws": aws, "disk": disks[0]}}
	two = &node{keys: map[string]string{"bao": bao, "aws": aws, "disk": disks[1]}, peer: one}
	one.peer = two
	for _, n := range []*node{one, two} {
		n.daemon = startDaemon(t, daemonConfig{key: bao, lineage: lineage})
	}
	leastToken(t, vault, one.file, token)
	one.server = cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, one.kmsV2())})
	two.server = one.server.Join(t, encryptionConfig(t, two.kmsV2()))
	return one, two
}

// roleOfAWS is the entry of a key that is used with the short-lived credentials of a role.
func roleOfAWS(t *testing.T) string {
	t.Helper()
	fake := awskmstest.Start(t)
	arn := fake.CreateKey(true)
	fake.SetAutomaticRotation(arn, true)
	credentials := writeFile(t, t.TempDir(), "credentials", fmt.Sprintf(
		"[services fake]\nsts =\n  endpoint_url = %s\n[default]\nservices = fake\nrole_arn = %s\nweb_identity_token_file = %s\n",
		fake.URL, fake.NewRole("node", "", "jwt", time.Hour), writeFile(t, t.TempDir(), "token", "jwt")))
	return fmt.Sprintf("name: aws, awskms: {keyARN: %q, endpoint: %q, credentialsFile: %s}", arn, fake.URL, credentials)
}

// twoKeystores are the entries of one keystore that was copied to two nodes.
func twoKeystores(t *testing.T) (entries [2]string) {
	t.Helper()
	secret, keystore := writeFile(t, t.TempDir(), "secret", strings.Repeat("s3", 32)), filepath.Join(t.TempDir(), "keystore")
	if code, text := trousseau(t, "keystore", "create", "--key-file", secret, keystore); code != 0 {
		t.Fatalf("creating a keystore: %s", text)
	}
	content, err := os.ReadFile(keystore)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		entries[i] = fmt.Sprintf("name: disk, local: {keystore: %s, keyFile: %s}", writeFile(t, t.TempDir(), "keystore", string(content)), secret)
	}
	return entries
}

// leastToken replaces the root token in a file by one that may do what a configuration needs.
func leastToken(t *testing.T, vault *testserver.Vault, config, file string) {
	t.Helper()
	_, policy := trousseau(t, "check", "--config", config, "--print-policy")
	vault.Write("sys/policies/acl/least", map[string]any{"policy": policy})
	token, err := vault.Client().Auth().Token().CreateOrphanWithContext(t.Context(), &api.TokenCreateRequest{
		Policies: []string{"least"}, NoDefaultPolicy: true, Period: "24h",
	})
	if err != nil {
		t.Fatalf("creating a token: %v", err)
	}
	writeFile(t, filepath.Dir(file), filepath.Base(file), token.Auth.ClientToken)
}

// trousseau runs the operator's tool and returns its exit code and all that it said.
func trousseau(t *testing.T, args ...string) (code int, text string) {
	t.Helper()
	output, err := exec.Command(testserver.Binary(t, "trousseau", "run: make build"), args...).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), string(output)
	}
	if err != nil {
		t.Fatalf("trousseau %q: %v", args, err)
	}
	return 0, string(output)
}

// lists configures the daemon with policies, the first of which seals, and with their keys.
func (n *node) lists(t *testing.T, policies ...string) {
	t.Helper()
	all := strings.Join(policies, ", ")
	var keys []string
	for _, name := range []string{"bao", "disk", "aws"} {
		if strings.Contains(all, name) {
			keys = append(keys, n.keys[name])
		}
	}
	config := daemonConfig{key: keys[0]}
	for _, key := range keys[1:] {
		config.more += "- {" + key + "}\n"
	}
	config.more += "policies: [" + all + "]\n"
	n.configure(t, config)
}

// check runs "trousseau check" over both nodes until it says all of the words and exits with the code.
func (n *node) check(t *testing.T, want int, words ...string) {
	t.Helper()
	names := strings.NewReplacer("ME", n.socket, "PEER", n.peer.socket)
	var text string
	eventually(t, 30*time.Second, func() (err error) {
		var code int
		code, text = trousseau(t, "check", "--config", n.file, "--socket", n.socket, "--socket", n.peer.socket)
		if code != want {
			return fmt.Errorf("exit code %d, want %d:\n%s", code, want, text)
		}
		for _, word := range words {
			if !strings.Contains(text, names.Replace(word)) {
				return fmt.Errorf("it does not say %q:\n%s", names.Replace(word), text)
			}
		}
		return nil
	})
	t.Logf("trousseau check:\n%s", text)
}

// awaitKeyID writes until the API server seals under another key id than before, and returns it with the Secret's name.
func (n *node) awaitKeyID(t *testing.T, before, prefix string) (id, name string) {
	t.Helper()
	tries := 0
	took := eventually(t, 90*time.Second, func() error {
		n.server.Ready(t.Context()) // makes the API server ask for the status at most 20 s after it last did, rather than 60
		name = fmt.Sprintf("%s-%d", prefix, tries)
		tries++
		createSecret(t, n.server, name, plaintext)
		if id = keyID(t, n.server, name); id == before {
			return fmt.Errorf("secret %q is written under the old key id", name)
		}
		return nil
	})
	t.Logf("%s is under another key id after %s", name, took.Round(time.Second))
	return id, name
}

// TestChangingKeysOverNodes moves two nodes from Vault to two of three, and on to AWS alone, while both API servers write
// and each reads at once what the other one wrote. No call may fail. In the end nothing needs the keys of the beginning.
func TestChangingKeysOverNodes(t *testing.T) {
	t.Parallel()
	one, two := startNodes(t)
	createSecret(t, one.server, "before", plaintext)
	before := keyID(t, one.server, "before")
	writers, stop := load(t, one, two, true)

	one.check(t, 0, "each of the 2 nodes opens it and seals under it", "each of the 2 opens what the others seal")
	one.lists(t, onVault, onThree)
	one.check(t, 3, "must not be put first yet: PEER does not open it", "envelope of a policy that is not listed", "list it on PEER")
	two.lists(t, onVault, onThree)
	one.check(t, 0, "each of the 2 nodes opens it: it may be put first")
	one.lists(t, onThree, onVault)
	one.check(t, 3, "ME under policy 1, PEER under policy 2", "put it first on PEER too")
	two.lists(t, onThree, onVault)
	two.check(t, 0, "all announce t1.")
	three, _ := one.awaitKeyID(t, before, "three")
	if id, _ := two.awaitKeyID(t, before, "three-too"); id != three {
		t.Errorf("the nodes write under %s and %s", three, id)
	}

	for _, order := range [][]string{{onThree, onVault, onAWS}, {onAWS, onThree, onVault}} {
		for _, n := range []*node{one, two} {
			n.lists(t, order...)
		}
		one.check(t, 0, "each of the 2 nodes opens it: it may be put first")
	}
	one.awaitKeyID(t, three, "aws")
	two.awaitKeyID(t, three, "aws-too")
	stop()
	for _, n := range []*node{one, two} {
		n.server.APIServer.Restart()
		wantWritten(t, n.server, writers)
	}

	rewrite(t, one.server)
	for _, n := range []*node{one, two} {
		n.lists(t, onAWS)
	}
	one.check(t, 0, "1 key, 1 policy", "all announce t1.")
	for _, n := range []*node{one, two} {
		n.server.APIServer.Restart()
		wantWritten(t, n.server, writers)
		wantSecret(t, n.server, "before", plaintext)
	}
}

// load has both API servers write, and each read what the other one wrote if it is to, until stop. No call may fail.
func load(t *testing.T, one, two *node, read bool) (writers []writer, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	writers = make([]writer, 4)
	for i := range writers {
		n := []*node{one, two}[i%2]
		writers[i] = writer{name: fmt.Sprintf("writer-%d", i), possible: make(map[string][]string)}
		if read {
			writers[i].elsewhere = n.peer.server
		}
		running.Go(func() { writers[i].run(ctx, n.server) })
	}
	return writers, func() {
		t.Helper()
		cancel()
		running.Wait()
		acked, read := 0, 0
		for _, w := range writers {
			acked, read = acked+w.acked, read+w.read
			for _, err := range w.failed {
				t.Errorf("%s: %v", w.name, err)
			}
		}
		t.Logf("%d writes, %d reads of them on the other node", acked, read)
	}
}

// rewrite stores everything that is encrypted anew, without a change.
func rewrite(t *testing.T, c *cluster.Running) {
	t.Helper()
	ctx, core := t.Context(), c.Client.CoreV1()
	secrets, err := core.Secrets("").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatalf("listing secrets: %v", err)
	}
	for _, s := range secrets.Items {
		if _, err := core.Secrets(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, []byte("{}"), metav1.PatchOptions{}); err != nil {
			t.Fatalf("rewriting secret %s: %v", s.Name, err)
		}
	}
	maps, err := core.ConfigMaps("").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatalf("listing config maps: %v", err)
	}
	for _, m := range maps.Items {
		if _, err := core.ConfigMaps(m.Namespace).Patch(ctx, m.Name, types.MergePatchType, []byte("{}"), metav1.PatchOptions{}); err != nil {
			t.Fatalf("rewriting config map %s: %v", m.Name, err)
		}
	}
}

// TestChangingKeysInTheWrongOrder puts a policy first on one node while the other one does not list it. The check says
// before what will happen, and after what did. The other node says why it cannot read. Both write all the time, and nothing
// is lost.
func TestChangingKeysInTheWrongOrder(t *testing.T) {
	t.Parallel()
	one, two := startNodes(t)
	createSecret(t, one.server, "before", plaintext)
	before := keyID(t, one.server, "before")

	writers, stop := load(t, one, two, false)
	one.lists(t, onVault, onThree)
	one.check(t, 3, "must not be put first yet: PEER does not open it")
	one.lists(t, onThree, onVault)
	one.check(t, 3, "PEER does not open it, and ME seals under it", "list on PEER the policy that ME seals under", "nothing is lost")
	two.check(t, 3, "does not open what PEER seals", "announces t1.", "which this configuration does not give")
	_, unread := one.awaitKeyID(t, before, "unread")

	err := readSecret(t.Context(), two.server, unread, plaintext)
	t.Logf("reading on the other node: %v", err)
	for _, word := range []string{"envelope of a policy that is not listed", "list the policy that sealed it"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("reading on the other node: %v, want %q", err, word)
		}
	}
	wantSecret(t, two.server, "before", plaintext)
	createSecret(t, two.server, "still", plaintext)
	wantSecret(t, one.server, "still", plaintext)

	two.lists(t, onVault, onThree)
	took := eventually(t, 30*time.Second, func() error { return readSecret(t.Context(), two.server, unread, plaintext) })
	t.Logf("read on the other node %s after the policy was listed there", took.Round(time.Second))
	two.lists(t, onThree, onVault)
	one.check(t, 0, "all announce t1.")
	stop()
	for _, n := range []*node{one, two} {
		n.server.APIServer.Restart()
		wantWritten(t, n.server, writers)
		for _, name := range []string{"before", "still", unread} {
			wantSecret(t, n.server, name, plaintext)
		}
	}
}
