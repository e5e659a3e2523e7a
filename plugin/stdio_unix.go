//go:build unix

package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// silence gives standard output and standard error up: whoever read the first may
// be gone, and a write to a pipe that nobody reads ends a process; what floods the
// second would fill the disk, past every bound of the log.
func silence() error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(
		unix.Dup2(int(null.Fd()), unix.Stdout),
		unix.Dup2(int(null.Fd()), unix.Stderr),
		null.Close(),
	)
}
