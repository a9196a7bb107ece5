// Package nodelock locks this node and unlocks it, and tells what is left to be done by hand: in the key services, in API
// servers and on other nodes.
//
// Locking depends on nobody: the marker is put first, and the daemon looks at it before it answers a call, so that a daemon
// that does not answer is only a matter of wiping its memory. What was done is proven by calling the daemon as the API server
// does. The package changes nothing but this node.
package nodelock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/trousseau-io/trousseau/internal/admin"
	"github.com/trousseau-io/trousseau/internal/coldstart"
	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/kmsclient"
	"github.com/trousseau-io/trousseau/internal/lockdown"
)

// patience is how long the daemon is waited for before it is taken to hang.
const patience = 2 * time.Second

// program is what a daemon is called that may be killed.
const program = "trousseaud"

// Options says which daemon is meant, and why.
type Options struct {
	Config  string // path of its configuration
	Socket  string // of the API server; "" means the configuration's, or Default where that cannot be read
	Default string
	Reason  string // for people
}

// Report is what was done and what is left to do. It is incomplete where a finding is a warning or worse.
type Report struct {
	Locked   bool              `json:"locked"` // a marker is there, or the daemon says so, and no call is answered
	Findings []finding.Finding `json:"findings"`
	Steps    []Step            `json:"steps,omitempty"`
}

// node is this node while it is locked or unlocked.
type node struct {
	Options
	config *config.Daemon // nil if it cannot be read
	note   lockdown.Note
	found  []finding.Finding
}

func newNode(o Options) *node {
	n := &node{Options: o, note: lockdown.Note{Time: time.Now().UTC().Truncate(time.Second), UID: os.Getuid(), Reason: o.Reason}}
	if path, err := filepath.Abs(o.Config); err == nil {
		n.Config = path
	}
	return n
}

// configure reads the configuration, as far as that is possible.
func (n *node) configure() {
	var err error
	if n.config, err = config.Load(n.Config); err != nil {
		n.add("config-unreadable", finding.Warning, n.Config, err.Error(), "give the daemon's own with --config, or its socket with --socket")
		n.Socket = cmp.Or(n.Socket, n.Default)
		return
	}
	n.Socket = cmp.Or(n.Socket, n.config.Socket.Path)
}

func (n *node) add(rule string, severity finding.Severity, where, what, fix string) {
	n.found = append(n.found, finding.Finding{Rule: rule, Severity: severity, Where: where, What: what, Fix: fix})
}

// Lock locks the node.
func Lock(ctx context.Context, o Options) Report {
	n := newNode(o)
	held := n.mark(n.Config) // first of all: it locks already
	n.configure()
	held = n.mark(n.Socket) || held
	told := n.tell(ctx)
	n.removeKept()
	refused := n.verify(ctx)
	return Report{Locked: (held || told) && refused, Findings: n.found, Steps: n.steps()}
}

// mark puts the marker in one of its places, and reports whether it is there.
func (n *node) mark(beside string) (held bool) {
	const again = "mend that, and run trousseau lockdown again: a marker that is only in memory ends with a reboot"
	p := lockdown.Put(beside, n.note)
	switch {
	case p.Held && p.Err == nil:
		n.add("marker", finding.OK, p.Path, "the marker is there", "")
	case p.Held:
		n.add("marker-empty", finding.Warning, p.Path, "the marker is there and locks, but what it should say is not on the disk: "+p.Err.Error(), again)
	case errors.Is(p.Err, fs.ErrNotExist):
		n.add("marker-missing", finding.Info, p.Path, "there is no directory for a marker: no daemon has run here with that path", "")
	default:
		n.add("marker-missing", finding.Warning, p.Path, "the marker cannot be put here: "+p.Err.Error(), again)
	}
	return p.Held
}

