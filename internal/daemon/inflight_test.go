package daemon_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trousseau-io/trousseau/internal/daemon"
)

// slow is a handler that takes a second and knows how many run at once.
type slow struct{ now, most atomic.Int32 }

func (s *slow) handle(context.Context, any) (any, error) {
	now := s.now.Add(1)
	defer s.now.Add(-1)
	s.most.Store(max(s.most.Load(), now))
	time.Sleep(time.Second)
	return "answer", nil
}

var (
	decrypt = &grpc.UnaryServerInfo{FullMethod: "/v2.KeyManagementService/Decrypt"}
	state   = &grpc.UnaryServerInfo{FullMethod: "/v2.KeyManagementService/Status"}
)

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slow
		limit := daemon.Limit(2, state.FullMethod)
		began := time.Now()
		for range 6 {
			go func() {
				if got, err := limit(t.Context(), nil, decrypt, s.handle); got != "answer" || err != nil {
					t.Errorf("got %v, %v", got, err)
				}
			}()
		}
		synctest.Wait()
		if _, err := limit(t.Context(), nil, state, func(context.Context, any) (any, error) { return nil, nil }); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("Status waited %v", waited)
		}
		time.Sleep(2999 * time.Millisecond)
		if s.most.Load() != 2 || s.now.Load() != 2 {
			t.Errorf("%d ran at once, the last %d, want 2", s.most.Load(), s.now.Load())
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if n := s.now.Load(); n != 0 {
			t.Errorf("%d still run", n)
		}
	})
}

func TestLimitWhileWaiting(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(context.Context) (context.Context, context.CancelFunc)
		code codes.Code
	}{
		"deadline passes": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 300*time.Millisecond)
		}, codes.ResourceExhausted},
		"caller leaves": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(300*time.Millisecond, cancel)
			return ctx, cancel
		}, codes.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s slow
				limit := daemon.Limit(1)
				go limit(t.Context(), nil, decrypt, s.handle)
				synctest.Wait()
				began := time.Now()
				ctx, cancel := test.end(t.Context())
				defer cancel()
				_, err := limit(ctx, nil, decrypt, s.handle)
				if got := status.Code(err); got != test.code {
					t.Errorf("got %v, want %v", err, test.code)
				}
				if waited := time.Since(began); waited != 300*time.Millisecond {
					t.Errorf("waited %v, want 300 ms", waited)
				}
				// The one that left has taken no slot with it.
				if _, err := limit(t.Context(), nil, decrypt, s.handle); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestLimitAfterFailure(t *testing.T) {
	limit := daemon.Limit(1)
	broken := errors.New("broken")
	for range 2 {
		_, err := limit(t.Context(), nil, decrypt, func(context.Context, any) (any, error) { return nil, broken })
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		func() {
			defer func() { recover() }()
			limit(t.Context(), nil, decrypt, func(context.Context, any) (any, error) { panic("broken") })
		}()
	}
}

func TestLimitOfNothing(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Limit(0) makes a limit")
		}
	}()
	daemon.Limit(0)
}
