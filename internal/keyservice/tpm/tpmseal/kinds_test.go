package tpmseal_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmtest"
)

// answering returns a TPM that gives the same answers to all commands, one after the other; the last for ever.
func answering(t *testing.T, answers ...[]byte) tpmseal.Device {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				command := make([]byte, 4096)
				for i := 0; ; i++ {
					if _, err := conn.Read(command); err != nil {
						return
					}
					conn.Write(answers[min(i, len(answers)-1)])
				}
			}()
		}
	}()
	return tpmseal.Device(listener.Addr().String())
}

func code(rc tpm2.TPMRC) []byte {
	answer := []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(answer[6:], uint32(rc))
	return answer
}

const (
	parameter2 = 0x240 // says of a code that it is about the second parameter
	session1   = 0x900
)

func TestKinds(t *testing.T) {
	for rc, kind := range map[tpm2.TPMRC]keyservice.Kind{
		tpm2.TPMRCAuthFail + session1: keyservice.Denied, tpm2.TPMRCBadAuth + session1: keyservice.Denied,
		tpm2.TPMRCLockout:               keyservice.Throttled,
		tpm2.TPMRCPolicyFail + session1: keyservice.Denied, tpm2.TPMRCPCRChanged: keyservice.Denied, tpm2.TPMRCPCR: keyservice.Denied,
		tpm2.TPMRCPolicy: keyservice.Denied, tpm2.TPMRCLocality: keyservice.Denied, tpm2.TPMRCPP: keyservice.Denied,
		tpm2.TPMRCHierarchy: keyservice.Disabled, tpm2.TPMRCDisabled: keyservice.Disabled,
		tpm2.TPMRCIntegrity + parameter2: keyservice.Corrupt, tpm2.TPMRCSensitive: keyservice.Corrupt, tpm2.TPMRCBinding: keyservice.Corrupt,
		tpm2.TPMRCSize: keyservice.Corrupt, tpm2.TPMRCInsufficient: keyservice.Corrupt, tpm2.TPMRCECCPoint: keyservice.Corrupt,
		tpm2.TPMRCContextGap: keyservice.Throttled, tpm2.TPMRCObjectMemory: keyservice.Throttled, tpm2.TPMRCSessionMemory: keyservice.Throttled,
		tpm2.TPMRCMemory: keyservice.Throttled, tpm2.TPMRCSessionHandles: keyservice.Throttled,
		tpm2.TPMRCObjectHandles: keyservice.Throttled, tpm2.TPMRCTooManyContexts: keyservice.Throttled,
		tpm2.TPMRCCanceled: keyservice.Unavailable, tpm2.TPMRCHandle: keyservice.Unavailable, tpm2.TPMRCExclusive: keyservice.Unavailable,
		tpm2.TPMRCReferenceH0: keyservice.Unavailable, tpm2.TPMRCReferenceS6: keyservice.Unavailable,
		tpm2.TPMRCInitialize: keyservice.Unavailable, tpm2.TPMRCFailure: keyservice.Unavailable, tpm2.TPMRCUpgrade: keyservice.Unavailable,
		tpm2.TPMRCReboot: keyservice.Unavailable, tpm2.TPMRCNeedsTest: keyservice.Unavailable, tpm2.TPMRCNVUnavailable: keyservice.Unavailable,
		tpm2.TPMRCNVUninitialized: keyservice.Unavailable, tpm2.TPMRCNVSpace: keyservice.Unavailable, tpm2.TPMRCNoResult: keyservice.Unavailable,
		tpm2.TPMRCCommandCode: keyservice.Invalid, tpm2.TPMRCCurve: keyservice.Invalid, tpm2.TPMRCValue + parameter2: keyservice.Invalid,
		tpm2.TPMRCSymmetric: keyservice.Invalid, tpm2.TPMRCParent: keyservice.Invalid, tpm2.TPMRCAttributes: keyservice.Invalid,
		tpm2.TPMRCTag: keyservice.Corrupt, tpm2.TPMRCCommandSize: keyservice.Corrupt, tpm2.TPMRCAuthSize: keyservice.Corrupt,
		tpm2.TPMRCAuthContext: keyservice.Corrupt, tpm2.TPMRCBadContext: keyservice.Corrupt, tpm2.TPMRCNonce: keyservice.Corrupt,
		0x0000fedc: keyservice.Corrupt, // no code at all
	} {
		_, err := answering(t, code(rc)).Request(t.Context(), pcr7)
		keyservicetest.CheckKind(t, fmt.Sprintf("%#x", uint32(rc)), err, kind, "")
	}
}

// The library has a text for each code of the specification, and says so where it has none.
func TestEveryCodeOfTheTPMIsJudged(t *testing.T) {
	n := 0
	for rc := tpm2.TPMRC(0x80); rc < 0x980; rc++ {
		about := rc & 0xf40 // in codes with 0x80: which parameter, handle or session
		if rc&0x80 != 0 && about != 0 || strings.HasPrefix(rc.Error(), "un") {
			continue
		}
		n++
		if !tpmseal.Judged(rc) {
			t.Errorf("no line of the table is for %s", rc)
		}
	}
	if n < 90 {
		t.Errorf("the library has %d codes", n)
	}
}

func TestBusyTPMIsAskedAgain(t *testing.T) {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate} {
		_, err := answering(t, code(rc), code(rc), code(tpm2.TPMRCFailure)).Request(t.Context(), pcr7)
		wantError(t, err, keyservice.Unavailable, "TPM_RC_FAILURE")
	}
	start := time.Now()
	_, err := answering(t, code(tpm2.TPMRCRetry)).Request(t.Context(), pcr7)
	wantError(t, err, keyservice.Throttled, "TPM_RC_RETRY")
	if took := time.Since(start); took < time.Second || took > 10*time.Second {
		t.Errorf("gave up after %s", took)
	}
}

func TestAnswersThatCannotBeRight(t *testing.T) {
	sealed := seal(t, tpmtest.Start(t).Device, none, pcr7)
	for name, answer := range map[string][]byte{
		"tiny":     {0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0},
		"huge":     {0x80, 1, 0, 1, 0, 0, 0, 0, 0, 0},
		"too long": append(code(tpm2.TPMRCFailure), 0),
		"empty":    code(tpm2.TPMRCSuccess),
		"garbage":  []byte(strings.Repeat("\x00\x00\x00\x10", 4)),
	} {
		_, err := answering(t, answer).Unseal(t.Context(), sealed, none)
		keyservicetest.CheckKind(t, name, err, keyservice.Corrupt, "")
	}
}
