package node_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}

// onLoopback is a node's configuration for this machine.
func onLoopback(t *testing.T, cfg node.Config) node.Config {
	t.Helper()
	if cfg.Identity == nil {
		cfg.Identity = p2ptest.Identity(t)
	}
	if cfg.Listen == nil {
		cfg.Listen = loopback
	}
	return cfg
}

func connected(nodes []*node.Node, each int) func() bool {
	return func() bool {
		for _, n := range nodes {
			if len(n.Connected()) < each || n.RoutingTableSize() < each {
				return false
			}
		}
		return true
	}
}

func TestNetwork(t *testing.T) {
	t.Run("20 peers find each other through one bootstrap address", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			net := p2ptest.NewNetwork(t, p2ptest.Links{})
			started := time.Now()
			nodes := net.Nodes(t, 20, func(int) node.Config { return node.Config{} })
			p2ptest.Eventually(t, "all 20 in all routing tables", connected(nodes, 19))
			t.Logf("virtual time until everybody knows everybody: %s", time.Since(started))
		})
	})
	t.Run("loopback nodes serve the DHT to each other", func(t *testing.T) {
		first := p2ptest.Open(t, onLoopback(t, node.Config{DHTServer: true, AnswerReachability: true}))
		second := p2ptest.Open(t, onLoopback(t, node.Config{Bootstrap: first.Addresses()[:1]}))
		third := p2ptest.Open(t, onLoopback(t, node.Config{Bootstrap: first.Addresses()}))
		p2ptest.Eventually(t, "full routing tables", connected([]*node.Node{first, second, third}, 2))
		for _, n := range []*node.Node{first, second, third} {
			if n.DHTMode() != "server" || n.Reachability() != "unknown" {
				t.Errorf("mode %s, reachability %s", n.DHTMode(), n.Reachability())
			}
		}
	})
	t.Run("another network's peers are strangers", func(t *testing.T) {
		ours := p2ptest.Open(t, onLoopback(t, node.Config{}))
		theirs := p2ptest.Open(t, onLoopback(t, node.Config{Network: "other"}))
		outcome := theirs.Bootstrap(t.Context(), ours.Addresses()[:1])[0]
		if outcome.Err == nil || outcome.Err.Reason != shared.ReasonInvalidArgument || !strings.Contains(outcome.Err.Error(), "network") {
			t.Fatalf("outcome %v", outcome.Err)
		}
		p2ptest.Eventually(t, "the connection to be closed", func() bool { return len(theirs.Host().Network().Peers()) == 0 })
		if len(ours.Connected())+len(theirs.Connected())+ours.RoutingTableSize() != 0 {
			t.Fatal("a stranger counts as a member")
		}
	})
}

