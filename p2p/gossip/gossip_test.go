package gossip_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"ggen.dev/marketplace/p2p/gossip"
	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listener records what one peer validates and gets. Data that begins with
// "bad" is invalid, with "old" is of no use.
type listener struct {
	topic *gossip.Topic

	mu        sync.Mutex
	validated map[string][]peer.ID // from whom it came
	delivered map[string]int
	at        map[string]time.Time
	from      peer.ID
	trusting  bool // accepts everything, as a liar does
	mute      bool // passes nothing on
}

func listen(t *testing.T, n *node.Node, trusting bool) *listener {
	t.Helper()
	l := &listener{validated: map[string][]peer.ID{}, delivered: map[string]int{}, at: map[string]time.Time{}, trusting: trusting}
	topic, err := gossip.Join(n.PubSub(), n.PeerID(), n.Network(), gossip.Config{Validate: l.validate, Deliver: l.deliver})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := topic.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	l.topic = topic
	return l
}

func (l *listener) validate(_ context.Context, from peer.ID, data []byte) gossip.Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.validated[string(data)] = append(l.validated[string(data)], from)
	switch {
	case l.trusting:
		return gossip.Accept
	case l.mute:
		return gossip.Ignore
	case bytes.HasPrefix(data, []byte("bad")):
		return gossip.Reject
	case bytes.HasPrefix(data, []byte("old")):
		return gossip.Ignore
	}
	return gossip.Accept
}

func (l *listener) deliver(_ context.Context, from peer.ID, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delivered[string(data)]++
	l.at[string(data)] = time.Now()
	l.from = from
}

// heard tells whether any message that begins with prefix was delivered.
func (l *listener) heard(prefix string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for data := range l.delivered {
		if strings.HasPrefix(data, prefix) {
			return true
		}
	}
	return false
}

func (l *listener) got(data string) func() bool {
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.delivered[data] > 0
	}
}

// sawFrom tells whether any message that begins with prefix came from p.
func (l *listener) sawFrom(p peer.ID, prefix string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for data, from := range l.validated {
		if strings.HasPrefix(data, prefix) && slices.Contains(from, p) {
			return true
		}
	}
	return false
}

func onLoopback(t *testing.T, bootstrap ...string) *node.Node {
	t.Helper()
	return p2ptest.Open(t, node.Config{Identity: p2ptest.Identity(t), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Bootstrap: bootstrap})
}

func awaitPeers(t *testing.T, l *listener, count int) {
	t.Helper()
	p2ptest.Eventually(t, "peers on the topic", func() bool { return len(l.topic.Peers()) >= count })
}

