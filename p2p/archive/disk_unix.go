//go:build unix

package archive

import (
	"errors"
	"os"
	"syscall"
)

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// syncFolder makes the names in a folder below root survive a power cut.
func syncFolder(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	_ = dir.Sync() // some file systems cannot; the names are there all the same
	return dir.Close()
}

// lockFolder locks a folder below root, or fails if it is locked. The lock goes
// with it when it is renamed, and ends with the process.
func lockFolder(root *os.Root, name string) (unlock func(), err error) {
	dir, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	raw, err := dir.SyscallConn()
	if err == nil {
		var locked error
		err = raw.Control(func(fd uintptr) { locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) })
		err = errors.Join(err, locked)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return func() { _ = dir.Close() }, nil // it was only read
}
