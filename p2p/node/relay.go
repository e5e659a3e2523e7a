package node

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// A peer behind a NAT can dial others, and cannot be dialled. Once others have told it so,
// it asks up to two members that can be reached to pass on connections to it (circuit
// relay v2), and announces addresses through them. Whoever connects that way tries at once
// to connect directly (DCUtR): both dial each other's public address in the same moment. That works
// when a NAT gives a socket the same outer port towards everybody; else the two stay with
// the relay. A relay sees bytes that are encrypted from end to end, and its own limits bound
// what it passes on.

const (
	// relays is how many a peer asks for: one may vanish.
	relays = 2

	// relayBoot is how long a peer looks for several candidates before it takes the first
	// (library: 3 min). relayAgain is when a member that refused is asked again (1 h), and relayEvery
	// how often there are new candidates while there are too few relays (30 s).
	relayBoot  = 10 * time.Second
	relayAgain = 5 * time.Minute
	relayEvery = 10 * time.Second
)

// relayed is what this peer passes on for others. The library's limits, 128 KiB and two
// minutes for a connection, are enough to begin a direct one; where none can be had, a
// package of usual size comes through with these. In all that is at most 64 circuits.
var relayed = relay.Resources{
	Limit:          &relay.RelayLimit{Duration: 5 * time.Minute, Data: 16 << 20},
	ReservationTTL: time.Hour, MaxReservations: 64, MaxCircuits: 8, BufferSize: 16 << 10,
	MaxReservationsPerIP: 8, MaxReservationsPerASN: 32,
}

// relayOptions let the node be reached through others, and others through it once it is
// known to be reachable.
func relayOptions(cfg Config, candidates *relayCandidates) []libp2p.Option {
	options := []libp2p.Option{
		libp2p.EnableRelay(),
		libp2p.EnableHolePunching(),
		libp2p.EnableAutoRelayWithPeerSource(candidates.find, autorelay.WithMinCandidates(1), autorelay.WithNumRelays(relays),
			autorelay.WithBootDelay(relayBoot), autorelay.WithBackoff(relayAgain), autorelay.WithMinInterval(relayEvery)),
	}
	if !cfg.DHTClient && !cfg.DHTServer {
		options = append(options, libp2p.EnableRelayService(relay.WithResources(relayed)))
	}
	return options
}

// serveRelay makes a node that was told to be reachable pass on connections, before
// anybody has found that it is. Close it before the host.
func serveRelay(h host.Host) (*relay.Relay, error) {
	return relay.New(h, relay.WithResources(relayed))
}

// relayCandidates are the members that offer to be relays.
type relayCandidates struct {
	host    host.Host // set once it is there; the library asks later
	members func() []peer.ID
	ready   chan struct{} // closed when the fields above are set
}

// find implements [autorelay.PeerSource].
func (c *relayCandidates) find(ctx context.Context, most int) <-chan peer.AddrInfo {
	found := make(chan peer.AddrInfo, most)
	defer close(found)
	select {
	case <-c.ready:
	case <-ctx.Done():
		return found
	}
	for _, p := range c.members() {
		spoken, err := c.host.Peerstore().SupportsProtocols(p, proto.ProtoIDv2Hop)
		direct := slices.ContainsFunc(c.host.Network().ConnsToPeer(p), func(conn network.Conn) bool { return !conn.Stat().Limited })
		if err == nil && len(spoken) > 0 && direct && len(found) < most {
			found <- peer.AddrInfo{ID: p, Addrs: c.host.Peerstore().Addrs(p)}
		}
	}
	return found
}