func TestAnnounce(t *testing.T) {
	t.Run("all of 14 peers get it once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			net := p2ptest.NewNetwork(t, p2ptest.Links{})
			nodes := net.Nodes(t, 14, func(int) node.Config { return node.Config{} })
			listeners := make([]*listener, len(nodes))
			for i, n := range nodes {
				listeners[i] = listen(t, n, false)
			}
			for _, l := range listeners {
				awaitPeers(t, l, 13)
			}
			<-time.After(3 * time.Second) // some heartbeats, which form the mesh
			started, message := time.Now(), string(bytes.Repeat([]byte("x"), gossip.GoodMessage))
			peers, err := listeners[7].topic.Announce(t.Context(), []byte(message))
			if err != nil || peers != 13 {
				t.Fatalf("announced to %d, %v", peers, err)
			}
			var slowest time.Duration
			for i, l := range listeners {
				if i != 7 {
					p2ptest.Eventually(t, fmt.Sprintf("peer %d to get it", i), l.got(message))
					slowest = max(slowest, l.at[message].Sub(started))
				}
			}
			t.Logf("virtual time until all have it: %s", slowest)
			// The same content from somebody else is the same message.
			if _, err := listeners[3].topic.Announce(t.Context(), []byte(message)); err != nil {
				t.Fatal(err)
			}
			<-time.After(5 * time.Second)
			for i, l := range listeners {
				want := 1
				if i == 7 {
					want = 0 // not to oneself
				}
				if l.delivered[message] != want {
					t.Errorf("peer %d got it %d times", i, l.delivered[message])
				}
			}
		})
	})
	t.Run("refused: too large, empty, invalid, after the end", func(t *testing.T) {
		l := listen(t, onLoopback(t), false)
		for _, tc := range []struct {
			data   []byte
			reason shared.Reason
		}{
			{make([]byte, gossip.MaxMessage+1), shared.ReasonLimitExceeded},
			{nil, shared.ReasonInvalidArgument},
			{[]byte("bad"), shared.ReasonInvalidArgument},
		} {
			if _, err := l.topic.Announce(t.Context(), tc.data); !errors.Is(err, tc.reason) {
				t.Errorf("%d bytes: %v, want %s", len(tc.data), err, tc.reason)
			}
		}
		for _, data := range []string{"alone", "old news"} { // its own validator has seen it before, of course
			if peers, err := l.topic.Announce(t.Context(), []byte(data)); peers != 0 || err != nil {
				t.Errorf("alone: %d, %v", peers, err)
			}
		}
		if err := l.topic.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.topic.Announce(t.Context(), []byte("late")); !errors.Is(err, shared.ReasonCanceled) {
			t.Errorf("after Close: %v", err)
		}
	})
	t.Run("the largest message arrives", func(t *testing.T) {
		first := onLoopback(t)
		second := onLoopback(t, first.Addresses()...)
		a, b := listen(t, first, false), listen(t, second, false)
		awaitPeers(t, a, 1)
		data := string(bytes.Repeat([]byte("y"), gossip.MaxMessage))
		if _, err := a.topic.Announce(t.Context(), []byte(data)); err != nil {
			t.Fatal(err)
		}
		p2ptest.Eventually(t, "64 KiB to arrive", b.got(data))
		if b.from != first.PeerID() {
			t.Errorf("from %s", b.from)
		}
	})
	t.Run("a topic can be left and joined again", func(t *testing.T) {
		n := onLoopback(t)
		for range 3 {
			l := listen(t, n, false)
			if err := l.topic.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestLiar(t *testing.T) {
	// The liar may find the bystander by itself; what counts is that the victim
	// passes nothing on.
	victimNode := onLoopback(t)
	bystanderNode := onLoopback(t, victimNode.Addresses()...)
	liarNode := onLoopback(t)
	victim, bystander, liar := listen(t, victimNode, false), listen(t, bystanderNode, false), listen(t, liarNode, true)
	awaitPeers(t, bystander, 1)
	if outcome := liarNode.Bootstrap(t.Context(), victimNode.Addresses())[0]; outcome.Err != nil {
		t.Fatal(outcome.Err)
	}
	awaitPeers(t, liar, 1)
	announce := func(l *listener, data string) {
		t.Helper()
		if _, err := l.topic.Announce(t.Context(), []byte(data)); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("what is of no use is not passed on and costs nothing", func(t *testing.T) {
		for i := range 20 {
			announce(liar, fmt.Sprintf("old %d", i))
		}
		// The first ones may come before the mesh has formed.
		useful := 0
		p2ptest.Eventually(t, "a useful message after useless ones", func() bool {
			announce(liar, fmt.Sprintf("useful %d", useful))
			useful++
			return bystander.heard("useful")
		})
		if bystander.sawFrom(victimNode.PeerID(), "old") {
			t.Error("a useless message was passed on")
		}
	})
	t.Run("a peer that sends invalid messages is not listened to any more", func(t *testing.T) {
		cutOff := -1
		for i := range 50 {
			lie := fmt.Sprintf("bad %d", i)
			announce(liar, lie)
			// A message that is looked at is so at once; one that is not leaves no
			// trace, so ask with an honest one whether the liar is still heard.
			probe := fmt.Sprintf("probe %d", i)
			announce(liar, probe)
			heard := false
			for deadline := time.Now().Add(500 * time.Millisecond); !heard && time.Now().Before(deadline); {
				heard = victim.got(probe)()
				<-time.After(5 * time.Millisecond)
			}
			if !heard {
				cutOff = i
				break
			}
		}
		if cutOff < 1 || cutOff > 10 {
			t.Fatalf("cut off after %d invalid messages", cutOff+1)
		}
		t.Logf("cut off after %d invalid messages", cutOff+1)
		if bystander.sawFrom(victimNode.PeerID(), "bad") {
			t.Error("an invalid message was passed on")
		}
		announce(bystander, "honest")
		p2ptest.Eventually(t, "honest peers to be heard still", victim.got("honest"))
	})
	t.Run("and coming back does not help", func(t *testing.T) {
		if err := liarNode.Host().Network().ClosePeer(victimNode.PeerID()); err != nil {
			t.Fatal(err)
		}
		p2ptest.Eventually(t, "the connection to end", func() bool { return !slices.Contains(victimNode.Connected(), liarNode.PeerID()) })
		if outcome := liarNode.Bootstrap(t.Context(), victimNode.Addresses())[0]; outcome.Err != nil {
			t.Fatal(outcome.Err)
		}
		awaitPeers(t, liar, 1)
		announce(liar, "trust me")
		announce(bystander, "honest again")
		p2ptest.Eventually(t, "an honest message", victim.got("honest again"))
		if victim.sawFrom(liarNode.PeerID(), "trust me") {
			t.Error("the liar is listened to again")
		}
	})
}

// TestFlood: a peer that sends what is of no use, and ever more of it, is not listened to
// any more; what honest peers say gets through meanwhile.
func TestFlood(t *testing.T) {
	victimNode := onLoopback(t)
	honestNode := onLoopback(t, victimNode.Addresses()...)
	flooderNode := onLoopback(t, victimNode.Addresses()...)
	victim, honest, flooder := listen(t, victimNode, false), listen(t, honestNode, false), listen(t, flooderNode, true)
	awaitPeers(t, flooder, 1)
	awaitPeers(t, honest, 1)
	announce := func(l *listener, data string) {
		t.Helper()
		if _, err := l.topic.Announce(t.Context(), []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	sent, ignored := 0, false
	for deadline := time.Now().Add(30 * time.Second); !ignored && time.Now().Before(deadline); {
		for range 100 {
			announce(flooder, fmt.Sprintf("old %d", sent))
			sent++
		}
		probe := fmt.Sprintf("honest %d", sent)
		announce(honest, probe)
		p2ptest.Eventually(t, "an honest message during the flood", victim.got(probe))
		last := fmt.Sprintf("probe %d", sent)
		announce(flooder, last)
		ignored = true
		for wait := time.Now().Add(500 * time.Millisecond); ignored && time.Now().Before(wait); {
			ignored = !victim.got(last)() || victim.sawFrom(honestNode.PeerID(), last)
			<-time.After(5 * time.Millisecond)
		}
	}
	if !ignored {
		t.Fatalf("listened to after %d useless messages", sent)
	}
	t.Logf("not listened to after %d useless messages", sent)
	if honest.sawFrom(victimNode.PeerID(), "old") {
		t.Error("the flood was passed on")
	}
}

// TestSilence: a neighbour that passes nothing on keeps nobody from hearing it, and is
// not punished: most peers have nothing to say.
func TestSilence(t *testing.T) {
	first := onLoopback(t)
	silentNode := onLoopback(t, first.Addresses()...)
	between := onLoopback(t, first.Addresses()...)
	last := onLoopback(t, append(silentNode.Addresses(), between.Addresses()...)...)
	sender, receiver := listen(t, first, false), listen(t, last, false)
	silent := listen(t, silentNode, false)
	silent.mu.Lock()
	silent.mute = true
	silent.mu.Unlock()
	listen(t, between, false)
	awaitPeers(t, receiver, 2)
	awaitPeers(t, sender, 2)
	tried := 0
	p2ptest.Eventually(t, "the mesh to form", func() bool {
		if _, err := sender.topic.Announce(t.Context(), fmt.Appendf(nil, "early %d", tried)); err != nil {
			t.Fatal(err)
		}
		tried++
		return receiver.heard("early")
	})
	for i := range 20 {
		data := fmt.Sprintf("news %d", i)
		if _, err := sender.topic.Announce(t.Context(), []byte(data)); err != nil {
			t.Fatal(err)
		}
		p2ptest.Eventually(t, data, receiver.got(data))
	}
	if _, err := silent.topic.Announce(t.Context(), []byte("at last")); err != nil {
		t.Fatal(err)
	}
	p2ptest.Eventually(t, "the silent peer to be heard", receiver.got("at last"))
}

func TestSlowDelivery(t *testing.T) {
	first := onLoopback(t)
	second := onLoopback(t, first.Addresses()...)
	sender := listen(t, first, false)
	release, delivered := make(chan struct{}), make(chan struct{}, 1000)
	topic, err := gossip.Join(second.PubSub(), second.PeerID(), second.Network(), gossip.Config{
		Validate: func(context.Context, peer.ID, []byte) gossip.Verdict { return gossip.Accept },
		Deliver: func(ctx context.Context, _ peer.ID, _ []byte) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			delivered <- struct{}{}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitPeers(t, sender, 1)
	p2ptest.Eventually(t, "messages to be lost and counted", func() bool {
		for i := range 20 {
			if _, err := sender.topic.Announce(t.Context(), fmt.Appendf(nil, "%d %d", i, time.Now().UnixNano())); err != nil {
				t.Fatal(err)
			}
		}
		return topic.Lost() > 0
	})
	if err := topic.Close(); err != nil { // with a Deliver that hangs until told
		t.Fatal(err)
	}
	close(release)
	if len(delivered) > 10 {
		t.Errorf("%d messages were delivered after Close", len(delivered))
	}
}

func TestJoinRefuses(t *testing.T) {
	n := onLoopback(t)
	if _, err := gossip.Join(n.PubSub(), n.PeerID(), n.Network(), gossip.Config{}); err == nil {
		t.Error("no validator is accepted")
	}
	l := listen(t, n, false)
	twice := gossip.Config{Validate: l.validate, Deliver: l.deliver}
	if _, err := gossip.Join(n.PubSub(), n.PeerID(), n.Network(), twice); err == nil {
		t.Error("joining twice is accepted")
	}
	if _, err := gossip.Join(n.PubSub(), n.PeerID(), "other", twice); err == nil {
		t.Error("another network's topic is accepted")
	}
	if _, err := l.topic.Announce(t.Context(), []byte("bad")); !errors.Is(err, shared.ReasonInvalidArgument) {
		t.Errorf("after a second Join that failed, the first has lost its validator: %v", err)
	}
}
