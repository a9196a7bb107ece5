package auditlog

import "strings"

// VerifyText verifies a log that is not on a disk.
func VerifyText(log string, mark Mark, end Head) (Report, error) {
	v := newVerifier([]Mark{mark}, &Mark{"state", end})
	err := v.read("log", strings.NewReader(log))
	v.finish()
	return v.Report, err
}
