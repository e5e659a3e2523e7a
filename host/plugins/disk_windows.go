package plugins

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func inode(fs.FileInfo) uint64 { return 0 }

// errorDiskFull is ERROR_DISK_FULL of the Windows API.
const errorDiskFull = syscall.Errno(112)

func diskFull(err error) bool { return errors.Is(err, errorDiskFull) }

// syncDir does nothing: Windows cannot flush a folder, and its file systems log
// renames themselves.
func syncDir(*os.File) error { return nil }
