//go:build unix

package engine

import (
	"io/fs"
	"os"
	"syscall"
)

// warmSupported tells whether an engine can live in the background here.
const warmSupported = true

// detached puts the engine into a session of its own.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}
