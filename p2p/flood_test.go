package p2p_test

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/gossip"
	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// TestAFlooderIsOut: who announces without end what is of no use, each of it signed and
// different, is banned for five minutes; what an honest neighbour announces meanwhile arrives.
func TestAFlooderIsOut(t *testing.T) {
	victim := open(t, t.TempDir())
	honest := open(t, t.TempDir(), address(t, victim))
	connected(t, honest, 1)

	n := p2ptest.Open(t, node.Config{
		Identity: p2ptest.Identity(t), Bootstrap: []string{address(t, victim)}, Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"},
	})
	topic, err := gossip.Join(n.PubSub(), n.PeerID(), n.Network(), gossip.Config{
		Validate: func(context.Context, peer.ID, []byte) gossip.Verdict { return gossip.Accept },
		Deliver:  func(context.Context, peer.ID, []byte) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = topic.Close() })
	eventually(t, "the victim hears the flooder", func() bool { return len(topic.Peers()) > 0 })

	// Heads of the future are nobody's lie: clocks are wrong.
	key, err := publisher.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := publisher.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	flood := func(i int) {
		head, err := publisher.SignHead(ring.ID(), 1, tlog.RecordHash([]byte(ring.ID())), time.Now().Add(time.Duration(i+1)*time.Hour*24), key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := topic.Announce(t.Context(), publisher.Update{Roots: ring.Chain().Signed(), Head: head.Signed, From: 1}.Marshal()); err != nil {
			t.Fatal(err)
		}
	}
	known := shared.Peer{}
	sent := 0
	eventually(t, "the flooder is banned", func() bool {
		for range 50 {
			flood(sent)
			sent++
		}
		known, _ = peerOf(t, victim, n.PeerID().String())
		return known.BannedFor != ""
	})
	t.Logf("banned after %d announcements", sent)
	if left := time.Until(known.BannedUntil); known.BannedFor != "flooded" || known.Reputation != 0 || left > 5*time.Minute || left < 4*time.Minute {
		t.Errorf("known of the flooder: %+v", known)
	}
	eventually(t, "the flooder is put out", func() bool {
		known, _ := peerOf(t, victim, n.PeerID().String())
		return !known.Connected
	})
	publish(t, honest, "meanwhile", "1.0.0")
	knows(t, victim, "meanwhile")
	if known, ok := peerOf(t, victim, peerID(t, honest)); !ok || known.BannedFor != "" {
		t.Errorf("known of the honest one: %+v", known)
	}
}
