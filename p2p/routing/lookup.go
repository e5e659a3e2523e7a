package routing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-msgio"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/proto"

	"ggen.dev/marketplace/p2p/netblock"
)

const (
	// closest is Kademlia's k: the peers that a record belongs to.
	closest = 20

	// A lookup that has found nothing among the closest goes on with the next ones, up
	// to farthest: who makes up 20 identities next to a key has not made it disappear.
	farthest = 3 * closest

	// crowd is how many peers may be where 20 are to be expected. More are taken for
	// identities that somebody made up around a key, and then a record is kept and looked
	// for among the farthest, too. By chance that happens to one key in fifty (Poisson).
	// (The detection and its remedy: Sridhar et al., Content Censorship in the
	// InterPlanetary File System, NDSS 2024.)
	crowd = closest * 3 / 2

	// askTimeout bounds one question, dialTimeout the dial in front of it.
	askTimeout = 3 * time.Second

	// guess is the round trip of a peer of which nothing is known, and spare what an
	// answer may take besides: both ends have other things to do.
	guess = 150 * time.Millisecond
	spare = 10 * time.Millisecond

	// maxKnown bounds the peers that one lookup may get to know, maxCloser those that
	// it accepts from one answer (k), and maxPeerAddrs the addresses of each.
	maxKnown     = 200
	maxCloser    = closest
	maxPeerAddrs = 16

	// maxAnswer bounds an answer: a head record or 256 providers, and 20 peers with
	// their addresses.
	maxAnswer = 256 << 10
)

// Directory is what this node knows of the network without asking anybody; package
// peertable has it. Its methods are called concurrently.
type Directory interface {
	// Closest are up to count known peers whose keys (the SHA-256 of their IDs) are
	// closest to target.
	Closest(target [32]byte, count int) []Known
	// Addrs are the addresses of a peer; nil if it is not known.
	Addrs(p peer.ID) []ma.Multiaddr
	// Size is how many peers the network has, as far as is known.
	Size() int
	// Unreachable is told of a peer that could not be dialled: it should not be among
	// the closest for some time.
	Unreachable(p peer.ID)
}

// Known is a peer that could be asked.
type Known struct {
	Peer  peer.ID
	Addrs []ma.Multiaddr
	// Expected is the round trip to it; 0 if nothing is known.
	Expected time.Duration
}

// noDirectory knows nobody.
type noDirectory struct{}

func (noDirectory) Closest([32]byte, int) []Known { return nil }
func (noDirectory) Addrs(peer.ID) []ma.Multiaddr  { return nil }
func (noDirectory) Size() int                     { return 0 }
func (noDirectory) Unreachable(peer.ID)           {}

// answer is what one peer said.
type answer struct {
	from    peer.ID
	message *pb.Message
	late    float64 // the time it took, as a multiple of what was expected
	err     error
}

// contact is a peer that a lookup knows.
type contact struct {
	Known
	distance [32]byte       // XOR of its key and the target
	blocks   []netip.Prefix // the small ones
	asked    bool
	failed   bool
}

// cost is when an answer is to be expected: a peer that is not connected takes a
// handshake more.
func (c *contact) cost(connected bool) time.Duration {
	trip := c.Expected
	if trip <= 0 {
		trip = guess
	}
	if connected {
		return trip
	}
	return 2 * trip
}

// lookup asks the peers closest to a key one question. It begins with those that
// will answer first ([Config.Fanout] at once), goes to the next ones for each that
// fails, answers, or is later than four of five were before, and takes every closer
// peer that an answer names among the closest. With a directory that knows the
// network that is one round trip; without, it is Kademlia's walk (Maymounkov,
// Mazières 2002). It belongs to one goroutine.
//
// It is not kad-dht's because that asks in the order of keys, waits for the slow
// before it goes on, spends the library's long timeouts on dead peers, and corrects
// stale peers in a way that lets them crash this process (see node.Node.DHT).
type lookup struct {
	router   *Router
	target   [32]byte
	request  *pb.Message
	width    int // how many of the closest are asked
	contacts []*contact
	seen     map[peer.ID]bool

	nearby []*contact           // what near gave last
	taken  map[netip.Prefix]int // its network blocks
}