func TestBootstrap(t *testing.T) {
	other := p2ptest.Open(t, onLoopback(t, node.Config{}))
	n := p2ptest.Open(t, onLoopback(t, node.Config{}))
	stranger, err := peer.IDFromPrivateKey(p2ptest.Identity(t))
	if err != nil {
		t.Fatal(err)
	}
	wrong := func(i int) string {
		return strings.ReplaceAll(other.Addresses()[i], other.PeerID().String(), stranger.String())
	}
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	port := silent.LocalAddr().(*net.UDPAddr).Port

	for _, tc := range []struct {
		name, addr string
		reason     shared.Reason
		says       []string
	}{
		{"wrong peer ID over TCP", wrong(0), shared.ReasonInvalidArgument, []string{stranger.String(), other.PeerID().String()}},
		{"wrong peer ID over QUIC", wrong(1), shared.ReasonInvalidArgument, []string{stranger.String(), other.PeerID().String()}},
		{"own address", n.Addresses()[0], shared.ReasonInvalidArgument, []string{"own address"}},
		{"no peer ID", "/ip4/127.0.0.1/tcp/1", shared.ReasonInvalidArgument, []string{"/ip4/127.0.0.1/tcp/1"}},
		{"no address", "/p2p/" + stranger.String(), shared.ReasonInvalidArgument, []string{"where"}},
		{"nonsense", "localhost:4001", shared.ReasonInvalidArgument, []string{"localhost:4001"}},
		{"nobody listens", "/ip4/127.0.0.1/tcp/1/p2p/" + stranger.String(), shared.ReasonNoPeers, []string{"refused"}},
		{"nobody answers", fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1/p2p/%s", port, stranger), shared.ReasonTimeout, []string{"5s"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			outcome := n.Bootstrap(t.Context(), []string{tc.addr})[0]
			if outcome.Err == nil || outcome.Err.Reason != tc.reason {
				t.Fatalf("error %v, want %s", outcome.Err, tc.reason)
			}
			for _, part := range tc.says {
				if !strings.Contains(outcome.Err.Message, part) {
					t.Errorf("message %q lacks %q", outcome.Err.Message, part)
				}
			}
			if strings.Contains(outcome.Err.Message, "\n") {
				t.Errorf("message has several lines: %q", outcome.Err.Message)
			}
		})
	}
	t.Run("outcomes keep the order of the addresses", func(t *testing.T) {
		addrs := []string{"nonsense", other.Addresses()[0], wrong(0), other.Addresses()[1]}
		outcomes := n.Bootstrap(t.Context(), addrs)
		for i, failed := range []bool{true, false, true, false} {
			if outcomes[i].Address != addrs[i] || (outcomes[i].Err != nil) != failed {
				t.Errorf("outcome %d: %+v", i, outcomes[i])
			}
		}
		if outcomes[1].PeerID != other.PeerID().String() {
			t.Errorf("peer ID %s", outcomes[1].PeerID)
		}
	})
	t.Run("a caller that gives up is told so", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		outcome := p2ptest.Open(t, onLoopback(t, node.Config{})).Bootstrap(ctx, other.Addresses()[:1])[0]
		if !errors.Is(outcome.Err, context.Canceled) {
			t.Fatalf("outcome %v", outcome.Err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	taken := p2ptest.Open(t, onLoopback(t, node.Config{}))
	bare := func(i int) string { return strings.Split(taken.Addresses()[i], "/p2p/")[0] }
	for _, tc := range []struct {
		name   string
		cfg    node.Config
		reason shared.Reason
		says   string
	}{
		{"a TCP port in use", node.Config{Listen: []string{bare(0)}}, shared.ReasonAddressInUse, bare(0)},
		{"a UDP port in use", node.Config{Listen: []string{bare(1)}}, shared.ReasonAddressInUse, bare(1)},
		{"one port in use of two", node.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0", bare(1)}}, shared.ReasonAddressInUse, bare(1)},
		{"a foreign interface", node.Config{Listen: []string{"/ip4/192.0.2.1/tcp/0"}}, shared.ReasonAddressInUse, "192.0.2.1"},
		{"nonsense to listen on", node.Config{Listen: []string{"0.0.0.0:1"}}, shared.ReasonInvalidArgument, "0.0.0.0:1"},
		{"a transport that is not spoken", node.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0/ws"}}, shared.ReasonInvalidArgument, "/ws"},
		{"a bootstrap address without peer", node.Config{Bootstrap: []string{"/ip4/192.0.2.1/tcp/1"}}, shared.ReasonInvalidArgument, "192.0.2.1"},
		{"a network name", node.Config{Network: "No/Name"}, shared.ReasonInvalidArgument, "No/Name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, err := node.Open(t.Context(), onLoopback(t, tc.cfg))
			if n != nil || !errors.Is(err, tc.reason) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("Open = %v, %v; want %s naming %s", n, err, tc.reason, tc.says)
			}
			if shared.AsError(err).Hint == "" {
				t.Error("no hint")
			}
		})
	}
	if _, err := node.Open(t.Context(), node.Config{Listen: loopback}); !errors.Is(err, shared.ReasonInvalidArgument) {
		t.Fatalf("no identity: %v", err)
	}
}

func TestRestart(t *testing.T) {
	home := t.TempDir()
	cfg := onLoopback(t, node.Config{PeersFile: filepath.Join(home, "peers.json")})
	other := p2ptest.Open(t, onLoopback(t, node.Config{}))

	n, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	if outcome := n.Bootstrap(t.Context(), other.Addresses())[0]; outcome.Err != nil {
		t.Fatal(outcome.Err)
	}
	p2ptest.Eventually(t, "the first peer to be written down", func() bool {
		data, err := os.ReadFile(cfg.PeersFile)
		return err == nil && strings.Contains(string(data), other.PeerID().String())
	})
	before := n.Addresses()
	for range 2 { // Close is idempotent
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(cfg.PeersFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("peers file: %v %v", info, err)
	}

	t.Run("it comes back at the same addresses and needs no bootstrap node", func(t *testing.T) {
		n := p2ptest.Open(t, cfg)
		if after := n.Addresses(); strings.Join(before, " ") != strings.Join(after, " ") {
			t.Errorf("addresses before %v, after %v", before, after)
		}
		<-n.Joined()
		if ids := n.Connected(); len(ids) != 1 || ids[0] != other.PeerID() || n.KnownPeers() != 1 {
			t.Fatalf("connected to %v", ids)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a port that somebody took meanwhile is replaced", func(t *testing.T) {
		fixed := cfg
		fixed.Identity, fixed.PeersFile = p2ptest.Identity(t), ""
		fixed.Listen = []string{strings.Split(before[0], "/p2p/")[0]}
		p2ptest.Open(t, fixed)
		n := p2ptest.Open(t, cfg)
		if now := n.Addresses(); len(now) != len(before) || now[0] == before[0] || now[1] != before[1] {
			t.Fatalf("addresses before %v, now %v", before, now)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a damaged file is not in the way", func(t *testing.T) {
		if err := os.WriteFile(cfg.PeersFile, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if n := p2ptest.Open(t, cfg); n.KnownPeers() != 0 {
			t.Fatalf("%d known peers", n.KnownPeers())
		}
	})
}

func TestJoining(t *testing.T) {
	t.Run("a bootstrap node that comes late is found", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			net := p2ptest.NewNetwork(t, p2ptest.Links{})
			late := net.Config(t, 0, node.Config{})
			id, err := peer.IDFromPrivateKey(late.Identity)
			if err != nil {
				t.Fatal(err)
			}
			early := p2ptest.Open(t, net.Config(t, 1, node.Config{Bootstrap: []string{late.Listen[0] + "/p2p/" + id.String()}}))
			select {
			case <-early.Joined():
				t.Fatal("joined nobody")
			case <-time.After(90 * time.Second):
			}
			p2ptest.Open(t, late)
			<-early.Joined() // a bubble that waits for ever is reported as a deadlock
		})
	})
	t.Run("hooks see everybody come and go, also those who were there before", func(t *testing.T) {
		n := p2ptest.Open(t, onLoopback(t, node.Config{}))
		var mu sync.Mutex
		seen := map[peer.ID]bool{}
		sees := func(id peer.ID, want bool) func() bool {
			return func() bool {
				mu.Lock()
				defer mu.Unlock()
				is, told := seen[id]
				return told && is == want
			}
		}
		first := p2ptest.Open(t, onLoopback(t, node.Config{Bootstrap: n.Addresses()}))
		<-n.Joined()
		n.OnPeer(func(p peer.ID, connected bool) {
			mu.Lock()
			defer mu.Unlock()
			seen[p] = connected
		})
		p2ptest.Eventually(t, "the peer that was there", sees(first.PeerID(), true))
		second := p2ptest.Open(t, onLoopback(t, node.Config{Bootstrap: n.Addresses()}))
		p2ptest.Eventually(t, "the peer that came", sees(second.PeerID(), true))
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
		p2ptest.Eventually(t, "the peer that went", sees(second.PeerID(), false))
	})
}

func TestAddresses(t *testing.T) {
	n := p2ptest.Open(t, onLoopback(t, node.Config{Listen: node.DefaultListen()}))
	var loop bool
	for _, addr := range n.Addresses() {
		if strings.Contains(addr, "0.0.0.0") || !strings.HasSuffix(addr, "/p2p/"+n.PeerID().String()) || strings.Contains(addr, "/0/") {
			t.Errorf("address %s cannot be dialled", addr)
		}
		loop = loop || strings.HasPrefix(addr, "/ip4/127.0.0.1/")
	}
	if !loop {
		t.Errorf("no loopback address in %v", n.Addresses())
	}
}

// BenchmarkOpen is the time from nothing to a listening node, and back.
func BenchmarkOpen(b *testing.B) {
	key := p2ptest.Identity(b)
	for b.Loop() {
		n, err := node.Open(b.Context(), node.Config{Identity: key, Listen: loopback})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
