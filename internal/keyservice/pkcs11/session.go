//go:build cgo

package pkcs11

import (
	"cmp"
	"errors"
	"fmt"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// session is a session with the token whose user is logged in. One call uses it at a time.
type session struct {
	*p11.Ctx
	handle p11.SessionHandle
	era    int // of the module
}

// session returns an idle session, or opens one. The caller has entered the module.
func (k *Key) session() (session, error) {
	k.mu.Lock()
	for len(k.idle) > 0 {
		s := k.idle[len(k.idle)-1]
		k.idle = k.idle[:len(k.idle)-1]
		if s.era == k.module.era {
			k.mu.Unlock()
			return s, nil
		}
	}
	k.mu.Unlock()
	return k.connect()
}

// keep makes a session idle, or closes it if the key is closed.
func (k *Key) keep(s session) {
	k.mu.Lock()
	open := !k.isClosed()
	if open {
		k.idle = append(k.idle, s)
	}
	k.mu.Unlock()
	if !open {
		_ = s.CloseSession(s.handle)
	}
}

// forget closes the idle sessions and forgets the handles. The caller has entered the module.
func (k *Key) forget() {
	k.mu.Lock()
	idle := k.idle
	k.idle, k.known = nil, known{}
	k.mu.Unlock()
	for _, s := range idle {
		if s.era == k.module.era {
			_ = s.CloseSession(s.handle)
		}
	}
}

// connect opens a session with the token and logs in, which counts for all sessions of the process with this token.
func (k *Key) connect() (session, error) {
	m := k.module
	slot, token, err := k.config.find(m.library)
	if err != nil {
		return session{}, err
	}
	handle, err := m.library.OpenSession(slot, p11.CKF_SERIAL_SESSION)
	if err != nil {
		return session{}, fmt.Errorf("opening a session: %w", err)
	}
	s := session{m.library, handle, m.era}
	if err := k.logIn(s, token); err != nil {
		_ = s.CloseSession(handle)
		return session{}, fmt.Errorf("logging in: %w", err)
	}
	return s, nil
}

// find returns the slot of the token. A token that is not there may come back: that is an outage.
func (c Config) find(library *p11.Ctx) (uint, p11.TokenInfo, error) {
	slots, err := library.GetSlotList(true)
	if err != nil {
		return 0, p11.TokenInfo{}, fmt.Errorf("listing slots: %w", err)
	}
	var in []uint
	var found p11.TokenInfo
	var silent error // of another token, perhaps of this
	for _, slot := range slots {
		token, err := library.GetTokenInfo(slot)
		if err != nil {
			silent = cmp.Or(silent, fmt.Errorf("asking the token in slot %d who it is: %w", slot, err))
			continue
		}
		if (c.Token == "" || c.Token == token.Label) && (c.Serial == "" || c.Serial == token.SerialNumber) {
			in, found = append(in, slot), token
		}
	}
	switch {
	case len(in) == 1:
		return in[0], found, nil
	case len(in) > 1:
		return 0, p11.TokenInfo{}, errTokens
	case silent != nil:
		return 0, p11.TokenInfo{}, silent
	}
	return 0, p11.TokenInfo{}, errNoToken
}

// logIn logs in unless the process is. It never offers a token a PIN that it has refused, nor the last try that a token has
// left before it locks: whoever wrote a wrong PIN into a file shall not lock the HSM for everybody.
func (k *Key) logIn(s session, token p11.TokenInfo) error {
	m := k.module
	m.logins.Lock()
	defer m.logins.Unlock()
	info, err := s.GetSessionInfo(s.handle)
	if err != nil {
		return err
	}
	if info.State == p11.CKS_RO_USER_FUNCTIONS || info.State == p11.CKS_RW_USER_FUNCTIONS {
		return nil
	}
	pin, err := k.config.PINFile.Read()
	if err != nil {
		return fmt.Errorf("%w: %w", errPINFile, err)
	}
	defer pin.Wipe()
	if refused, ok := m.refused[token.SerialNumber]; ok && refused == pin.Fingerprint() {
		return errRefused
	}
	if token.Flags&p11.CKF_USER_PIN_FINAL_TRY != 0 {
		return errFinalTry
	}
	err = s.Login(s.handle, p11.CKU_USER, text(pin))
	if err == nil {
		k.log.Info("logged in to the token", "token", token.Label, "serial", token.SerialNumber)
		return nil
	}
	switch code, _ := errors.AsType[p11.Error](err); code {
	case p11.CKR_USER_ALREADY_LOGGED_IN:
		return nil
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE:
		m.refused[token.SerialNumber] = pin.Fingerprint()
	}
	return err
}

// text returns the secret as the string that the library wants. It shares the bytes, so that wiping them wipes it.
func text(s credential.Secret) string {
	return unsafe.String(unsafe.SliceData(s.Bytes()), len(s.Bytes()))
}
