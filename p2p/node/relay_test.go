package node_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
)

const echo = "/test/echo/1"

// circuits are a node's addresses through relays.
func circuits(n *node.Node) (found []ma.Multiaddr) {
	for _, addr := range n.Host().Addrs() {
		if _, err := addr.ValueForProtocol(ma.P_CIRCUIT); err == nil {
			found = append(found, addr)
		}
	}
	return found
}

// throughRelay opens a relay and two peers that know it, of which one is reached through it.
func throughRelay(t *testing.T, hidden, other node.Config) (behind, from *node.Node) {
	t.Helper()
	// Its addresses are public ones, and nothing gets from one of the two to the other.
	net := p2ptest.NewNetwork(t, p2ptest.Links{Between: func(from, to int) time.Duration {
		if from+to == 3 {
			return 1000 * time.Hour
		}
		return 20 * time.Millisecond
	}})
	r := p2ptest.Open(t, net.Config(t, 0, node.Config{DHTServer: true}))
	hidden.Bootstrap, other.Bootstrap = r.Addresses(), r.Addresses()
	hidden = net.Config(t, 1, hidden)
	hidden.Options = append(hidden.Options, libp2p.ForceReachabilityPrivate())
	behind, from = p2ptest.Open(t, hidden), p2ptest.Open(t, net.Config(t, 2, other))
	p2ptest.Eventually(t, "a relay is found", func() bool { return len(circuits(behind)) > 0 })
	return behind, from
}

func answerEcho(s network.Stream) {
	_, _ = io.Copy(s, s)
	_ = s.Close()
}

// reach opens a stream through a relay alone.
func reach(ctx context.Context, from *node.Node, behind *node.Node) (network.Stream, error) {
	from.Host().Peerstore().AddAddrs(behind.PeerID(), circuits(behind), peerstore.TempAddrTTL)
	return from.Host().NewStream(network.WithAllowLimitedConn(ctx, "test"), behind.PeerID(), echo)
}

func TestAPeerIsReachedThroughARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behind, from := throughRelay(t, node.Config{}, node.Config{})
		behind.Host().SetStreamHandler(echo, answerEcho)
		s, err := reach(t.Context(), from, behind)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Conn().Stat().Limited || s.Conn().RemotePeer() != behind.PeerID() {
			t.Fatalf("it is %s", s.Conn().RemoteMultiaddr())
		}
		if _, err := s.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		_ = s.CloseWrite()
		if back, err := io.ReadAll(s); err != nil || string(back) != "hello" {
			t.Fatalf("%q, %v", back, err)
		}
		for _, addr := range behind.Addresses() {
			if strings.HasPrefix(addr, "/p2p-circuit") {
				t.Errorf("%s is told to others, which is nowhere", addr)
			}
		}
	})
}

// Whoever is refused is refused behind a relay, too.
func TestRefusedPeersStayOutBehindARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refused atomic.Value
		refused.Store(peer.ID(""))
		behind, from := throughRelay(t, node.Config{Refuse: func(p peer.ID) bool { return p == refused.Load() }}, node.Config{})
		behind.Host().SetStreamHandler(echo, answerEcho)
		refused.Store(from.PeerID())
		s, err := reach(t.Context(), from, behind)
		if err == nil {
			_ = s.SetDeadline(time.Now().Add(time.Minute))
			_, _ = s.Write([]byte("hello")) // the refusal may be on its way
			_ = s.CloseWrite()
			if back, err := io.ReadAll(s); err == nil && len(back) > 0 {
				t.Fatalf("it answers %q", back)
			}
		}
		p2ptest.Eventually(t, "nothing is connected", func() bool { return len(behind.Host().Network().ConnsToPeer(from.PeerID())) == 0 })
	})
}

// A connection that nobody uses is closed after five minutes while there are more than 32,
// and one that is used stays.
func TestIdleConnectionsAreClosed(t *testing.T) {
	const strangers, low = 40, 32
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.NewNetwork(t, p2ptest.Links{})
		n := p2ptest.Open(t, net.Config(t, 0, node.Config{}))
		n.Host().SetStreamHandler(echo, func(s network.Stream) { _ = s.Close() })
		to := peer.AddrInfo{ID: n.PeerID(), Addrs: n.Host().Addrs()}
		var all []host.Host
		for i := range strangers {
			h := net.Host(t, i+1)
			if err := h.Connect(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			all = append(all, h)
		}
		const busy = strangers - low + 4 // those that came first, and would go first
		for range 7 {
			for _, h := range all[:busy] {
				s, err := h.NewStream(t.Context(), n.PeerID(), echo)
				if err != nil {
					t.Fatal(err)
				}
				_ = s.Close()
			}
			<-time.After(time.Minute)
		}
		if left := len(n.Host().Network().Peers()); left != low {
			t.Errorf("%d are connected", left)
		}
		for i, h := range all[:busy] {
			if n.Host().Network().Connectedness(h.ID()) != network.Connected {
				t.Errorf("peer %d is gone, though it was used", i)
			}
		}
	})
}

// A peer that vanishes without a word is noticed: the transports ask for a sign of life.
func TestAVanishedPeerIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		net := p2ptest.NewNetwork(t, p2ptest.Links{Between: func(int, int) time.Duration {
			if gone.Load() {
				return 1000 * time.Hour
			}
			return 20 * time.Millisecond
		}})
		n, h := p2ptest.Open(t, net.Config(t, 0, node.Config{})), net.Host(t, 1)
		if err := h.Connect(t.Context(), peer.AddrInfo{ID: n.PeerID(), Addrs: n.Host().Addrs()}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute) // idle connections stay
		if n.Host().Network().Connectedness(h.ID()) != network.Connected {
			t.Fatal("it is not connected")
		}
		gone.Store(true)
		<-time.After(time.Minute)
		if n.Host().Network().Connectedness(h.ID()) == network.Connected {
			t.Error("a minute later nobody has noticed")
		}
	})
}

func TestUsefulPeersAreTagged(t *testing.T) {
	n := p2ptest.Open(t, onLoopback(t, node.Config{}))
	m := p2ptest.Open(t, onLoopback(t, node.Config{Bootstrap: n.Addresses()}))
	p2ptest.Eventually(t, "they are connected", func() bool { return len(n.Connected()) == 1 })
	n.Useful(m.PeerID())
	p2ptest.Eventually(t, "it is tagged", func() bool {
		info := n.Host().ConnManager().GetTagInfo(m.PeerID())
		return info != nil && info.Tags["ggen/delivered"] > 0
	})
}