// tell has the daemon wipe what it holds, and kills it if it hangs. It reports whether the daemon says that it is locked.
func (n *node) tell(ctx context.Context) bool {
	at := admin.Socket(n.Socket)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var is admin.LockAnswer
	err := admin.Post(ctx, at, admin.LockdownPath, n.note, &is)
	switch {
	case absent(err):
		n.add("daemon-not-running", finding.Info, at, "no daemon listens here: there is nobody to tell", "")
	case ctx.Err() != nil:
		n.kill(at)
	case err != nil:
		n.add("daemon-not-told", finding.Warning, at, err.Error(), "restart the daemon, so that nothing is left in its memory")
	case !is.Seen:
		n.add("marker-elsewhere", finding.Warning, at, fmt.Sprintf("the daemon sees no marker, because it looks at %q: it is locked until it ends", is.Marker),
			"run trousseau lockdown again with the daemon's own --config and --socket, or put a file at one of these paths")
	case is.Failed != "":
		n.add("daemon-not-wiped", finding.Warning, at, "the daemon is locked, and cannot wipe everything: "+is.Failed, "remove these files, and stop the daemon")
	default:
		n.add("daemon", finding.OK, at, "the daemon has wiped what it kept of seeds, in memory and on disk", "")
	}
	return is.Locked
}

// absent reports whether err says that nobody listens on a socket.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// kill ends a daemon that hangs, so that its memory is gone.
func (n *node) kill(at string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pid, err := admin.Kill(ctx, at, program)
	if err != nil {
		fix := "end it by hand, so that nothing is left in its memory"
		if pid != 0 {
			fix = fmt.Sprintf("kill -KILL %d, if that is the daemon, so that nothing is left in its memory", pid)
		}
		n.add("daemon-hangs", finding.Error, at, fmt.Sprintf("the daemon does not answer within %s, and was not ended: %v", patience, err), fix)
		return
	}
	n.add("daemon-killed", finding.Warning, at, fmt.Sprintf("the daemon did not answer within %s: process %d was killed", patience, pid),
		"see that it runs again: whatever starts it, it starts locked")
}

// removeKept removes what is kept for a cold start, which the daemon has done already unless it hangs or does not run.
func (n *node) removeKept() {
	dir := filepath.Dir(n.Socket)
	if n.config != nil {
		dir = cmp.Or(n.config.StateDir, dir)
	}
	if err := coldstart.Remove(dir); err != nil {
		n.add("kept-files", finding.Error, dir, "what is kept for a cold start is still there: "+err.Error(), "remove coldstart.* there")
	}
}

// verify calls the daemon as the API server does, and reports whether nothing was answered.
func (n *node) verify(ctx context.Context) (refused bool) {
	got, err := n.call(ctx)
	if got == hangs {
		n.kill(n.Socket)
		got, err = n.call(ctx)
	}
	switch got {
	case answers:
		n.add("daemon-answers", finding.Error, n.Socket, "the daemon still answers the API server",
			"stop it; then see that --config and --socket are those that it runs with")
	case nobody:
		n.add("daemon-silent", finding.Info, n.Socket, "no daemon answers the API server: "+err.Error(), "")
	case hangs:
		n.add("daemon-silent", finding.Warning, n.Socket, "who listens here answers nothing: "+err.Error(), "stop it")
	case refuses:
		n.add("refused", finding.OK, n.Socket, "the daemon refuses the API server: "+err.Error(), "")
	}
	return got != answers
}

// outcome is what becomes of a call.
type outcome int

const (
	answers outcome = iota
	refuses
	hangs
	nobody
)

// call asks for the status, and to seal something. Opening is refused where these are.
func (n *node) call(ctx context.Context) (outcome, error) {
	client, err := kmsclient.Dial(kmsclient.Options{Socket: n.Socket, Timeout: 2 * patience})
	if err != nil {
		return nobody, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = client.Status(ctx)
	if err == nil {
		return answers, nil
	}
	if _, sealed := client.Encrypt(ctx, "trousseau-lockdown", []byte("trousseau lockdown")); sealed == nil {
		return answers, nil
	}
	if ctx.Err() != nil {
		return hangs, err
	}
	return refuses, err
}
