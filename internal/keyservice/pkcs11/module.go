//go:build cgo

package pkcs11

import (
	"errors"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/credential"
)

const (
	stopTries = 50
	stopPause = 10 * time.Millisecond
)

// modules are the libraries that this process has loaded, by path. It is the one thing in this package that outlives a Key,
// because PKCS#11 makes it one: C_Initialize and C_Finalize act on the whole process, and so does a log in. Keys that use
// one library must agree on when it is started and ended, and on which PINs were refused.
var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: make(map[string]*module)}

// module is a library. It is loaded when it is first used and never unloaded: threads of its own may still run in it.
type module struct {
	path  string
	users int // keys that are open; guarded by modules

	calls   sync.RWMutex // held for reading during calls, for writing while the library starts or ends
	library *p11.Ctx     // nil until it is loaded
	running bool
	era     int // how often it was started: sessions and handles die with their era

	logins  sync.Mutex                        // held during a log in
	refused map[string]credential.Fingerprint // the PIN that a token, by its serial number, refused; guarded by logins
}

// acquire returns the module for a key to use until release. It neither loads nor starts the library.
func acquire(path string) *module {
	modules.Lock()
	defer modules.Unlock()
	m := modules.byPath[path]
	if m == nil {
		m = &module{path: path, refused: make(map[string]credential.Fingerprint)}
		modules.byPath[path] = m
	}
	m.users++
	return m
}

// release ends the library when no key uses it, unless a call that does not return is still in it.
func (m *module) release() {
	m.calls.RLock()
	era := m.era
	m.calls.RUnlock()
	modules.Lock()
	m.users--
	unused := m.users == 0
	modules.Unlock()
	if unused {
		m.stop(era) // if a key acquires it meanwhile, that starts it anew
	}
}

// shared reports whether more than one key uses the module.
func (m *module) shared() bool {
	modules.Lock()
	defer modules.Unlock()
	return m.users > 1
}

// enter makes sure that the library runs, until leave, and returns its era.
func (m *module) enter() (era int, err error) {
	for range 2 {
		m.calls.RLock()
		if m.running {
			return m.era, nil
		}
		era = m.era
		m.calls.RUnlock()
		if err := m.start(); err != nil {
			return era, err
		}
	}
	return era, errStopped
}

func (m *module) leave() { m.calls.RUnlock() }

// start loads and initializes the library. CKF_OS_LOCKING_OK, which Initialize sets, makes it lock for threads itself.
// Somebody else in this process may have initialized it by another path: that is as good.
func (m *module) start() error {
	m.calls.Lock()
	defer m.calls.Unlock()
	if m.running {
		return nil
	}
	if m.library == nil {
		if m.library = p11.New(m.path); m.library == nil {
			return errNotLoaded
		}
	}
	if err := m.library.Initialize(); err != nil && !errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return err
	}
	m.running = true
	m.era++
	return nil
}

// stop ends the library if it is still in that era, so that the next enter starts it anew and it forgets what it believes
// of tokens. It waits a little for calls of others to leave. It returns false if one does not, because the library must not
// be ended under it: waiting for longer would let a token that hangs stop the work with all others of the module.
func (m *module) stop(era int) bool {
	for range stopTries {
		if m.calls.TryLock() {
			defer m.calls.Unlock()
			if m.running && m.era == era {
				_ = m.library.Finalize() // what fails here was ended by somebody else
				m.running = false
			}
			return true
		}
		time.Sleep(stopPause)
	}
	return false
}
