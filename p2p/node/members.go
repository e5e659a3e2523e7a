package node

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// eventBuffer is how many events of the host may wait. The watcher does next to
// nothing for each, so it only fills when the machine is starved; the host then
// waits for us, which is safe.
const eventBuffer = 256

// members knows which connected peers belong to the network, and tells hooks.
// One goroutine reads the host's events, another calls the hooks, so that a slow
// hook never holds up the host; what waits for hooks is one flag for each peer.
type members struct {
	host   host.Host
	marks  []protocol.ID // a peer that speaks one of these is a member
	events event.Subscription
	done   sync.WaitGroup

	joined  chan struct{} // closed when the first member is there
	changed chan struct{} // holds a token after a change, for [Node.remember]
	moved   chan struct{} // the same, for [Node.stayJoined]
	wake    chan struct{} // the same, for the goroutine that calls hooks
	ended   chan struct{} // closed when the host's events have ended

	mu           sync.Mutex // guards the fields below
	connected    map[peer.ID]bool
	pending      map[peer.ID]bool // changes that hooks have not seen
	fresh        []func(peer.ID, bool)
	reachability network.Reachability
}

func watchMembers(h host.Host, marks []protocol.ID) (*members, error) {
	events, err := h.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtPeerConnectednessChanged),
		new(event.EvtLocalReachabilityChanged),
	}, eventbus.BufSize(eventBuffer), eventbus.Name("ggen/node"))
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	m := &members{
		host: h, marks: marks, events: events,
		joined: make(chan struct{}), changed: make(chan struct{}, 1), moved: make(chan struct{}, 1), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		connected: map[peer.ID]bool{}, pending: map[peer.ID]bool{},
	}
	m.done.Go(m.watch)
	m.done.Go(m.tell)
	return m, nil
}

// close stops both goroutines and waits for them.
func (m *members) close() {
	_ = m.events.Close() // ends watch, which ends tell; it reports nothing
	m.done.Wait()
}

func (m *members) watch() {
	defer close(m.ended)
	for e := range m.events.Out() {
		switch e := e.(type) {
		case event.EvtPeerIdentificationCompleted:
			m.look(e.Peer)
		case event.EvtPeerProtocolsUpdated:
			m.look(e.Peer)
		case event.EvtPeerConnectednessChanged:
			m.look(e.Peer)
		case event.EvtLocalReachabilityChanged:
			m.mu.Lock()
			m.reachability = e.Reachability
			m.mu.Unlock()
		}
	}
}

// look compares what is known of p with how things stand now. It does not trust
// the order in which events arrive.
func (m *members) look(p peer.ID) {
	is := m.host.Network().Connectedness(p) == network.Connected && m.speaks(p)
	m.mu.Lock()
	was := m.connected[p]
	if is == was {
		m.mu.Unlock()
		return
	}
	first := false
	if is {
		select {
		case <-m.joined:
		default:
			first = true
		}
		m.connected[p] = true
	} else {
		delete(m.connected, p)
	}
	m.pending[p] = is
	m.mu.Unlock()
	if first { // only this goroutine closes it
		close(m.joined)
	}
	for _, token := range []chan struct{}{m.changed, m.moved, m.wake} {
		leave(token)
	}
}

// speaks tells whether p speaks a protocol of this network, as far as it has
// identified itself.
func (m *members) speaks(p peer.ID) bool {
	spoken, err := m.host.Peerstore().SupportsProtocols(p, m.marks...)
	return err == nil && len(spoken) > 0
}

// tell calls the hooks. A hook that is new is told of all who are there.
func (m *members) tell() {
	var hooks []func(peer.ID, bool)
	told := map[peer.ID]bool{}
	for {
		select {
		case <-m.ended:
			return
		case <-m.wake:
		}
		m.mu.Lock()
		pending, fresh := m.pending, m.fresh
		m.pending, m.fresh = map[peer.ID]bool{}, nil
		m.mu.Unlock()
		for p, is := range pending {
			if told[p] == is {
				continue // went and came back meanwhile
			}
			if told[p] = is; !is {
				delete(told, p)
			}
			for _, hook := range hooks {
				hook(p, is)
			}
		}
		for _, hook := range fresh {
			for p := range told {
				hook(p, true)
			}
		}
		hooks = append(hooks, fresh...)
	}
}

func (m *members) addHook(hook func(peer.ID, bool)) {
	m.mu.Lock()
	m.fresh = append(m.fresh, hook)
	m.mu.Unlock()
	leave(m.wake)
}

// leave puts a token into a channel that holds one, if it is empty.
func leave(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

func (m *members) list() []peer.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.connected))
}

func (m *members) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.connected)
}

func (m *members) reachable() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.reachability {
	case network.ReachabilityPublic:
		return "public"
	case network.ReachabilityPrivate:
		return "private"
	}
	return "unknown"
}
