package nodelock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trousseau-io/trousseau/internal/admin"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/kmsclient"
	"github.com/trousseau-io/trousseau/internal/lockdown"
)

// backWithin is how long an unlocked daemon is waited for: a key service that was away is asked again within seconds.
const backWithin = 15 * time.Second

// Unlock unlocks the node, and waits until the daemon seals and opens again. It tells the daemon first, so that the reason is
// in its audit log before anything is answered.
func Unlock(ctx context.Context, o Options) Report {
	n := newNode(o)
	n.configure()
	marker := lockdown.Of(n.Config, n.Socket)
	was := marker.Locked()
	at := admin.Socket(n.Socket)
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var is admin.LockAnswer
	err := admin.Post(asking, at, admin.UnlockPath, n.note, &is)
	switch {
	case absent(err):
		n.add("daemon-not-running", finding.Warning, at, "no daemon listens here: it will start unlocked, and the reason is in no log of it", "start it")
	case err != nil:
		n.add("daemon-not-told", finding.Warning, at, err.Error(), "see the daemon's log; the reason is not in it")
	case !was && !is.Locked:
		n.add("not-locked", finding.Info, at, "the node was not locked", "")
	}
	if err := marker.Remove(); err != nil {
		n.add("marker", finding.Error, n.Config, "the marker is still there, and locks: "+err.Error(), "run this as root; remove the marker by hand if that does not help")
		return Report{Locked: true, Findings: n.found}
	}
	n.add("marker", finding.OK, n.Config, "no marker is there any more", "")
	if lockdown.Marker(is.Marker).Locked() {
		n.add("marker-elsewhere", finding.Error, at, fmt.Sprintf("the daemon looks at %q, and is locked", is.Marker),
			"run trousseau unlock again with the daemon's own --config and --socket")
		return Report{Locked: true, Findings: n.found}
	}
	n.await(ctx)
	return Report{Findings: n.found}
}

// await waits until the daemon seals and opens, as long as there is one.
func (n *node) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, backWithin)
	defer cancel()
	var why error
	for {
		there, err := n.prove(ctx)
		if err == nil {
			n.add("daemon", finding.OK, n.Socket, "the daemon seals and opens for the API server's own client code", "")
			return
		}
		if why == nil || ctx.Err() == nil { // that time is up says nothing
			why = err
		}
		if !there || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	fix := "see the daemon's log"
	if e, ok := errors.AsType[*kmsclient.Error](why); ok {
		fix = e.Hint
	}
	n.add("daemon", finding.Error, n.Socket, why.Error(), fix)
}

// prove reports whether somebody listens, and why sealing and opening fails.
func (n *node) prove(ctx context.Context) (there bool, err error) {
	client, err := kmsclient.Dial(kmsclient.Options{Socket: n.Socket})
	if err != nil {
		return false, err
	}
	defer client.Close()
	_, err = kmsclient.Prove(ctx, client)
	return true, err
}
