//go:build unix

package project

import (
	"errors"
	"os"
	"syscall"
)

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// syncDir makes a rename in dir survive a power cut.
func syncDir(dir *os.File) error { return dir.Sync() }
