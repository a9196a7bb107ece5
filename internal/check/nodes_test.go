package check_test

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/trousseau-io/trousseau/internal/check"
	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/kms"
)

// three are keys of one keystore under three ids: all nodes have them.
const three = disk + `- {name: copy, id: copy, local: {keystore: DIR/keystore, keyFile: DIR/secret}}
- {name: spare, id: spare, local: {keystore: DIR/keystore, keyFile: DIR/secret}}
`

// The policies of a cluster that moves from one key to two of three.
const (
	before = disk
	listed = three + "policies: [{keys: [disk]}, {keys: [disk, copy, spare], need: 2}]\n"
	first  = three + "policies: [{keys: [disk, copy, spare], need: 2}, {keys: [disk]}]\n"
)

// node runs a daemon's plugin over a configuration, on the socket NAME.sock of the site. It adopts versions after delay.
func (s site) node(t *testing.T, name, lines string, delay time.Duration) {
	t.Helper()
	d, err := config.Parse(name, []byte(s.document(lines)))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Open(t.Context(), d, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	plugin := kms.New(kms.Setup{Ring: keys.Ring, Pins: keys.Pins, ProbeInterval: time.Minute, ActivationDelay: delay}, slog.New(slog.DiscardHandler))
	go func() { _ = plugin.Run(t.Context()) }()
	s.serve(t, name, func(server *grpc.Server) { kms.RegisterV2(server, plugin) })
}

func (s site) serve(t *testing.T, name string, register func(*grpc.Server)) {
	t.Helper()
	listener, err := net.Listen("unix", s.socket(name))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
}

func (s site) socket(name string) string { return filepath.Join(s.dir, name+".sock") }

// checkNodes runs over the sockets of nodes and returns what it found about them, a line each, and the fixes.
func (s site) checkNodes(t *testing.T, lines string, nodes ...string) string {
	t.Helper()
	s.write(t, "trousseaud.yaml", s.document(lines))
	o := check.Options{Config: filepath.Join(s.dir, "trousseaud.yaml"), Timeout: 5 * time.Second}
	for _, name := range nodes {
		o.Sockets = append(o.Sockets, s.socket(name))
	}
	var text strings.Builder
	for _, f := range check.Run(t.Context(), o, slog.New(slog.DiscardHandler)) {
		if f.Severity >= finding.Warning && f.Fix == "" {
			t.Errorf("no fix: %+v", f)
		}
		fmt.Fprintf(&text, "%s %s: %s: %s. %s\n", f.Severity, f.Rule, f.Where, f.What, f.Fix)
	}
	return strings.ReplaceAll(strings.ReplaceAll(text.String(), s.dir+"/", ""), ".sock", "")
}

// shortSite has a path that leaves room for the name of a socket.
func shortSite(t *testing.T) site {
	t.Helper()
	s := newSite(t)
	dir, err := os.MkdirTemp("", "check")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"keystore", "secret"} {
		if err := os.Rename(filepath.Join(s.dir, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return site{dir}
}

// wantWords fails the test unless each of the words is in text, or is not, if it begins with "!".
func wantWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		unwanted, not := strings.CutPrefix(word, "!")
		if strings.Contains(text, unwanted) == not {
			t.Errorf("want %q in\n%s", word, text)
		}
	}
}

// TestNodes goes through a change from one policy to another, in the right order and in the wrong one. What check says is
// about the configuration in the last field, mostly that of node a.
func TestNodes(t *testing.T) {
	for _, test := range []struct {
		name, a, b, config string
		want               []string
	}{
		{"nothing changes", before, before, before, []string{
			"ok policy-everywhere: policy 1: each of the 2 nodes opens it and seals under it",
			"ok nodes-open: nodes: each of the 2 opens what the others seal",
			"ok nodes-agree: nodes: all announce t1.",
			"!error ", "!warning nodes", "!warning policy",
		}},
		{"listed on one node", listed, before, listed, []string{
			"ok policy-everywhere: policy 1: each of the 2 nodes opens it and seals under it",
			"error policy-not-everywhere: policy 2: must not be put first yet: b does not open it: unwrapping: the plugin answers " +
				"InvalidArgument: opening: envelope of a policy that is not listed",
			"list it on b as it is listed here, with keys that answer there, and check again before any node puts it first",
			"ok nodes-open", "ok nodes-agree", "!a does not open it",
		}},
		{"listed on both", listed, listed, listed, []string{
			"ok policy-everywhere: policy 2: each of the 2 nodes opens it: it may be put first",
			"ok daemon-key-id: b: announces t1.", ", of policy 1",
			"!error ", "!warning nodes", "!warning policy",
		}},
		{"about to be put first", listed, listed, first, []string{
			"ok policy-everywhere: policy 1: each of the 2 nodes opens it: it may be put first",
			"info nodes-before: nodes: all seal under policy 2, and this configuration puts policy 1 first: that change has not been made",
			"!error ", "!warning nodes", "!warning policy",
		}},
		{"about to be put first too early", listed, before, first, []string{
			"error policy-not-everywhere: policy 1: must not be put first yet: b does not open it",
		}},
		{"first on one node", first, listed, first, []string{
			"ok policy-everywhere: policy 1: each of the 2 nodes opens it: it may be put first",
			"warning nodes-differ: nodes: seal under different policies: a under policy 1, b under policy 2. ",
			"once every node opens policy 1, put it first on b too",
			"ok nodes-open", "!error ",
		}},
		{"first on both", first, first, first, []string{
			"ok policy-everywhere: policy 1: each of the 2 nodes opens it and seals under it",
			"ok policy-everywhere: policy 2: each of the 2 nodes opens it: it may be put first",
			"ok nodes-agree", "!error ", "!warning nodes", "!warning policy",
		}},
		{"first on one node, not listed on the other", first, before, first, []string{
			"error policy-not-everywhere: policy 1: b does not open it, and a seals under it: unwrapping: ",
			"list on b the policy that a seals under, with keys that answer there, or let a seal under the policy before again; " +
				"nothing is lost: all of it is read on b as soon as the policy is listed there",
			"warning nodes-differ", "!nodes-open", "!node-closed",
		}},
		{"seen from the node where it is not listed", first, before, before, []string{
			"error daemon-key-id: a: announces t1.", "which this configuration does not give",
			"error node-closed: b: does not open what a seals: unwrapping: ",
			"!nodes-agree", "!nodes-open",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := shortSite(t)
			s.node(t, "a", test.a, 0)
			s.node(t, "b", test.b, 0)
			wantWords(t, s.checkNodes(t, test.config, "a", "b"), test.want...)
		})
	}
}

// TestNodesOfDifferentVersions has one node that goes on with the version before.
func TestNodesOfDifferentVersions(t *testing.T) {
	s := shortSite(t)
	path := filepath.Join(s.dir, "two")
	if _, err := keystore.Create(path, keystore.Unsealed()); err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Rotate(path, keystore.Unsealed(), 0); err != nil {
		t.Fatal(err)
	}
	const lines = "keys: [{name: disk, local: {keystore: DIR/two, unsealed: true}}]\n"
	s.node(t, "a", lines, 0)
	s.node(t, "b", lines, time.Hour)
	wantWords(t, s.checkNodes(t, lines, "a", "b"), "warning nodes-versions: nodes: seal with different versions of key local: a with ", ", b with ",
		"if it is still so after 3m0s: copy a keystore to all nodes", "ok nodes-open", "!nodes-agree")
}

// TestNodesWithoutOne has a node that does not answer: nothing may be said to be everywhere.
func TestNodesWithoutOne(t *testing.T) {
	s := shortSite(t)
	s.node(t, "a", listed, 0)
	wantWords(t, s.checkNodes(t, listed, "a", "b"), "error daemon: b: looking for the socket",
		"warning nodes-silent: nodes: no policy may be put first while b does not answer", "!policy-everywhere", "!policy-not-everywhere", "!nodes-open", "!nodes-agree")
}

// TestNodesWithoutAKeyHere cannot seal for the nodes: nothing is said of what they open.
func TestNodesWithoutAKeyHere(t *testing.T) {
	s := shortSite(t)
	s.node(t, "a", listed, 0)
	s.node(t, "b", listed, 0)
	gone := strings.Replace(listed, "id: spare, local: {keystore: DIR/keystore", "id: spare, local: {keystore: DIR/gone", 1)
	wantWords(t, s.checkNodes(t, gone, "a", "b"), "error key-open: key spare",
		"warning policy-untried: policy 2: must not be put first yet: nothing could be sealed under it here", "!policy-everywhere", "ok nodes-open")
}

// TestNodesOnThisHost looks at the files of the socket that the configuration names, and of no other one.
func TestNodesOnThisHost(t *testing.T) {
	s := shortSite(t)
	s.node(t, "kms", before, 0)
	s.node(t, "b", before, 0)
	for name, mode := range map[string]os.FileMode{"kms": 0o640, "b": 0o777} {
		if err := os.Chmod(s.socket(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	wantWords(t, s.checkNodes(t, before, "kms", "b"), "warning socket-mode: kms: mode 0640 is not the configuration's 0600", "!socket-mode: b")
}
