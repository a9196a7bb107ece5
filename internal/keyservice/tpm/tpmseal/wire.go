package tpmseal

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// An answer of a TPM begins with its tag (2 bytes), its size (4) and a response code (4); see part 1 of the TPM 2.0
// Library, "Command/Response Structure".
const (
	answerHeader = 10
	maxAnswer    = 4096
)

// A TPM that is busy with something else says so in place of an answer. tries and pauses make about two seconds.
const (
	tries      = 10
	firstPause = 5 * time.Millisecond
	longPause  = 500 * time.Millisecond
)

// wire sends commands to a TPM. It implements transport.TPM of go-tpm.
type wire struct{ conn io.ReadWriter }

// Send returns the TPM's answer. A command that the TPM did not start, or not finish, is sent again.
func (w wire) Send(command []byte) (answer []byte, err error) {
	pause := firstPause
	for range tries {
		if answer, err = w.exchange(command); err != nil || !busy(answer) {
			return answer, err
		}
		time.Sleep(pause)
		pause = min(2*pause, longPause)
	}
	return answer, nil
}

func busy(answer []byte) bool {
	code := tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:]))
	return slices.Contains([]tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate}, code)
}

// exchange returns an answer of the size that it says it has. A device gives it as a whole, a socket perhaps in parts.
func (w wire) exchange(command []byte) ([]byte, error) {
	if _, err := w.conn.Write(command); err != nil {
		return nil, fmt.Errorf("%w: %w", errReach, err)
	}
	answer, n := make([]byte, maxAnswer), 0
	for size := answerHeader; n < size; {
		m, err := w.conn.Read(answer[n:])
		n += m
		if n >= answerHeader {
			size = int(binary.BigEndian.Uint32(answer[2:]))
			if size < answerHeader || size > maxAnswer || n > size {
				return nil, fmt.Errorf("%w: it says that it has %d bytes", errAnswer, size)
			}
		}
		if err != nil && n < size {
			return nil, fmt.Errorf("%w: its answer ends after %d bytes: %w", errReach, n, err)
		}
	}
	return answer[:n], nil
}
