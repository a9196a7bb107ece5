package secretmem_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/trousseau-io/trousseau/internal/secretmem"
)

func TestFromCopiesAndWipes(t *testing.T) {
	source := []byte("tr0ub4dor")
	buffer, err := secretmem.From(source)
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Release()
	if !bytes.Equal(source, make([]byte, len(source))) {
		t.Errorf("source still holds %q", source)
	}
	err = buffer.Use(func(secret []byte) error {
		if string(secret) != "tr0ub4dor" || cap(secret) != len(secret) {
			t.Errorf("holds %q with capacity %d", secret, cap(secret))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNewRefusesNoSize(t *testing.T) {
	for _, size := range []int{0, -1} {
		if _, err := secretmem.New(size); err == nil {
			t.Errorf("size %d was accepted", size)
		}
	}
	if _, err := secretmem.From(nil); err == nil {
		t.Error("a Buffer from nothing")
	}
}

func TestUseReturnsTheError(t *testing.T) {
	buffer, err := secretmem.New(1)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cause")
	if err := buffer.Use(func([]byte) error { return cause }); err != cause {
		t.Errorf("error %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = buffer.Use(func([]byte) error { panic("in Use") })
	}()
	buffer.Release() // would wait for ever if the panic had left the Buffer in use
	buffer.Release()
	if err := buffer.Use(func([]byte) error { t.Error("called after Release"); return nil }); err != secretmem.ErrReleased {
		t.Errorf("after Release: error %v", err)
	}
}

// A use after the pages are gone would not fail the test but crash it.
func TestReleaseWaitsForUsers(t *testing.T) {
	for range 50 {
		buffer, err := secretmem.From(bytes.Repeat([]byte{0xa5}, 3*4096))
		if err != nil {
			t.Fatal(err)
		}
		var users sync.WaitGroup
		for range 4 {
			users.Go(func() {
				for {
					err := buffer.Use(func(secret []byte) error {
						if n := bytes.Count(secret, []byte{0xa5}); n != len(secret) {
							t.Errorf("saw %d of %d bytes", n, len(secret))
						}
						return nil
					})
					if err != nil {
						return
					}
				}
			})
		}
		users.Go(buffer.Release)
		users.Go(buffer.Release)
		users.Wait()
	}
}

func TestBufferNeverPrints(t *testing.T) {
	const plain = "tr0ub4dor"
	buffer, err := secretmem.From([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Release()
	type open struct{ Buffer *secretmem.Buffer }
	type hidden struct{ buffer *secretmem.Buffer }
	var printed []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%p", "%t"} {
		for _, value := range []any{buffer, open{buffer}, &open{buffer}, hidden{buffer}, &hidden{buffer}} {
			printed = append(printed, fmt.Sprintf(verb, value))
		}
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("m", "buffer", buffer, "open", open{buffer}, "hidden", hidden{buffer})
	}
	asJSON, err := json.Marshal(open{buffer})
	if err != nil {
		t.Fatal(err)
	}
	printed = append(printed, log.String(), string(asJSON))
	for _, s := range printed {
		for _, form := range []string{plain, fmt.Sprintf("%x", plain), fmt.Sprintf("%X", plain), fmt.Sprint([]byte(plain))} {
			if strings.Contains(s, strings.Trim(form, "[]")) {
				t.Errorf("printed: %s", s)
			}
		}
	}
}

func TestDoCallsAndPanicsThrough(t *testing.T) {
	called := false
	secretmem.Do(func() { called = true })
	if !called {
		t.Error("not called")
	}
	defer func() {
		if recover() != "through" {
			t.Error("the panic did not come through")
		}
	}()
	secretmem.Do(func() { panic("through") })
}
