// Package p2ptest gives tests and benchmarks a simulated network on which real
// libp2p hosts run: QUIC over links with latency and bandwidth, in the virtual
// time of testing/synctest. For networks that are too large for that there are
// TLS and yamux over streams of bytes instead ([Links.Streams]).
//
// It simulates the network and nothing else: hosts, DHT, gossip and every
// protocol above are the real ones. It does not lose packets, and virtual time
// counts no CPU time. Nodes on real loopback need no help from here.
package p2ptest

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"ggen.dev/marketplace/p2p/node"
)

// Links describes the links of a simulated network.
type Links struct {
	Latency time.Duration // one way, between any two hosts; default 20 ms
	Mbps    int           // of each host's uplink and downlink; default 100
	// Rate overrides Mbps for a host, by number, with [Network.Host], [Network.Config]
	// and [Network.OptionsOf].
	Rate func(host int) (mbps int)
	// Between overrides Latency for packets from one host to another, by number.
	Between func(from, to int) time.Duration
	// Streams has bytes arrive in order instead of packets: a host takes a fraction of the
	// memory, and nothing may be lost.
	Streams bool
}

// Network is a simulated network. Its methods must be called one after the
// other: endpoints of the simulation cannot be made in parallel.
type Network struct {
	sim     *simnet.Simnet
	streams *streams // or sim
	links   Links
}

// NewNetwork starts a network, which ends with the test. Call it inside a
// synctest bubble, and open what runs on it after it: everything must be closed
// inside the bubble, and the network last.
func NewNetwork(tb testing.TB, links Links) *Network {
	tb.Helper()
	if links.Latency == 0 {
		links.Latency = 20 * time.Millisecond
	}
	if links.Mbps == 0 {
		links.Mbps = 100
	}
	if links.Streams {
		return &Network{streams: newStreams(links), links: links}
	}
	n := &Network{
		sim:   &simnet.Simnet{LatencyFunc: links.latency, Logger: slog.New(slog.DiscardHandler)},
		links: links,
	}
	n.sim.Start()
	tb.Cleanup(n.sim.Close)
	return n
}

func (l Links) latency(packet *simnet.Packet) time.Duration {
	return l.between(hostNumber(packet.From), hostNumber(packet.To))
}

func (l Links) between(from, to int) time.Duration {
	if l.Between == nil {
		return l.Latency
	}
	return l.Between(from, to)
}

func hostNumber(addr net.Addr) int {
	udp, ok := addr.(*net.UDPAddr)
	if !ok || udp.IP.To4() == nil {
		return -1
	}
	return hostOf(udp.IP)
}

// hostOf undoes [Network.Listen]: simnet.IntToPublicIPv4 counts in the last three
// bytes from 1.
func hostOf(address net.IP) int {
	ip := address.To4()
	return ((int(ip[1])<<16 | int(ip[2])<<8 | int(ip[3])) - 1) >> 8
}

// Listen is the address of host number i (0 ≤ i < 2^16), for the listen
// addresses of its node. It is a public IPv4 address in a block (/24) of the host's own.
func (n *Network) Listen(i int) []string { return n.ListenIn(i, 0) }

// ListenIn is the address of a further host (0 ≤ k < 255) in the block of host number
// i, for peers that all belong to one owner. Its links are those of host i.
func (n *Network) ListenIn(i, k int) []string {
	form := "/ip4/%s/udp/8000/quic-v1"
	if n.streams != nil {
		form = "/ip4/%s/tcp/8000"
	}
	return []string{fmt.Sprintf(form, simnet.IntToPublicIPv4(i<<8+k))}
}

// Options put a host on the network; use them once for each host. Connections
// are not limited by the resource manager, which would take a whole simulation
// behind one process for an attack.
func (n *Network) Options() []libp2p.Option { return n.options(n.links.Mbps) }

// OptionsOf are [Network.Options] of host number i, which may have a rate of its own.
func (n *Network) OptionsOf(i int) []libp2p.Option {
	if n.links.Rate == nil {
		return n.Options()
	}
	return n.options(n.links.Rate(i))
}

func (n *Network) options(mbps int) []libp2p.Option {
	var links libp2p.Option
	if n.streams != nil {
		links = n.streams.option(mbps)
	} else {
		link := simnet.LinkSettings{BitsPerSecond: mbps * simlibp2p.OneMbps}
		links = simlibp2p.QUICSimnet(n.sim, simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link})
	}
	return []libp2p.Option{
		links,
		// It never comes to rest, and virtual time only passes when all rest.
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	}
}

// Host opens a libp2p host without anything above it, as host number i, and closes it with
// the test.
func (n *Network) Host(tb testing.TB, i int) host.Host {
	tb.Helper()
	options := []libp2p.Option{libp2p.Identity(Identity(tb)), libp2p.ListenAddrStrings(n.Listen(i)...), libp2p.DisableRelay(), libp2p.DisableMetrics()}
	h, err := libp2p.New(append(options, n.OptionsOf(i)...)...)
	if err != nil {
		tb.Fatalf("open host %d: %v", i, err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Errorf("close host %d: %v", i, err)
		}
	})
	return h
}

// Config completes cfg for host number i: a new identity unless it has one, its
// address and the options of the network.
func (n *Network) Config(tb testing.TB, i int, cfg node.Config) node.Config {
	tb.Helper()
	if cfg.Identity == nil {
		cfg.Identity = Identity(tb)
	}
	cfg.Listen = n.Listen(i)
	cfg.Options = append(cfg.Options, n.OptionsOf(i)...)
	return cfg
}

// Nodes opens and starts count nodes with hosts 0 to count-1, each completed
// from configure's answer; all but the first bootstrap from the first. They are
// closed with the test. It does not wait until they are connected.
func (n *Network) Nodes(tb testing.TB, count int, configure func(i int) node.Config) []*node.Node {
	tb.Helper()
	nodes := make([]*node.Node, count)
	for i := range nodes {
		cfg := n.Config(tb, i, configure(i))
		if i > 0 {
			cfg.Bootstrap = append(cfg.Bootstrap, nodes[0].Addresses()...)
		}
		nodes[i] = Open(tb, cfg)
	}
	return nodes
}

// Open opens and starts a node and closes it with the test.
func Open(tb testing.TB, cfg node.Config) *node.Node {
	tb.Helper()
	n, err := node.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatalf("open node: %v", err)
	}
	tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			tb.Errorf("close node: %v", err)
		}
	})
	n.Start()
	return n
}

// Identity makes a node key.
func Identity(tb testing.TB) crypto.PrivKey {
	tb.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		tb.Fatalf("make node key: %v", err)
	}
	return key
}

// Eventually polls until met answers true, and fails the test when it has not
// within a minute. In a synctest bubble that is virtual time.
func Eventually(tb testing.TB, what string, met func() bool) {
	tb.Helper()
	deadline := time.Now().Add(time.Minute)
	for !met() {
		if time.Now().After(deadline) {
			tb.Fatalf("waited a minute for: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
