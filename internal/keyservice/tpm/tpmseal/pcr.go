package tpmseal

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// PCRs is a set of platform configuration registers, 0 to 23; PCR n is bit n. The TCG's PC Client Platform Firmware Profile
// says what is measured into which.
type PCRs uint32

const pcrCount = 24

// ParsePCRs reads numbers with commas between them, such as "7,11", or "none".
func ParsePCRs(s string) (PCRs, error) {
	if s == "none" {
		return 0, nil
	}
	var pcrs PCRs
	for field := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(field), 10, 8)
		if err != nil || n >= pcrCount {
			return 0, fmt.Errorf("%q is no list of PCRs: write numbers from 0 to %d with commas, such as 7 or 7,11, or none",
				s, pcrCount-1)
		}
		pcrs |= 1 << n
	}
	return pcrs, nil
}

// List returns the numbers of the PCRs, in ascending order.
func (p PCRs) List() []int {
	numbers := make([]int, 0, p.count())
	for n := range pcrCount {
		if p&(1<<n) != 0 {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// String returns what ParsePCRs reads.
func (p PCRs) String() string {
	if p == 0 {
		return "none"
	}
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(p.List()), "[]"), " ", ",")
}

func (p PCRs) count() int { return bits.OnesCount32(uint32(p)) }

// selection is the set in the TPM's own form, in the bank of SHA-256.
func (p PCRs) selection() tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{byte(p), byte(p >> 8), byte(p >> 16)},
	}}}
}

// state is the values of some PCRs.
type state struct {
	pcrs   PCRs
	values [][sha256.Size]byte // by ascending number
}

// changed returns the PCRs that have another value now.
func (s state) changed(now state) (changed PCRs) {
	for i, n := range s.pcrs.List() {
		if s.values[i] != now.values[i] {
			changed |= 1 << n
		}
	}
	return changed
}

// read returns the present values, one after the other: a TPM tells only some of them at once, and none of a bank that is
// switched off.
func (t tpm) read(pcrs PCRs) (state, error) {
	now := state{pcrs: pcrs}
	for _, n := range pcrs.List() {
		answer, err := tpm2.PCRRead{PCRSelectionIn: PCRs(1 << n).selection()}.Execute(t)
		if err != nil {
			return state{}, fmt.Errorf("reading PCR %d: %w", n, err)
		}
		digests := answer.PCRValues.Digests
		if len(digests) == 0 {
			return state{}, fmt.Errorf("%w: PCR %d", errBank, n)
		}
		if len(digests) > 1 || len(digests[0].Buffer) != sha256.Size {
			return state{}, fmt.Errorf("%w: it is not the value of PCR %d", errAnswer, n)
		}
		now.values = append(now.values, [sha256.Size]byte(digests[0].Buffer))
	}
	return now, nil
}

// digest is what a policy compares.
func (s state) digest() tpm2.TPM2BDigest {
	h := sha256.New()
	for _, value := range s.values {
		h.Write(value[:])
	}
	return tpm2.TPM2BDigest{Buffer: h.Sum(nil)}
}
