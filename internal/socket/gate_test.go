package socket_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/trousseau-io/trousseau/internal/socket"
)

func TestOneLinePerUserAndMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logs{}
		refused := 0
		admit := socket.Admit(socket.Config{
			AllowUIDs: []uint32{7}, Refused: func(socket.Peer) { refused++ },
		}, log.logger())
		for range 90 { // seconds
			for _, uid := range []uint32{7, 8, 9} {
				if admit(socket.Peer{UID: uid}) != (uid == 7) {
					t.Fatalf("wrong about uid %d", uid)
				}
			}
			time.Sleep(time.Second)
		}
		for text, want := range map[string]int{"peer.uid=7": 0, "peer.uid=8": 2, "peer.uid=9": 2} {
			if got := log.count(text); got != want {
				t.Errorf("%d lines with %s, want %d", got, text, want)
			}
		}
		if refused != 180 {
			t.Errorf("counted %d, want 180", refused)
		}
	})
}