func (r *Router) newLookup(kind pb.Message_MessageType, key []byte) *lookup {
	l := &lookup{router: r, target: keyOf(string(key)), request: pb.NewMessage(kind, key, 0), width: closest, seen: map[peer.ID]bool{r.dht.PeerID(): true}, taken: map[netip.Prefix]int{}}
	for _, known := range r.directory.Closest(l.target, farthest) {
		l.add(known)
	}
	for _, p := range r.dht.RoutingTable().NearestPeers(l.target[:], closest) {
		l.add(Known{Peer: p})
	}
	for _, known := range r.paths.closest(l.target) {
		l.add(known)
	}
	l.sort()
	return l
}

func (l *lookup) add(known Known) bool {
	if l.seen[known.Peer] || len(l.contacts) >= maxKnown {
		return false
	}
	l.seen[known.Peer] = true
	if len(known.Addrs) == 0 {
		known.Addrs = l.router.dht.Host().Peerstore().Addrs(known.Peer)
	}
	small := slices.DeleteFunc(netblock.Of(known.Addrs), func(b netip.Prefix) bool { return !netblock.Small(b) })
	l.contacts = append(l.contacts, &contact{Known: known, distance: xor(keyOf(string(known.Peer)), l.target), blocks: small})
	return true
}

// sort puts the closest first, and widens the lookup if they are too many for chance.
func (l *lookup) sort() {
	slices.SortFunc(l.contacts, func(a, b *contact) int { return bytes.Compare(a.distance[:], b.distance[:]) })
	if size := l.router.directory.Size(); size > closest && len(l.contacts) > crowd {
		// Of size random keys 20 are expected within this distance.
		radius := uint64(float64(1<<63) / float64(size) * 2 * closest)
		if binary.BigEndian.Uint64(l.contacts[crowd].distance[:]) < radius {
			l.width = farthest
		}
	}
}

// near are the living among the closest, up to the lookup's width, of each small
// network block only a few. They are valid until the next call.
func (l *lookup) near() []*contact {
	l.nearby = l.nearby[:0]
	clear(l.taken)
	for _, c := range l.contacts {
		if len(l.nearby) == l.width {
			break
		}
		crowded := slices.ContainsFunc(c.blocks, func(b netip.Prefix) bool {
			return l.router.perBlock >= 0 && l.taken[b] >= l.router.perBlock
		})
		if c.failed || crowded {
			continue
		}
		for _, b := range c.blocks {
			l.taken[b]++
		}
		l.nearby = append(l.nearby, c)
	}
	return l.nearby
}

// next is the peer to ask now: of the closest that live, the one that will answer
// first. nil: all have been asked.
func (l *lookup) next() *contact {
	var best *contact
	var least time.Duration
	for _, c := range l.near() {
		if c.asked {
			continue
		}
		cost := c.cost(l.router.connected(c.Peer))
		if best == nil || cost < least {
			best, least = c, cost
		}
	}
	return best
}

// answers asks and yields what was answered, as it arrives. Leaving the loop ends the
// lookup. While satisfied answers false, it goes on beyond the closest.
func (l *lookup) answers(ctx context.Context, satisfied func() bool) iter.Seq[answer] {
	return func(yield func(answer) bool) {
		ctx, cancel := context.WithCancel(ctx)
		arrived := make(chan answer, l.router.concurrency)
		waiting := map[peer.ID]time.Time{} // asked peers, and from when on each is late
		defer func() {                     // leave no goroutine behind
			cancel()
			for range waiting {
				<-arrived
			}
		}()
		hedge := time.NewTimer(time.Hour)
		defer hedge.Stop()
		for {
			for now := time.Now(); len(waiting) < l.router.concurrency && onTime(waiting, now) < l.router.fanout; {
				c := l.next()
				if c == nil && len(waiting) == 0 && l.width < farthest && !satisfied() {
					l.width += closest
					c = l.next()
				}
				if c == nil {
					break
				}
				c.asked = true
				cost := c.cost(l.router.connected(c.Peer)) + spare
				waiting[c.Peer] = now.Add(time.Duration(float64(cost) * l.router.pace.patience()))
				go func() { arrived <- l.ask(ctx, c.Known, cost) }()
			}
			if len(waiting) == 0 {
				return
			}
			hedge.Reset(untilLate(waiting, time.Now()))
			select {
			case <-ctx.Done():
				return
			case <-hedge.C: // somebody is late: another one is asked beside it
			case a := <-arrived:
				delete(waiting, a.from)
				if a.err != nil {
					l.fail(ctx, a)
					continue
				}
				l.router.pace.note(a.late)
				l.learn(a.message.GetCloserPeers())
				if !yield(a) {
					return
				}
			}
		}
	}
}

