//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"time"

	p11 "github.com/miekg/pkcs11"
)

// restartPause lies between two restarts of a shared module in one outage.
const restartPause = 5 * time.Second

// work is what a call does with a session. It returns the bytes that it made of data, if any, and the caller owns them.
type work func(s session, data []byte) ([]byte, error)

// do calls f in a goroutine, with a session and a copy of data that is wiped afterwards. When ctx ends first the call is
// left to itself: a C function cannot be interrupted. It keeps its place until the module returns, so that a module which
// hangs keeps maxSessions calls and no more.
func (k *Key) do(ctx context.Context, op string, data []byte, f work) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, k.fail(op, err)
	}
	if k.isClosed() {
		return nil, k.fail(op, errClosed)
	}
	select {
	case k.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, k.fail(op, ctx.Err())
	}
	data = bytes.Clone(data)
	type answer struct {
		out []byte
		err error
	}
	answers, left := make(chan answer), make(chan struct{})
	defer close(left)
	go func() {
		defer func() { <-k.slots }()
		out, err := k.serve(data, f)
		clear(data)
		select {
		case answers <- answer{out, err}:
		case <-left:
			clear(out)
		}
	}()
	select {
	case a := <-answers:
		return a.out, k.fail(op, a.err)
	case <-ctx.Done():
		return nil, k.fail(op, ctx.Err())
	}
}

// serve calls f, and again after what may put its error right: what a token forgets in a restart is found anew within the
// call that notices.
func (k *Key) serve(data []byte, f work) (out []byte, err error) {
	for range 3 {
		var era int
		out, era, err = k.attempt(data, f)
		if err == nil {
			k.recovered()
			return out, nil
		}
		switch judge(err).remedy {
		case none:
			return nil, err
		case restart:
			if !k.restart(era, err) {
				return nil, err
			}
		}
	}
	return nil, err
}

// attempt calls f once. A session that saw an error is closed, as an operation may be left in it.
func (k *Key) attempt(data []byte, f work) (out []byte, era int, err error) {
	if era, err = k.module.enter(); err != nil {
		return nil, era, err
	}
	defer k.module.leave()
	if k.isClosed() {
		return nil, era, errClosed
	}
	s, err := k.session()
	if err != nil {
		return nil, era, err
	}
	if out, err = f(s, data); err == nil {
		k.keep(s)
		return out, era, nil
	}
	_ = s.CloseSession(s.handle)
	if judge(err).remedy != none {
		k.forget()
	}
	return nil, era, err
}

// restart ends the module, so that the next attempt starts it anew, and reports whether it did. A token that was away is not
// seen again by some modules before that. It costs other keys of the module their sessions: where there are any, it is
// done once when an outage begins, and then every restartPause.
func (k *Key) restart(era int, cause error) bool {
	k.mu.Lock()
	last := k.restarted
	k.mu.Unlock()
	ended := errors.Is(cause, p11.Error(p11.CKR_CRYPTOKI_NOT_INITIALIZED)) // by somebody else: nothing is lost by a restart
	if !ended && time.Since(last) < restartPause && k.module.shared() || !k.module.stop(era) {
		return false
	}
	k.mu.Lock()
	k.restarted = time.Now()
	k.mu.Unlock()
	if last.IsZero() {
		k.log.Warn("starting the module anew, because the HSM does not answer as it should", "error", cause)
	}
	return true
}

// recovered notes that a call succeeded.
func (k *Key) recovered() {
	k.mu.Lock()
	was := k.restarted
	k.restarted = time.Time{}
	k.mu.Unlock()
	if !was.IsZero() {
		k.log.Info("the HSM answers again")
	}
}
