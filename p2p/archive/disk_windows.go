package archive

import (
	"errors"
	"os"
	"syscall"
)

// errorDiskFull is ERROR_DISK_FULL of the Windows API.
const errorDiskFull = syscall.Errno(112)

func diskFull(err error) bool { return errors.Is(err, errorDiskFull) }

// syncFolder does nothing: Windows cannot flush a folder, and its file systems
// log renames themselves.
func syncFolder(*os.Root, string) error { return nil }

// lockFolder does nothing: Windows has locks for files alone, and keeps a folder
// in which somebody works from being renamed.
func lockFolder(*os.Root, string) (unlock func(), err error) { return func() {}, nil }
