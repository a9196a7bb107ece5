package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyid"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/kmsclient"
)

// daemon looks at the socket and calls who listens there. A daemon that was never started is no error, unless its socket
// was asked for: before the first start everything else is to be checked.
func (r *report) daemon(ctx context.Context, keys *keyring.Keyring) {
	path := r.socket()
	err := r.local(path)
	if errors.Is(err, fs.ErrNotExist) && r.Sockets == nil {
		r.directory(path)
		r.add("daemon-not-running", finding.Info, path, "there is no socket: the daemon does not run here",
			"start it with trousseaud --config "+r.Config+", and check again")
		return
	}
	client, keyID := r.call(ctx, path)
	if client == nil {
		return
	}
	client.Close()
	if keyID != "" {
		r.serves(ctx, path, keyID, keys)
	}
}

// local looks at a socket of this host. It returns an error if it is not there.
func (r *report) local(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		r.directory(path)
		r.socketFile(path, info)
	}
	return err
}

// call lets a daemon prove that it seals and opens. It returns the key id that the daemon announces, "" if it has not
// proved it, and nil if nobody listens. The caller closes the client.
func (r *report) call(ctx context.Context, path string) (client *kmsclient.Client, keyID string) {
	client, err := kmsclient.Dial(kmsclient.Options{Socket: path, Timeout: r.Timeout})
	if err != nil {
		r.called("daemon", path, err)
		return nil, ""
	}
	proof, err := kmsclient.Prove(ctx, client)
	if err != nil {
		r.called("daemon", path, err)
		return client, ""
	}
	r.add("daemon", finding.OK, path, fmt.Sprintf("seals (%s) and opens (%s) for the API server's own client code; %d bytes per object",
		proof.Wrap.Round(10*time.Microsecond), proof.Unwrap.Round(10*time.Microsecond), proof.Stored), "")
	return client, proof.Status.KeyID
}

func (r *report) called(rule, path string, err error) {
	hint := "see the daemon's log"
	if e, ok := errors.AsType[*kmsclient.Error](err); ok {
		hint = e.Hint
	}
	r.add(rule, finding.Error, path, err.Error(), hint)
}

// directory looks for who could put another socket in the place of the daemon's.
func (r *report) directory(path string) {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(dir)); err != nil {
			r.add("socket-directory", finding.Error, dir, "the directory of the socket is missing, and so is the one above it",
				"install -d -m 0750 "+dir)
		}
	case err != nil:
		r.add("socket-directory", finding.Error, dir, err.Error(), "run this as root or as the daemon's user")
	case info.Mode().Perm()&0o022 != 0:
		r.add("socket-directory", finding.Error, dir, fmt.Sprintf("others may write there (mode %#o) and put a socket of their own in its place",
			info.Mode().Perm()), "chmod go-w "+dir+", or set socket.path to a directory of its own, such as /run/trousseau")
	}
}

// socketFile compares the file with what the configuration asks for.
func (r *report) socketFile(path string, info fs.FileInfo) {
	owner := info.Sys().(*syscall.Stat_t)
	if info.Mode().Type() != fs.ModeSocket {
		return // calling it says so
	}
	if info.Mode().Perm()&0o007 != 0 {
		r.add("socket-mode", finding.Error, path, fmt.Sprintf("everybody may connect (mode %#o)", info.Mode().Perm()), "restart the daemon")
		return
	}
	if want := fs.FileMode(r.config.Socket.Mode); path == r.config.Socket.Path && info.Mode().Perm() != want {
		r.add("socket-mode", finding.Warning, path, fmt.Sprintf("mode %#o is not the configuration's %#o", info.Mode().Perm(), want),
			"restart the daemon: a socket's mode is set when it starts")
		return
	}
	r.add("socket-mode", finding.OK, path, fmt.Sprintf("mode %#o, owner %s, group %s", info.Mode().Perm(),
		userName(owner.Uid), groupName(owner.Gid)), "")
}

// serves finds out whether the daemon works with this configuration.
func (r *report) serves(ctx context.Context, path, keyID string, keys *keyring.Keyring) {
	if keys == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	known := keyid.Ask(ctx, keys)
	id, found := known.Find(keyID)
	switch {
	case !found && known.Silent != nil: // a key does not answer, which was said
	case !found:
		r.add("daemon-key-id", finding.Error, path, fmt.Sprintf("announces %s, and this configuration gives %s: the daemon works with another one",
			keyID, known.List("")[0].KeyID), "see the daemon's log: a changed configuration that it refused, or another file; compare the configurations of all nodes")
	case id.Policy != 1 || id.Former:
		r.add("daemon-key-id", finding.Error, path, fmt.Sprintf("announces %s, which is of policy %d and not of the first one", keyID, id.Policy),
			"see the daemon's log: a changed configuration that it refused, or another file; compare the configurations of all nodes")
	case !r.without(path, id):
		r.add("daemon-key-id", finding.OK, path, "announces "+keyID+", which this configuration gives", "")
	}
}

// without says if a daemon seals without one of its keys, and reports whether it does.
func (r *report) without(path string, id keyid.ID) bool {
	missing := slices.IndexFunc(id.Keys, func(p keyid.Part) bool { return p.Version == "" })
	if missing < 0 {
		return false
	}
	r.add("daemon-key-missing", finding.Warning, path, fmt.Sprintf("announces %s: it seals without key %s, which was away when something had to be sealed",
		id.KeyID, id.Keys[missing].Key), "mend that key; when all keys have answered for 10 minutes it takes part again, and what was sealed without it is stale")
	return true
}

func userName(id uint32) string {
	text := strconv.FormatUint(uint64(id), 10)
	if u, err := user.LookupId(text); err == nil {
		return u.Username
	}
	return text
}

func groupName(id uint32) string {
	text := strconv.FormatUint(uint64(id), 10)
	if g, err := user.LookupGroupId(text); err == nil {
		return g.Name
	}
	return text
}
