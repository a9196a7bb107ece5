//go:build cgo

package pkcs11_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// TestHangingModule makes more calls than a key has sessions while the module hangs. Those that are left behind are few, and
// nothing is lost when it goes on.
func TestHangingModule(t *testing.T) {
	const sessions, calls = 16, 50
	token, f := token(t), buildFaults(t)
	token.GenerateAES("kek-1")
	key := open(t, config(token, f.module))
	w := keyservicetest.Wrap(t, key, "")
	count := func() (n int) {
		for _, name := range []string{"C_DecryptInit", "C_GetSlotList", "C_OpenSession", "C_GetTokenInfo", "C_GetSessionInfo"} {
			n += f.calls(name)
		}
		return n
	}
	before := count()
	resume := f.order("stall", 0)
	var waiting sync.WaitGroup
	for range calls {
		waiting.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := key.Unwrap(ctx, w, aad)
			keyservicetest.CheckKind(t, "unwrapping", err, keyservice.Unavailable, "deadline exceeded")
			if took := time.Since(start); took > time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	waiting.Wait()
	if n := count() - before; n != sessions {
		t.Errorf("%d calls are in the module, want %d", n, sessions)
	}
	resume()
	for range 3 * sessions {
		keyservicetest.Unwrap(t, key, w)
	}
	if n := f.calls("C_OpenSession") - f.calls("C_CloseSession"); n > sessions {
		t.Errorf("%d sessions are open", n)
	}
	key.Close()
	if n := f.calls("C_OpenSession") - f.calls("C_CloseSession"); n != 0 {
		t.Errorf("%d sessions are open after closing the key", n)
	}
}

// TestCloseDoesNotWait closes a key while the module hangs.
func TestCloseDoesNotWait(t *testing.T) {
	token, f := token(t), buildFaults(t)
	token.GenerateAES("kek-1")
	key := open(t, config(token, f.module))
	w := keyservicetest.Wrap(t, key, "")
	defer f.order("stall", 0)()
	start := time.Now()
	key.Close()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	_, err := key.Unwrap(t.Context(), w, aad)
	keyservicetest.CheckKind(t, "unwrapping", err, keyservice.Unavailable, "closed")
}
