package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// peerCredentials admit only processes of the same user, whom the kernel names
// (SO_PEERCRED). The socket's folder keeps others out already; this holds even
// when somebody loosens its permissions.
func peerCredentials() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.Creds(sameUser{insecure.NewCredentials()})}
}

type sameUser struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (s sameUser) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if err := checkPeer(conn); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return s.TransportCredentials.ServerHandshake(conn)
}

// ClientHandshake implements credentials.TransportCredentials.
func (s sameUser) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return s.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (s sameUser) Clone() credentials.TransportCredentials {
	return sameUser{s.TransportCredentials.Clone()}
}

func checkPeer(conn net.Conn) error {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("not a Unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if peerErr != nil {
		return peerErr
	}
	if int(peer.Uid) != os.Getuid() {
		return fmt.Errorf("user %d may not use the engine of user %d", peer.Uid, os.Getuid())
	}
	return nil
}
