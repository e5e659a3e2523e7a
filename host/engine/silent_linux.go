package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// endListener kills the process that listens on a socket. Which one that is, the
// kernel says: a process ID in a file may be of another process by now. A handle
// on the process is taken between two questions with the same answer, so it is of
// the listener even if process IDs are reused meanwhile.
func endListener(ctx context.Context, socket string) error {
	pid, err := listener(ctx, socket)
	if err != nil {
		return err
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer func() { _ = process.Release() }() // only frees the handle
	again, err := listener(ctx, socket)
	if err != nil {
		return err
	}
	if again != pid {
		return fmt.Errorf("process %d listened on %s, and now %d does", pid, socket, again)
	}
	return process.Kill()
}

// listener is the process that listens on a Unix socket, if it is one of ours.
func listener(ctx context.Context, socket string) (pid int, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if peerErr != nil {
		return 0, peerErr
	}
	if int(peer.Uid) != os.Getuid() {
		return 0, fmt.Errorf("%s belongs to user %d", socket, peer.Uid)
	}
	return int(peer.Pid), nil
}
