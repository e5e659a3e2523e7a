package scenario

import (
	"context"
	"fmt"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/gossip"
	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
)

// A peer of a measured mesh dials so many random peers, and has twice as many connections:
// as a peer of a large network has, and where that does not fit into memory, half of it.
const (
	sparse     = 10
	sparser    = 5
	manySparse = 2000 // peers
)

// listener is a node that hears announcements.
type listener struct {
	*node.Node
	topic *gossip.Topic
	mu    sync.Mutex
	at    map[string]time.Time
}

// propagation announces messages of 900 bytes from random peers and measures when each other
// one has it. The floor is the shortest path through all connections that there are,
// which is less than any mesh can reach.
func propagation(r *Run) {
	random := r.random()
	net := p2ptest.NewNetwork(r, r.Links.Network())
	dials := sparse
	if r.Scenario.Peers > manySparse {
		dials = sparser
	}
	listeners, number := make([]*listener, r.Scenario.Peers), map[peer.ID]int{}
	for i := range listeners {
		cfg := net.Config(r, i, node.Config{DHTOptions: []dht.Option{dht.DisableAutoRefresh()}})
		for range min(i, dials) {
			cfg.Bootstrap = append(cfg.Bootstrap, listeners[random.IntN(i)].Addresses()...)
		}
		l := &listener{Node: p2ptest.Open(r, cfg), at: map[string]time.Time{}}
		topic, err := gossip.Join(l.PubSub(), l.PeerID(), l.Network(), gossip.Config{
			Validate: func(context.Context, peer.ID, []byte) gossip.Verdict { return gossip.Accept },
			Deliver:  l.hear,
		})
		if err != nil {
			r.Fatal(err)
		}
		r.Cleanup(func() {
			if err := topic.Close(); err != nil {
				r.Error(err)
			}
		})
		l.topic = topic
		listeners[i], number[l.PeerID()] = l, i
	}
	<-time.After(30 * time.Second) // connections, and heartbeats that form the mesh
	neighbours := func(i int) (numbers []int) {
		for _, p := range listeners[i].Connected() {
			numbers = append(numbers, number[p])
		}
		return numbers
	}
	missed, links := 0, 0
	for i := range listeners {
		links += len(neighbours(i))
	}
	r.Report("links/peer", float64(links)/float64(len(listeners)))
	for round := 0; r.Loop(); round++ {
		sender, message := random.IntN(len(listeners)), fmt.Sprintf("announcement %-887d", round) // 900 bytes
		var floor []time.Duration
		r.Aside(func() { floor = r.shortest(sender, len(listeners), neighbours) })
		began := time.Now()
		if _, err := listeners[sender].topic.Announce(r.Context(), []byte(message)); err != nil {
			r.Fatal(err)
		}
		<-time.After(5 * time.Second) // IHAVE repairs what the mesh missed with the next heartbeats
		var last, lastFloor time.Duration
		for i, l := range listeners {
			if i == sender {
				continue
			}
			at, ok := l.heard(message)
			if !ok {
				missed++
				continue
			}
			r.Took("delivery", at.Sub(began))
			r.Took("delivery-floor", floor[i])
			last, lastFloor = max(last, at.Sub(began)), max(lastFloor, floor[i])
		}
		r.Took("last", last)
		r.Sample("last/floor", "x", float64(last)/float64(lastFloor))
	}
	r.Report("missed", float64(missed))
}

func (l *listener) hear(_ context.Context, _ peer.ID, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at[string(data)] = time.Now()
}

func (l *listener) heard(message string) (at time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok = l.at[message]
	return at, ok
}

// announcement publishes packages at random engines and measures when each other one has
// heard of the release: verified, stored and searchable.
func announcement(r *Run) {
	random := r.random()
	n := r.network()
	n.grow(r.Scenario.Peers, nil)
	n.connected()
	heard, late := n.watch(), 0
	for round := 0; r.Loop(); round++ {
		late += r.announce(n, heard, fmt.Sprint("announced-", round), random.IntN(len(n.engines)))
	}
	r.Report("late", float64(late))
}

// announce publishes one package, waits until all have heard of it, and is how many engines
// had not within 5 s: what gossip has missed, repairs bring within minutes.
func (r *Run) announce(n *peers, heard *heard, name string, sender int) (late int) {
	const inTime = 5 * time.Second
	var floor []time.Duration
	r.Aside(func() { floor = r.shortest(sender, len(n.engines), n.neighbours) })
	began := time.Now()
	r.publish(n.engines[sender], name)
	<-time.After(inTime)
	r.await("everybody to hear of "+name, time.Second, func() bool { return len(heard.of(name)) == len(n.engines) })
	for i, at := range heard.of(name) {
		if i == sender {
			continue
		}
		r.Took("release", at.Sub(began))
		r.Took("release-floor", floor[i])
		if at.Sub(began) > inTime {
			late++
		}
	}
	return late
}
