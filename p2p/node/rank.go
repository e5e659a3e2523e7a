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
	has := func(a ma.Multiaddr, protocol int) bool { _, err := a.ValueForProtocol(protocol); return err == nil }
	isTCP := func(a ma.Multiaddr) bool { return has(a, ma.P_TCP) }
	var here, elsewhere []ma.Multiaddr
	for _, a := range addrs {
		if manet.IsIPLoopback(a) && !has(a, ma.P_CIRCUIT) { // who is behind a relay here may be anywhere
			here = append(here, a)
		} else {
			elsewhere = append(elsewhere, a)
		}
	}
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