// onTime counts those whose answers can still be expected.
func onTime(waiting map[peer.ID]time.Time, now time.Time) (count int) {
	for _, late := range waiting {
		if now.Before(late) {
			count++
		}
	}
	return count
}

// untilLate is when the next of those who are on time will be late.
func untilLate(waiting map[peer.ID]time.Time, now time.Time) time.Duration {
	until := lookupTimeout
	for _, late := range waiting {
		if now.Before(late) {
			until = min(until, late.Sub(now))
		}
	}
	return until
}

// fail passes a peer over, here and in later lookups if it is to blame.
func (l *lookup) fail(ctx context.Context, a answer) {
	for _, c := range l.contacts {
		if c.Peer == a.from {
			c.failed = true
		}
	}
	var unreachable dialError
	if ctx.Err() == nil && errors.As(a.err, &unreachable) {
		l.router.directory.Unreachable(a.from)
		l.router.paths.forget(a.from)
	}
}

// learn takes the peers that an answer names.
func (l *lookup) learn(named []*pb.Message_Peer) {
	infos := pb.PBPeersToPeerInfos(named[:min(len(named), maxCloser)])
	news := false
	for _, info := range infos {
		known := Known{Peer: info.ID, Addrs: info.Addrs[:min(len(info.Addrs), maxPeerAddrs)]}
		if (len(known.Addrs) > 0 || l.router.connected(info.ID)) && l.add(known) {
			l.router.paths.add(known)
			news = true
		}
	}
	if news {
		l.sort()
	}
}

func (l *lookup) ask(ctx context.Context, to Known, cost time.Duration) answer {
	began := time.Now()
	message, err := l.router.ask(ctx, to, l.request)
	return answer{from: to.Peer, message: message, late: float64(time.Since(began)) / float64(cost), err: err}
}

// dialError is a failure to reach a peer at all.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// ask sends one request of the DHT's protocol and waits for the answer. The stream is
// opened on the connection itself and negotiated together with the request: a peer
// that is connected answers in one round trip, any other in two or three, whereas
// libp2p's host would first wait until both have identified themselves.
func (r *Router) ask(ctx context.Context, to Known, request *pb.Message) (*pb.Message, error) {
	ctx, cancel := context.WithTimeout(network.WithDialPeerTimeout(ctx, dialTimeout), askTimeout)
	defer cancel()
	s, err := r.open(ctx, to, request)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	data, err := msgio.NewVarintReaderSize(s, maxAnswer).ReadMsg()
	if err != nil {
		_ = s.Reset() // it may be gone already
		return nil, fmt.Errorf("wait for an answer: %w", errors.Join(err, ctx.Err()))
	}
	_ = s.Close() // all has been read
	message := new(pb.Message)
	if err := proto.Unmarshal(data, message); err != nil {
		return nil, fmt.Errorf("an answer that makes no sense: %w", err)
	}
	return message, nil
}

// tell sends one message that is not answered.
func (r *Router) tell(ctx context.Context, to Known, message *pb.Message) error {
	s, err := r.open(ctx, to, message)
	if err != nil {
		return err
	}
	return s.Close()
}

// stream is a libp2p stream whose protocol is negotiated with the first message.
type stream struct {
	network.Stream
	multistream.LazyConn
}

func (s stream) Read(b []byte) (int, error)  { return s.LazyConn.Read(b) }
func (s stream) Write(b []byte) (int, error) { return s.LazyConn.Write(b) }
func (s stream) Close() error                { return s.LazyConn.Close() }

