package main

import (
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// limitMemory makes the garbage collector work harder near limit bytes, and the
// kernel refuse more (RLIMIT_DATA), which ends the process with a report. The
// kernel counts what is mapped, and Go maps its heap in steps of 64 MiB.
func limitMemory(limit int64) error {
	debug.SetMemoryLimit(limit / 10 * 9)
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: uint64(limit), Max: uint64(limit)})
}
