package engine

import (
	"io/fs"
	"syscall"
)

// warmSupported tells whether an engine can live in the background here. On
// Windows go-plugin listens on a TCP port that every user can reach, so each
// command starts an engine of its own, over mutual TLS.
const warmSupported = false

func detached() *syscall.SysProcAttr { return nil }

func ownedByUs(fs.FileInfo) bool { return true }
