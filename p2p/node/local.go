package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// foundQueue is how many peers of the local network may wait to be dialled; what comes
// beside that comes again with their next announcement.
const foundQueue = 16

// local is the discovery of members in the local network, by multicast DNS (RFC 6762,
// libp2p's discovery/mdns.md).
type local struct {
	service mdns.Service
	found   chan peer.AddrInfo
}

// HandlePeerFound implements mdns.Notifee. It must not wait.
func (l *local) HandlePeerFound(info peer.AddrInfo) {
	select {
	case l.found <- info:
	default:
	}
}

// localService is the name under which members of one network, and of one pre-shared
// key, look for each other. A service has at most 15 characters (RFC 6335), and says
// nothing about the network to others.
func localService(network string, secret Secret) string {
	hash := sha256.New()
	_, _ = fmt.Fprintf(hash, "ggen/local\x00%s\x00", network) // a hash takes everything
	if secret.key != nil {
		_, _ = hash.Write(secret.key[:])
	}
	return "_ggen-" + hex.EncodeToString(hash.Sum(nil)[:4]) + "._udp"
}

// onlyLoopback tells whether nobody in the local network could dial the addresses. That of
// any relay is among them always.
func onlyLoopback(addrs []ma.Multiaddr) bool {
	for _, addr := range addrs {
		if _, err := addr.ValueForProtocol(ma.P_CIRCUIT); err != nil && !manet.IsIPLoopback(addr) {
			return false
		}
	}
	return true
}

// lookAround announces this node in the local network and dials the members that do so,
// while it has few neighbours, until ctx ends.
func (n *Node) lookAround(ctx context.Context, service string) {
	l := &local{found: make(chan peer.AddrInfo, foundQueue)}
	l.service = mdns.NewMdnsService(n.host, service, l)
	if err := l.service.Start(); err != nil {
		n.log.Info("cannot look for peers in the local network", "error", err)
		return
	}
	defer func() { _ = l.service.Close() }() // it reports nothing
	for {
		select {
		case <-ctx.Done():
			return
		case info := <-l.found:
			if info.ID == n.host.ID() || len(info.Addrs) == 0 || n.members.count() >= lowWater || n.host.Network().Connectedness(info.ID) == network.Connected {
				continue
			}
			info.Addrs = info.Addrs[:min(len(info.Addrs), maxKnownAddrs)]
			n.dialAndLog(ctx, info, false)
		}
	}
}