// open connects to a peer if it must, and sends a message on a new stream.
func (r *Router) open(ctx context.Context, to Known, message *pb.Message) (network.Stream, error) {
	data, err := proto.Marshal(message)
	if err != nil {
		return nil, err
	}
	if len(to.Addrs) > 0 && !r.connected(to.Peer) {
		r.dht.Host().Peerstore().AddAddrs(to.Peer, to.Addrs, peerstore.TempAddrTTL)
	}
	raw, err := r.dht.Host().Network().NewStream(ctx, to.Peer)
	if err != nil {
		return nil, dialError{fmt.Errorf("reach %s: %w", to.Peer, err)}
	}
	if err = raw.SetProtocol(r.protocol); err == nil {
		s := stream{raw, multistream.NewMSSelect(raw, r.protocol)}
		if deadline, ok := ctx.Deadline(); ok {
			_ = raw.SetDeadline(deadline) // the context ends it all the same
		}
		if _, err = s.Write(append(binary.AppendUvarint(nil, uint64(len(data))), data...)); err == nil {
			return s, nil
		}
	}
	_ = raw.Reset() // it may be gone already
	return nil, fmt.Errorf("send a request: %w", err)
}

func (r *Router) connected(p peer.ID) bool {
	return r.dht.Host().Network().Connectedness(p) == network.Connected
}

// pace is how long the last answers took, as multiples of what was expected: how wrong
// expectations are is different in every network.
type pace struct {
	mu   sync.Mutex // guards the fields below
	last [64]float64
	next int
	full bool
}

func (p *pace) note(late float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[p.next] = late
	if p.next++; p.next == len(p.last) {
		p.next, p.full = 0, true
	}
}

const (
	// usual is how long to wait for an answer before there is experience, and least and
	// most bound what experience can say.
	usual, least, most = 1.5, 1.1, 4.0
	// experience is how many answers are one.
	experience = 8
)

// patience is after which multiple of the expected time an answer is late: four of five
// came before.
func (p *pace) patience() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	answers := p.last[:p.next]
	if p.full {
		answers = p.last[:]
	}
	if len(answers) < experience {
		return usual
	}
	sorted := slices.Sorted(slices.Values(answers))
	return min(max(sorted[len(sorted)*4/5], least), most)
}

const (
	// pathTime is for how long a peer that was named in an answer helps later lookups,
	// and maxPaths how many do: lookups that come together share their ways.
	pathTime = 5 * time.Minute
	maxPaths = 2048
)

// paths are peers that answers have named. Nothing vouches for them.
type paths struct {
	mu    sync.Mutex // guards peers
	peers map[peer.ID]path
}

type path struct {
	known Known
	key   [32]byte
	until time.Time
}

func (p *paths) add(known Known) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, old := range p.peers {
		if len(p.peers) < maxPaths {
			break
		}
		if now.After(old.until) || len(p.peers) >= maxPaths {
			delete(p.peers, id)
		}
	}
	p.peers[known.Peer] = path{known, keyOf(string(known.Peer)), now.Add(pathTime)}
}

func (p *paths) forget(id peer.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.peers, id)
}

// closest are the peers closest to target, in their order.
func (p *paths) closest(target [32]byte) []Known {
	type near struct {
		distance [32]byte
		known    Known
	}
	now, best := time.Now(), make([]near, 0, closest+1)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.peers {
		distance := xor(one.key, target)
		if !now.Before(one.until) || len(best) == closest && bytes.Compare(distance[:], best[closest-1].distance[:]) >= 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, distance, func(n near, d [32]byte) int { return bytes.Compare(n.distance[:], d[:]) })
		best = slices.Insert(best, at, near{distance, one.known})
		best = best[:min(len(best), closest)]
	}
	known := make([]Known, len(best))
	for i := range best {
		known[i] = best[i].known
	}
	return known
}

func xor(a, b [32]byte) (d [32]byte) {
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
	return d
}

// keyOf is the place of a peer ID or key in the DHT's space.
func keyOf(s string) [32]byte { return sha256.Sum256([]byte(s)) }
