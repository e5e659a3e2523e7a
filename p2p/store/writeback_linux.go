package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeBack has the kernel begin to write a part of a file to disk, and does not wait for
// it: sync_file_range(2). So the sync at the end of a download finds little to do. It
// promises nothing, and where it fails that sync does all.
func writeBack(file *os.File, offset, length int64) {
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.SyncFileRange(int(fd), offset, length, unix.SYNC_FILE_RANGE_WRITE) })
}
