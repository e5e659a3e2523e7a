package store

import (
	"errors"
	"os"
	"syscall"
)

// System error codes of Windows: ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL and
// ERROR_DISK_QUOTA_EXCEEDED.
const (
	errorHandleDiskFull    = syscall.Errno(39)
	errorDiskFull          = syscall.Errno(112)
	errorDiskQuotaExceeded = syscall.Errno(1295)
)

// isFull tells whether the disk, or the user's share of it, is used up.
func isFull(err error) bool {
	return errors.Is(err, errorHandleDiskFull) || errors.Is(err, errorDiskFull) || errors.Is(err, errorDiskQuotaExceeded)
}

// syncDir does nothing: Windows cannot sync a folder, NTFS journals renames.
func syncDir(string) error { return nil }

// unlock does nothing: Windows gives up a lock when its handle is closed.
func unlock(*os.File) error { return nil }
