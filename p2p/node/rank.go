package node

import (
	"cmp"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// rank says in which order addresses are dialled: as libp2p does, QUIC before TCP, but the
// other way round to a peer on this machine. What QUIC saves is round trips, which take
// nothing there, and what it costs is a system call and a header for each packet: TCP carries
// about twice as much (docs/benchmarks/transfer.md).
func rank(addrs []ma.Multiaddr) []network.AddrDelay {
	var here, elsewhere []ma.Multiaddr
	for _, a := range addrs {
		if manet.IsIPLoopback(a) {
			here = append(here, a)
		} else {
			elsewhere = append(elsewhere, a)
		}
	}
	isTCP := func(a ma.Multiaddr) bool { _, err := a.ValueForProtocol(ma.P_TCP); return err == nil }
	if !slices.ContainsFunc(here, isTCP) {
		return swarm.DefaultDialRanker(addrs)
	}
	ranked := swarm.DefaultDialRanker(elsewhere)
	for _, a := range here {
		delay := swarm.PrivateTCPDelay
		if isTCP(a) {
			delay = 0
		}
		ranked = append(ranked, network.AddrDelay{Addr: a, Delay: delay})
	}
	slices.SortStableFunc(ranked, func(a, b network.AddrDelay) int { return cmp.Compare(a.Delay, b.Delay) })
	return ranked
}
