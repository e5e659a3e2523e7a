package p2p_test

import (
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/ask"
	"ggen.dev/marketplace/p2p/replicate"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

// peerOf is what one engine knows of another.
func peerOf(t *testing.T, e *p2p.Engine, id string) (shared.Peer, bool) {
	t.Helper()
	list, err := e.Peers(t.Context(), shared.PeerQuery{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list.Peers, func(p shared.Peer) bool { return p.ID == id })
	if i < 0 {
		return shared.Peer{}, false
	}
	return list.Peers[i], true
}

// TestABannedPeerIsOut: whoever sends wrong content is not connected any more, neither by
// dialling nor by being dialled, and a restart does not forget it, even one that nothing
// was prepared for.
func TestABannedPeerIsOut(t *testing.T) {
	homeA, homeB := t.TempDir(), t.TempDir()
	a := open(t, homeA)
	large(t, a, "heavy")
	damage(t, homeA, 1<<20)
	p2p.ServeUnverified(t, a)
	b := open(t, homeB, address(t, a))
	knows(t, b, "heavy")
	liar := peerID(t, a)
	if _, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "heavy"}}, Root: t.TempDir(), Trust: true}, nil); err == nil {
		t.Fatal("damaged content was installed")
	}
	out := func(e *p2p.Engine) {
		t.Helper()
		id, err := peer.Decode(liar)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the connection is closed", func() bool {
			return p2p.HostOf(e).Network().Connectedness(id) == network.NotConnected
		})
		outcomes, err := e.Bootstrap(t.Context(), []string{address(t, a)})
		if err != nil || outcomes[0].Err == nil {
			t.Fatalf("the liar could be dialled: %+v, %v", outcomes, err)
		}
		if _, err := a.Bootstrap(t.Context(), []string{address(t, e)}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the liar that has dialled is put out", func() bool {
			return p2p.HostOf(e).Network().Connectedness(id) == network.NotConnected
		})
		eventually(t, "it is no neighbour any more", func() bool { known, ok := peerOf(t, e, liar); return ok && !known.Connected })
		known, ok := peerOf(t, e, liar)
		if !ok || known.Reputation != 0 || known.BannedFor != "wrong-content" || known.BannedUntil.IsZero() || known.Connected || known.Outcomes["wrong-content"] != 1 {
			t.Fatalf("known of the liar: %+v", known)
		}
	}
	out(b)
	// What a killed engine leaves behind is what is on disk now.
	eventually(t, "the ban is written down", func() bool { return p2p.Banned(t, b, liar) })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	out(open(t, homeB))
}

// TestWhoBreaksAProtocolIsOut, also as the one who asks.
func TestWhoBreaksAProtocolIsOut(t *testing.T) {
	for proto, request := range map[protocol.ID][]byte{
		transfer.Protocol:  make([]byte, 46),
		replicate.Protocol: {0, 0, 0, 1, 99},
		ask.Protocol:       {0, 0, 0, 1, 99},
	} {
		t.Run(string(proto), func(t *testing.T) {
			e := open(t, t.TempDir())
			rude, err := libp2p.New(libp2p.NoListenAddrs)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = rude.Close() })
			if err := rude.Connect(t.Context(), peer.AddrInfo{ID: p2p.HostOf(e).ID(), Addrs: p2p.HostOf(e).Addrs()}); err != nil {
				t.Fatal(err)
			}
			s, err := rude.NewStream(t.Context(), p2p.HostOf(e).ID(), proto)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(request); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the connection is closed", func() bool {
				return p2p.HostOf(e).Network().Connectedness(rude.ID()) == network.NotConnected
			})
			if known, ok := peerOf(t, e, rude.ID().String()); !ok || known.BannedFor != "malformed" || known.BannedUntil.IsZero() {
				t.Fatalf("known of who broke %s: %+v", proto, known)
			}
		})
	}
}

// TestAPeersHistory: what peer-info shows is what has happened.
func TestAPeersHistory(t *testing.T) {
	a := open(t, t.TempDir())
	b := open(t, t.TempDir(), address(t, a))
	receipt := large(t, a, "heavy")
	knows(t, b, "heavy")
	if _, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "heavy"}}, Root: t.TempDir(), Trust: true}, nil); err != nil {
		t.Fatal(err)
	}
	known, ok := peerOf(t, b, peerID(t, a))
	if !ok || known.Outcomes["delivered"] != 2 || known.ReceivedBytes <= receipt.Size || known.AvgBandwidth <= 0 || known.AvgResponseTime <= 0 ||
		known.LastSuccess.IsZero() || known.PackagesProvided != 1 || known.Downloads != 0 || known.FailuresInRow != 0 || !known.BannedUntil.IsZero() {
		t.Fatalf("known of who has given a package: %+v", known)
	}
	sum := 0.0
	for _, part := range known.Score {
		sum += part.Value * part.Weight
	}
	if len(known.Score) != 5 || sum < known.Reputation-1e-9 || sum > known.Reputation+1e-9 {
		t.Fatalf("a reputation of %v is made of %+v", known.Reputation, known.Score)
	}
}

// TestAPlaceIsToldByChoice, rounded, and only by who has chosen so.
func TestAPlaceIsToldByChoice(t *testing.T) {
	a, err := p2p.Open(t.Context(), p2p.Config{
		Home: t.TempDir(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Location: &p2p.Location{Latitude: 48.137, Longitude: 11.575, Region: "eu-central"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	b := open(t, t.TempDir(), address(t, a))
	eventually(t, "the place is known", func() bool {
		known, _ := peerOf(t, b, peerID(t, a))
		return known.Location != nil && *known.Location == shared.Location{Latitude: 48, Longitude: 12, Region: "eu-central"}
	})
	eventually(t, "they know each other", func() bool { _, ok := peerOf(t, a, peerID(t, b)); return ok })
	if known, _ := peerOf(t, a, peerID(t, b)); known.Location != nil {
		t.Fatalf("whoever has not chosen to is at %+v", known.Location)
	}
	if _, err := p2p.Open(t.Context(), p2p.Config{Home: t.TempDir(), Location: &p2p.Location{Latitude: 91}}); err == nil {
		t.Fatal("91 degrees north are on Earth")
	}
}
