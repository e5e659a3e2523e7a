package scenario

import (
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/bench/links"
	"ggen.dev/marketplace/p2p/coordinate"
	"ggen.dev/marketplace/p2p/peertable"
	"ggen.dev/marketplace/p2p/routing"
)

// atlas is what the peer tables of a network hold once gossip has filled them. All members
// share one: 10,000 tables of 10,000 records take 80 GB, and filling them takes 10^8
// announcements. What it takes the place of is measured up to 50 peers, and there both
// can be compared. Hosts, connections, DHT records and lookups are the real ones.
type atlas struct {
	links  links.Links
	places []charted // by the member's number
	byKey  []int     // their numbers, in the order of their keys
}

// charted is what a record tells of a peer.
type charted struct {
	member *member
	id     peer.ID
	key    uint64 // the beginning of its place in the DHT's space
	addrs  []ma.Multiaddr
	place  *coordinate.Place
}

// A peer has measured so many others, and each of them so often, within minutes: the keeper of a
// peer table measures every neighbour, and then one every 15 s.
const (
	measured    = 32
	repetitions = 4
)

// add has a member listed, and is its view. Nobody may look anything up meanwhile.
func (a *atlas) add(m *member) *chart {
	key := peertable.Key(m.PeerID())
	a.places = append(a.places, charted{m, m.PeerID(), binary.BigEndian.Uint64(key[:]), m.Host().Addrs(), coordinate.NewPlace()})
	at, _ := a.search(a.places[m.number].key)
	a.byKey = slices.Insert(a.byKey, at, m.number)
	return &chart{atlas: a, of: m, dead: map[peer.ID]time.Time{}}
}

// search is where a key is or would be in byKey.
func (a *atlas) search(key uint64) (at int, found bool) {
	return slices.BinarySearchFunc(a.byKey, key, func(i int, key uint64) int { return cmp.Compare(a.places[i].key, key) })
}

// complete gives everybody what they would have learned: coordinates that follow from round
// trips to some others, and the routing tables of kad-dht.
func (a *atlas) complete(random *rand.Rand) {
	for range repetitions {
		for i := range a.places {
			a.measure(i, random)
		}
	}
	for i := range a.places {
		a.fill(i, random)
	}
}

// join gives that to one who has come later.
func (a *atlas) join(m *member, random *rand.Rand) {
	for range repetitions {
		a.measure(m.number, random)
	}
	a.fill(m.number, random)
}

// measure fits the coordinates of a member to round trips.
func (a *atlas) measure(i int, random *rand.Rand) {
	for range measured {
		other := random.IntN(len(a.places))
		a.places[i].place.Observe(a.places[other].place.Point(), 2*a.links.Delay(i, other))
	}
}

// fill fills the routing table of a member.
func (a *atlas) fill(i int, random *rand.Rand) {
	m := a.places[i].member
	for _, other := range a.buckets(i, random) {
		p := &a.places[other]
		m.Host().Peerstore().AddAddrs(p.id, p.addrs, peerstore.PermanentAddrTTL)
		// One that finds no place in its bucket is not needed.
		_, _ = m.DHT().RoutingTable().TryAddPeer(p.id, true, false)
	}
}

// buckets are peers for the routing table of one of them: up to 20 whose keys begin to
// differ from its own at each bit.
func (a *atlas) buckets(i int, random *rand.Rand) (numbers []int) {
	const size = 20 // kad-dht's
	own := a.places[i].key
	for bit := uint64(1) << 63; bit > 0; bit >>= 1 {
		// The bucket is a range of keys: the same bits before, the other one here, any after.
		first := (own ^ bit) &^ (bit - 1)
		from, _ := a.search(first)
		to, found := a.search(first | (bit - 1))
		if found {
			to++
		}
		bucket := slices.Clone(a.byKey[from:to])
		random.Shuffle(len(bucket), func(x, y int) { bucket[x], bucket[y] = bucket[y], bucket[x] })
		numbers = append(numbers, bucket[:min(size, len(bucket))]...)
	}
	return numbers
}

// chart is what one member knows: the atlas, and how far away whoever it is connected to is,
// which a keeper measures within seconds.
type chart struct {
	atlas *atlas
	of    *member

	mu   sync.Mutex            // guards dead
	dead map[peer.ID]time.Time // until when a peer is passed over
}

var _ routing.Directory = (*chart)(nil)

// Closest implements routing.Directory.
func (c *chart) Closest(target [32]byte, count int) []routing.Known {
	type near struct {
		distance uint64
		number   int
	}
	now, place := time.Now(), binary.BigEndian.Uint64(target[:])
	c.mu.Lock()
	defer c.mu.Unlock()
	best := make([]near, 0, count+1)
	for i := range c.atlas.places {
		p := &c.atlas.places[i]
		distance := p.key ^ place
		if i == c.of.number || len(best) == count && distance >= best[count-1].distance || now.Before(c.dead[p.id]) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, distance, func(n near, d uint64) int { return cmp.Compare(n.distance, d) })
		best = slices.Insert(best, at, near{distance, i})
		best = best[:min(len(best), count)]
	}
	known := make([]routing.Known, len(best))
	here := c.atlas.places[c.of.number].place.Point()
	for i, n := range best {
		p := &c.atlas.places[n.number]
		known[i] = routing.Known{Peer: p.id, Addrs: p.addrs}
		if c.of.Host().Network().Connectedness(p.id) == network.Connected {
			known[i].Expected = 2 * c.atlas.links.Delay(c.of.number, n.number)
		} else if there := p.place.Point(); here.Known() && there.Known() {
			known[i].Expected = here.RoundTrip(there)
		}
	}
	return known
}

// Addrs implements routing.Directory.
func (c *chart) Addrs(p peer.ID) []ma.Multiaddr {
	i := slices.IndexFunc(c.atlas.places, func(place charted) bool { return place.id == p })
	if i < 0 {
		return nil
	}
	return c.atlas.places[i].addrs
}

// Size implements routing.Directory.
func (c *chart) Size() int { return len(c.atlas.places) }

// Unreachable implements routing.Directory.
func (c *chart) Unreachable(p peer.ID) {
	const passedOver = 45 * time.Second // as by peertable
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead[p] = time.Now().Add(passedOver)
}
