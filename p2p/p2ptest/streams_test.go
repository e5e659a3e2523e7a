package p2ptest_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"ggen.dev/marketplace/p2p/p2ptest"
)

const echo protocol.ID = "/echo/1"

// pair is two hosts of a network, the second of which echoes, with all that the first
// needs to dial it.
func pair(t *testing.T, links p2ptest.Links) (a, b host.Host) {
	t.Helper()
	net := p2ptest.NewNetwork(t, links)
	a, b = net.Host(t, 0), net.Host(t, 1)
	b.SetStreamHandler(echo, func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	a.Peerstore().AddAddrs(b.ID(), b.Addrs(), time.Hour)
	return a, b
}

// both runs a test on packets and on streams, in virtual time.
func both(t *testing.T, test func(t *testing.T, streams bool)) {
	for name, streams := range map[string]bool{"packets": false, "streams": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, streams) })
		})
	}
}

// exchange sends size bytes to b and reads them back, and is how long that took.
func exchange(t *testing.T, a, b host.Host, size int) time.Duration {
	t.Helper()
	began := time.Now()
	s, err := a.NewStream(t.Context(), b.ID(), echo)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = s.Write(make([]byte, size))
		_ = s.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, s); err != nil || n != int64(size) {
		t.Fatalf("%d of %d bytes came back, %v", n, size, err)
	}
	return time.Since(began)
}

func TestConnectionsTakeOneRoundTripAndLinksKeepTheirRate(t *testing.T) {
	both(t, func(t *testing.T, streams bool) {
		const trip = 100 * time.Millisecond
		a, b := pair(t, p2ptest.Links{Latency: trip / 2, Mbps: 8, Streams: streams})

		began := time.Now()
		conn, err := a.Network().DialPeer(t.Context(), b.ID())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < trip || took > trip+trip/10 {
			t.Errorf("dialling took %s, a round trip is %s", took, trip)
		}
		if !conn.RemotePublicKey().Equals(b.Peerstore().PubKey(b.ID())) {
			t.Error("the connection does not know who is at the other end")
		}
		exchange(t, a, b, 1) // who the other one is, and which protocols it has
		if took := exchange(t, a, b, 1); took < trip || took > trip+trip/10 {
			t.Errorf("a byte there and back took %s, a round trip is %s", took, trip)
		}
		const size = 1 << 20 // one second at 8 Mbit/s
		if took := exchange(t, a, b, size); took < time.Second+trip || took > 3*time.Second {
			t.Errorf("%d bytes through a link of 8 Mbit/s took %s", size, took)
		}
	})
}

func TestTheOtherEndLearnsOfAClosedConnection(t *testing.T) {
	both(t, func(t *testing.T, streams bool) {
		a, b := pair(t, p2ptest.Links{Streams: streams})
		exchange(t, a, b, 1)
		if err := a.Network().ClosePeer(b.ID()); err != nil {
			t.Fatal(err)
		}
		p2ptest.Eventually(t, "the end of the connection at the other end", func() bool {
			return b.Network().Connectedness(a.ID()) == network.NotConnected
		})
		exchange(t, a, b, 1) // and again
	})
}

func TestNobodyAnswersForAHostThatIsGone(t *testing.T) {
	both(t, func(t *testing.T, streams bool) {
		a, b := pair(t, p2ptest.Links{Streams: streams})
		if err := b.Network().Close(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := a.Network().DialPeer(ctx, b.ID()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dialling ended with %v", err)
		}
	})
}

func TestSomebodyElseAtAnAddressIsNotBelieved(t *testing.T) {
	both(t, func(t *testing.T, streams bool) {
		a, b := pair(t, p2ptest.Links{Streams: streams})
		other, err := peer.IDFromPrivateKey(p2ptest.Identity(t))
		if err != nil {
			t.Fatal(err)
		}
		a.Peerstore().AddAddrs(other, b.Addrs(), time.Hour)
		if _, err := a.Network().DialPeer(t.Context(), other); err == nil {
			t.Error("a connected to somebody else than it asked for")
		}
	})
}
