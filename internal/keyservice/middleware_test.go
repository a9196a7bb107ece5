package keyservice_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

func TestTimeoutEndsASlowCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		fake.Break(keyservicetest.Fault{Stall: time.Hour})
		start := time.Now()
		_, _, err := keyservice.With(fake, keyservice.Timeout(2*time.Second)).Versions(t.Context())
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestRetryRepeatsOutagesOnly(t *testing.T) {
	for _, kind := range keyservice.Kinds() {
		synctest.Test(t, func(t *testing.T) {
			fake := keyservicetest.NewFake(time.Now())
			fake.Fail(kind)
			key := keyservice.With(fake, keyservice.Retry(100*time.Millisecond))
			if _, err := key.Wrap(t.Context(), "", []byte("s"), nil); keyservice.KindOf(err) != kind {
				t.Errorf("%s: %v", kind, err)
			}
			want := 1
			if kind.Outage() {
				want = 2
			}
			if got := fake.Calls("wrap"); got != want {
				t.Errorf("%s: %d calls, want %d", kind, got, want)
			}
		})
	}
}

func TestRetryRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		fake.Fail(keyservice.Throttled)
		time.AfterFunc(10*time.Millisecond, func() { fake.Break(keyservicetest.Fault{}) })
		key := keyservice.With(fake, keyservice.Retry(100*time.Millisecond))
		if _, err := key.Wrap(t.Context(), "", []byte("s"), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestRetryLeavesWhatHasNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		fake.Fail(keyservice.Unavailable)
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Millisecond)
		defer cancel()
		start := time.Now()
		keyservice.With(fake, keyservice.Retry(100*time.Millisecond)).Versions(ctx)
		if fake.Calls("versions") != 1 || time.Since(start) != 0 {
			t.Errorf("%d calls in %v", fake.Calls("versions"), time.Since(start))
		}
	})
}

func TestLimitQueuesWithinTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		fake.Break(keyservicetest.Fault{Stall: time.Second})
		key := keyservice.With(fake, keyservice.Limit(2))
		start := time.Now()
		errs := make(chan error)
		for i := range 6 {
			ctx := t.Context()
			if i == 5 {
				time.Sleep(time.Millisecond) // comes last, with no time to wait
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
			}
			go func() {
				_, _, err := key.Versions(ctx)
				errs <- err
			}()
		}
		failed := 0
		for range 6 {
			if err := <-errs; err != nil {
				failed++
				if keyservice.KindOf(err) != keyservice.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("refused with %v", err)
				}
			}
		}
		if failed != 1 || time.Since(start) != 3*time.Second {
			t.Errorf("%d of 6 refused, all done after %v", failed, time.Since(start))
		}
	})
}

func TestObserveLeavesOutCancelledCalls(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now())
	var seen []string
	key := keyservice.With(fake, keyservice.Observe(func(op string, _ time.Duration, err error) {
		seen = append(seen, fmt.Sprint(op, " ", err == nil))
	}))
	w, err := key.Wrap(t.Context(), "", []byte("s"), nil)
	if err != nil {
		t.Fatal(err)
	}
	fake.Fail(keyservice.Denied)
	key.Unwrap(t.Context(), w, nil)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	fake.Break(keyservicetest.Fault{})
	key.Versions(cancelled)
	if got := fmt.Sprint(seen); got != "[wrap true unwrap false]" {
		t.Errorf("observed %s", got)
	}
}

func TestKindAndHint(t *testing.T) {
	inner := &keyservice.Error{Kind: keyservice.Denied, Op: "wrapping", Hint: "renew the token"}
	outer := &keyservice.Error{Kind: keyservice.Unavailable, Op: "sealing", Err: fmt.Errorf("asking: %w", inner)}
	if got := keyservice.KindOf(fmt.Errorf("x: %w", inner)); got != keyservice.Denied {
		t.Errorf("kind %s", got)
	}
	if got := keyservice.HintOf(outer); got != "renew the token" {
		t.Errorf("hint %q", got)
	}
	if got := keyservice.KindOf(errors.New("plain")); got != keyservice.Unavailable {
		t.Errorf("kind of a plain error %s", got)
	}
	if got := keyservice.HintOf(errors.New("plain")); got != "" {
		t.Errorf("hint of a plain error %q", got)
	}
}
