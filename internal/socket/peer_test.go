package socket_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/trousseau-io/trousseau/internal/socket"
)

func TestPeer(t *testing.T) {
	l, _ := listen(t, socket.Config{Path: filepath.Join(shortDir(t), "kms.sock")})
	dial(t, l.Addr().String())
	c := accept(t, l)
	want := socket.Peer{PID: int32(os.Getpid()), UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if got := c.RemoteAddr(); got != want {
		t.Errorf("peer is %v, want %v", got, want)
	}
	if got := c.LocalAddr(); got != l.Addr() {
		t.Errorf("local address is %v, want %v", got, l.Addr())
	}
	text := fmt.Sprintf("uid=%d gid=%d pid=%d", want.UID, want.GID, want.PID)
	if got := want.String(); got != text || want.Network() != "unix" {
		t.Errorf("address is %q on %q, want %q", got, want.Network(), text)
	}
}

// The group lets both users connect; only the uid tells them apart.
func TestAllowedUsers(t *testing.T) {
	needRoot(t)
	const uid, gid = 4242, 4243
	for name, test := range map[string]struct {
		allow []uint32
		admit bool
	}{
		"nobody named":    {nil, false},
		"another":         {[]uint32{0, 4244}, false},
		"this one":        {[]uint32{uid}, true},
		"its group's uid": {[]uint32{gid}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var refused atomic.Int32
			l, log := listen(t, socket.Config{
				Path: filepath.Join(shortDir(t), "kms.sock"), Mode: 0o660, Group: fmt.Sprint(gid), AllowUIDs: test.allow,
				Refused: func(p socket.Peer) {
					if p.UID != uid || p.GID != gid {
						t.Errorf("refused %v", p)
					}
					refused.Add(1)
				},
			})
			go greet(l)
			const children = 3
			for range children {
				c := start(t, "dial", l.Addr().String(), asUser(uid, gid))
				if want := map[bool]string{true: "open", false: "closed"}[test.admit]; c.said != want {
					t.Fatalf("the connection is %s, want %s", c.said, want)
				}
			}
			wantRefused, wantLines := int32(children), 1 // one line per user and minute
			if test.admit {
				wantRefused, wantLines = 0, 0
			}
			if got := refused.Load(); got != wantRefused {
				t.Errorf("%d were counted as refused, want %d", got, wantRefused)
			}
			if got := log.count("peer.uid=4242 peer.gid=4243"); got != wantLines {
				t.Errorf("%d lines were logged, want %d", got, wantLines)
			}
		})
	}
}

// A list that does not name root keeps root out too: it says what is meant.
func TestListIsComplete(t *testing.T) {
	l, log := listen(t, socket.Config{
		Path: filepath.Join(shortDir(t), "kms.sock"), AllowUIDs: []uint32{uint32(os.Geteuid()) + 1},
	})
	c := dial(t, l.Addr().String())
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
	if log.count("socket.allowUIDs") != 1 {
		t.Error("the log does not say what to do")
	}
}

// Peers that are turned away need no slot, so that they cannot keep others out.
func TestRefusedWhileFull(t *testing.T) {
	needRoot(t)
	l, _ := listen(t, socket.Config{
		Path: filepath.Join(shortDir(t), "kms.sock"), Mode: 0o660, Group: "4243", MaxConns: 1,
	})
	dial(t, l.Addr().String())
	held := accept(t, l)
	defer held.Close()
	if c := start(t, "dial", l.Addr().String(), asUser(4242, 4243)); c.said != "closed" {
		t.Errorf("the connection is %s, want closed", c.said)
	}
}

// greet writes to everybody who gets in.
func greet(l *socket.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Write([]byte("!"))
		c.Close()
	}
}
