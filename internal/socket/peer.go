package socket

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Peer is who has connected, as the kernel noted at that moment. It is the remote address of every connection that a
// Listener accepts, so that in a gRPC handler peer.FromContext has it as its Addr.
type Peer struct {
	PID int32 // 0 if the process is in another pid namespace
	UID uint32
	GID uint32
}

// Network returns "unix".
func (Peer) Network() string { return "unix" }

func (p Peer) String() string { return fmt.Sprintf("uid=%d gid=%d pid=%d", p.UID, p.GID, p.PID) }

// LogValue gives the ids as a group.
func (p Peer) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("uid", p.UID), slog.Any("gid", p.GID), slog.Any("pid", p.PID))
}

// PeerOf returns who is at the other end of c: of a connection that was dialled, who began to listen there.
func PeerOf(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, err
	}
	if credErr != nil {
		return Peer{}, credErr
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}, nil
}

// gate decides who may come in.
type gate struct {
	uids    []uint32
	refused func(Peer)
	log     *slog.Logger

	mu     sync.Mutex
	told   map[uint32]bool // uids of which was told since
	minute time.Time       // the start of the minute that told is about
}

func newGate(cfg Config, log *slog.Logger) *gate {
	uids := slices.Clone(cfg.AllowUIDs)
	if len(uids) == 0 {
		uids = []uint32{0, uint32(os.Geteuid())}
	}
	refused := cfg.Refused
	if refused == nil {
		refused = func(Peer) {}
	}
	return &gate{uids: uids, refused: refused, log: log, told: map[uint32]bool{}}
}

// admit reports whether p may come in, and if not tells so.
func (g *gate) admit(p Peer) bool {
	if slices.Contains(g.uids, p.UID) {
		return true
	}
	g.refused(p)
	if g.first(p.UID) {
		g.log.Warn("turned away a peer whose uid is not allowed", "peer", p,
			"hint", "add the uid to socket.allowUIDs if it is the API server's")
	}
	return false
}

// first reports whether it is the first time in this minute that it is asked about uid: whoever is turned away tries
// again at once, and must not fill the log.
func (g *gate) first(uid uint32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.minute) >= time.Minute {
		g.minute = now
		clear(g.told)
	}
	told := g.told[uid]
	g.told[uid] = true
	return !told
}
