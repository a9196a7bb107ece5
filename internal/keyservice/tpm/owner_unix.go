//go:build unix

package tpm

import (
	"io/fs"
	"os"
	"syscall"
)

// giveTo gives a file to the owner and group of another: the daemon that reads it may run as another user than the tool.
func giveTo(file *os.File, like fs.FileInfo) error {
	owner := like.Sys().(*syscall.Stat_t)
	return file.Chown(int(owner.Uid), int(owner.Gid))
}
