package tpmseal_test

import (
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmtest"
)

func request(t *testing.T, device tpmseal.Device, pcrs tpmseal.PCRs) *tpmseal.Request {
	t.Helper()
	made, err := device.Request(t.Context(), pcrs)
	if err != nil {
		t.Fatal(err)
	}
	read, err := tpmseal.ParseRequest(made.Encode())
	if err != nil || read.Fingerprint() != made.Fingerprint() || read.PCRs() != pcrs {
		t.Fatalf("read back: %v", err)
	}
	return read
}

func grant(t *testing.T, request *tpmseal.Request) *tpmseal.Grant {
	t.Helper()
	made, err := request.Grant(secret, request.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(made.Encode()), plain) {
		t.Error("the secret is in the grant")
	}
	read, err := tpmseal.ParseGrant(made.Encode())
	if err != nil || read.PCRs() != request.PCRs() {
		t.Fatalf("read back: %v", err)
	}
	return read
}

func TestGrantOpensOnItsNodeAlone(t *testing.T) {
	tpm, other := tpmtest.Start(t), tpmtest.Start(t)
	for _, pcrs := range []tpmseal.PCRs{0, pcr7, 1<<7 | 1<<14} {
		granted := grant(t, request(t, tpm.Device, pcrs))
		got, err := tpm.Device.OpenGrant(t.Context(), granted)
		if err != nil || string(got.Bytes()) != plain {
			t.Errorf("PCRs %s: %v", pcrs, err)
		}
		_, err = other.Device.OpenGrant(t.Context(), granted)
		wantError(t, err, keyservice.NotFound, "another TPM")
	}
	granted := grant(t, request(t, tpm.Device, pcr7))
	tpm.Extend(7)
	_, err := tpm.Device.OpenGrant(t.Context(), granted)
	wantError(t, err, keyservice.Denied, "PCR 7 changed")
	tpm.Clear()
	_, err = tpm.Device.OpenGrant(t.Context(), granted)
	wantError(t, err, keyservice.NotFound, "was cleared")
	if n := tpm.Loaded(); n != 0 {
		t.Errorf("%d objects and sessions are left in the TPM", n)
	}
}

func TestGrantIsForTheRequestWithTheFingerprint(t *testing.T) {
	tpm, other := tpmtest.Start(t), tpmtest.Start(t)
	asked := request(t, tpm.Device, pcr7)
	fingerprint := asked.Fingerprint()
	if len(fingerprint) != 39 || fingerprint != request(t, tpm.Device, pcr7).Fingerprint() {
		t.Errorf("fingerprint %q", fingerprint)
	}
	for name, wrong := range map[string]*tpmseal.Request{
		"other TPM": request(t, other.Device, pcr7), "other PCRs": request(t, tpm.Device, 0),
	} {
		if _, err := wrong.Grant(secret, fingerprint); err == nil || keyservice.KindOf(err) != keyservice.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := asked.Grant(secret, "")
	wantError(t, err, keyservice.Denied, "not the request with that fingerprint")
	if _, err := asked.Grant(secret, " "+strings.ToUpper(fingerprint)+"\n"); err != nil {
		t.Errorf("in capitals: %v", err)
	}
	_, err = asked.Grant(none, fingerprint)
	wantError(t, err, keyservice.Invalid, "empty")
}

// A point that is not on the curve would give the secret away.
func TestRequestWithABadPoint(t *testing.T) {
	content := request(t, tpmtest.Start(t).Device, pcr7).Encode()
	content[10] ^= 1
	bad, err := tpmseal.ParseRequest(checksummed(content))
	if err != nil {
		t.Fatal(err)
	}
	_, err = bad.Grant(secret, bad.Fingerprint())
	wantError(t, err, keyservice.Invalid, "storage root key")
}

func TestChangedGrantOpensNothing(t *testing.T) {
	tpm := tpmtest.Start(t)
	content := grant(t, request(t, tpm.Device, 0)).Encode()
	const private = 4 + 32 + 1 + 3 + 32 + 2 // after it the wrapped secret, the seed and the checksum
	for _, at := range []int{private - 10, private + 10, private + 60, len(content) - 40} {
		changed := append([]byte(nil), content...)
		changed[at] ^= 1
		granted, err := tpmseal.ParseGrant(checksummed(changed))
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm.Device.OpenGrant(t.Context(), granted)
		wantError(t, err, keyservice.Corrupt, "TPM_RC_")
	}
}
