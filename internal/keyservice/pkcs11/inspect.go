//go:build cgo

package pkcs11

import (
	"context"
	"fmt"
	"strings"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	weakRSA   = 3072 // bits from which on RSA is not weak
	endsSoon  = 30 * 24 * time.Hour
	rotateFix = "make a key called NAME-1, write NAME-* into label, and re-encrypt"
)

// Inspect implements keyservice.Inspector. It reads the attributes of the newest version and the state of the token, and
// wraps and unwraps a few bytes.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	var found []finding.Finding // another goroutine's until do returns no error
	_, err := k.do(ctx, "inspecting", nil, func(s session, _ []byte) ([]byte, error) {
		all, err := k.candidates(s)
		if err != nil {
			return nil, err
		}
		key := all[len(all)-1]
		found = k.inspectKey(s, key)
		more, err := k.inspectToken(s)
		found = append(found, more...)
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	found = append(found, k.inspectUse(ctx)...)
	if k.config.Mechanism == rsaOAEP {
		found = append(found, keyservice.Unauthenticated(k.config.ID()))
	}
	if len(found) == 0 {
		found = append(found, k.finding("pkcs11-ok", finding.OK, "nothing dangerous was found", ""))
	}
	return found, nil
}

func (k *Key) finding(rule string, severity finding.Severity, what, fix string) finding.Finding {
	return finding.Finding{Rule: rule, Severity: severity, Where: k.config.ID(), What: what, Fix: fix}
}

// look is something to be reported if it holds.
type look struct {
	holds     bool
	rule      string
	severity  finding.Severity
	what, fix string
}

func (k *Key) report(looks []look) (found []finding.Finding) {
	for _, l := range looks {
		if l.holds {
			found = append(found, k.finding(l.rule, l.severity, l.what, l.fix))
		}
	}
	return found
}

// inspectKey looks at the attributes of a key.
func (k *Key) inspectKey(s session, c candidate) []finding.Finding {
	const anew = "make another key with --private --sensitive and without --extractable, and rotate to it"
	extractable, sensitive := s.is(c.handle, p11.CKA_EXTRACTABLE), s.is(c.handle, p11.CKA_SENSITIVE)
	seals, opens := k.mechanism.allowed(s, c.handle)
	end := s.date(c.handle, p11.CKA_END_DATE)
	modulus, _ := s.attribute(c.handle, p11.CKA_MODULUS) // which AES keys lack
	bits := 8 * len(modulus)
	return k.report([]look{
		{extractable && !sensitive, "pkcs11-key-readable", finding.Error, "whoever has the PIN can read the key itself", anew},
		{extractable && sensitive, "pkcs11-key-extractable", finding.Warning,
			"whoever has the PIN can have the key wrapped by another one and so take it out of the token", anew},
		{!s.is(c.handle, p11.CKA_PRIVATE), "pkcs11-key-public", finding.Warning,
			"the key can be used without the PIN", anew},
		{!s.is(c.handle, p11.CKA_LOCAL), "pkcs11-key-imported", finding.Info,
			"the key was not made in the token: a copy of it may exist elsewhere", ""},
		{!seals && opens, "pkcs11-key-open-only", finding.Error, "the attributes of the newest version do not let it wrap",
			hintAllowed},
		{!opens, "pkcs11-key-disabled", finding.Error, "the attributes of the newest version do not let it unwrap", hintAllowed},
		{!end.IsZero() && time.Until(end) < endsSoon, "pkcs11-key-ends", finding.Warning,
			"CKA_END_DATE of the key is " + end.Format(time.DateOnly) + "; some modules refuse a key after that", "rotate to a new key"},
		{bits > 0 && bits < weakRSA, "pkcs11-key-weak", finding.Warning, fmt.Sprintf("the RSA key has %d bits", bits),
			fmt.Sprintf("rotate to a key of at least %d bits, or to AES", weakRSA)},
		{!strings.Contains(k.config.Label, "*"), "pkcs11-no-rotation", finding.Warning,
			"the configuration names one key, so that there are no versions", rotateFix},
	})
}

// inspectToken looks at what the module says of slot and token.
func (k *Key) inspectToken(s session) ([]finding.Finding, error) {
	id, token, err := k.config.find(s.Ctx)
	if err != nil {
		return nil, err
	}
	slot, err := s.GetSlotInfo(id)
	if err != nil {
		return nil, err
	}
	return k.report([]look{
		{slot.Flags&p11.CKF_HW_SLOT == 0, "pkcs11-software", finding.Info,
			fmt.Sprintf("the module says that the token (%q) is no hardware: whoever copies its files and knows the PIN has the key",
				token.Model), ""},
		{token.Flags&p11.CKF_USER_PIN_COUNT_LOW != 0, "pkcs11-pin-tries", finding.Warning,
			"somebody has tried a wrong PIN since the last log in: after some more the token locks", "find out who"},
		{token.Flags&p11.CKF_USER_PIN_TO_BE_CHANGED != 0, "pkcs11-pin-default", finding.Warning,
			"the PIN is the one that the token came with, or has expired", "give the user a new PIN and write it into pinFile"},
	}), nil
}

// inspectUse wraps and unwraps, and sees whether the associated data is authenticated where the mechanism takes it.
func (k *Key) inspectUse(ctx context.Context) []finding.Finding {
	aad := []byte("associated data")
	wrapped, err := k.Wrap(ctx, "", []byte("trousseau inspection"), aad)
	if err != nil {
		return []finding.Finding{k.finding("pkcs11-wrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	if _, err := k.Unwrap(ctx, wrapped, aad); err != nil {
		return []finding.Finding{k.finding("pkcs11-unwrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	if k.config.Mechanism != aesGCM {
		return nil
	}
	if _, err := k.Unwrap(ctx, wrapped, []byte("other data")); err == nil {
		return []finding.Finding{k.finding("pkcs11-aad-ignored", finding.Error,
			"the module ignores the associated data of AES-GCM, so that an envelope of one cluster opens in another",
			"upgrade the module, or use another mechanism")}
	}
	return nil
}
