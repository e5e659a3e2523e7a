package node

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// idleAfter is how long a connection may go unused while there are more than lowWater,
	// and idleEvery how often that is looked at.
	idleAfter = 5 * time.Minute
	idleEvery = time.Minute

	// A peer that delivered is worth usefulBump to the connection manager, at most
	// usefulMost, and half of that every usefulFade. (A mesh of gossipsub is worth 20, a
	// place in the DHT's table 5.)
	usefulBump, usefulMost = 10, 50
	usefulFade             = 10 * time.Minute
)

// usage knows when a stream was last opened with each peer, by either side. Whatever is
// done with a peer opens one, except for gossip, whose streams stay open.
type usage struct {
	network.ResourceManager

	mu   sync.Mutex // guards last
	last map[peer.ID]time.Time
}

func newUsage(rm network.ResourceManager) *usage {
	return &usage{ResourceManager: rm, last: map[peer.ID]time.Time{}}
}

// OpenStream implements network.ResourceManager.
func (u *usage) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	u.mu.Lock()
	u.last[p] = time.Now()
	u.mu.Unlock()
	return u.ResourceManager.OpenStream(p, dir)
}

// idle lists those of the connected peers that were not used for so long, the longest
// first, and forgets peers that are not connected.
func (u *usage) idle(connected []peer.ID, now time.Time) (idle []peer.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.last, func(p peer.ID, _ time.Time) bool { return !slices.Contains(connected, p) })
	for _, p := range connected {
		if now.Sub(u.last[p]) >= idleAfter {
			idle = append(idle, p)
		}
	}
	slices.SortFunc(idle, func(a, b peer.ID) int { return u.last[a].Compare(u.last[b]) })
	return idle
}

// closeIdle closes connections that nobody uses, down to lowWater: peers that are needed for
// the mesh, the DHT's table or because somebody said so stay.
func (n *Node) closeIdle(ctx context.Context) {
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		connected := n.host.Network().Peers()
		spare := len(connected) - lowWater
		for _, p := range n.usage.idle(connected, time.Now()) {
			if spare <= 0 {
				break
			}
			if n.isNeeded(p) {
				continue
			}
			n.log.Debug("close an idle connection", "peer", p)
			_ = n.host.Network().ClosePeer(p) // it may have gone already
			spare--
		}
	}
}

// isNeeded tells whether the connection to a peer is part of what holds the network together.
func (n *Node) isNeeded(p peer.ID) bool {
	manager := n.host.ConnManager()
	if manager.IsProtected(p, "") {
		return true
	}
	info := manager.GetTagInfo(p)
	if info == nil {
		return false
	}
	for tag, value := range info.Tags {
		if value > 0 && strings.HasPrefix(tag, "pubsub:") { // in the mesh of a topic
			return true
		}
	}
	return false
}

// Useful notes that a peer delivered what was asked for: its connection outlives others when
// there are too many.
func (n *Node) Useful(p peer.ID) {
	if n.useful != nil {
		_ = n.useful.Bump(p, usefulBump) // it says only that the manager is closed
	}
}

// registerUseful makes the tag of [Node.Useful]; nil if the manager has none that fade.
func registerUseful(manager connmgr.ConnManager) connmgr.DecayingTag {
	decayer, ok := connmgr.SupportsDecay(manager)
	if !ok {
		return nil
	}
	halve := func(value connmgr.DecayingValue) (after int, rm bool) { return value.Value / 2, value.Value <= 1 }
	tag, err := decayer.RegisterDecayingTag("ggen/delivered", usefulFade, halve, connmgr.BumpSumBounded(0, usefulMost))
	if err != nil {
		return nil
	}
	return tag
}
