//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package auditlog

import (
	"errors"
	"os"
)

// lock keeps other processes out. Logs are written by the daemon, which is for Linux; elsewhere they are verified.
func lock(*os.File) error { return errors.ErrUnsupported }
