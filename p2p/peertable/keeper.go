package peertable

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/p2p/coordinate"
)

// Protocol is the exchange of points: the client opens a stream and sends its point of
// 24 bytes, the server answers with its own and closes. The time between is one round
// trip.
const Protocol protocol.ID = "/ggen/place/1"

const (
	// Renewal is how old this node's record becomes before it makes a new one: everybody
	// misses three before they forget the node. With 10,000 peers a record of 250 bytes
	// then comes every two seconds.
	Renewal = 6 * time.Hour

	// settle is how long a node runs before it makes its first record: who comes for a
	// minute is no news for everybody, and a point needs some measurements.
	settle = time.Minute

	// soonest is the time between two records of one node, unless its addresses change.
	soonest = 10 * time.Minute

	// look is how often the node looks whether its record is still true, and tick how
	// often it measures: up to perTick neighbours that it has not measured enough times,
	// and one of all every resample.
	look     = 15 * time.Second
	tick     = time.Second
	perTick  = 4
	enough   = 3
	resample = 15 * time.Second

	// measureTimeout bounds one measurement, servedAtOnce those that others make.
	measureTimeout = 5 * time.Second
	servedAtOnce   = 64
)

// KeeperConfig describes a [Keeper]. All fields but Logger are required.
type KeeperConfig struct {
	// Key is the node's.
	Key crypto.PrivKey
	// Serves tells whether the node answers DHT queries now; only then it is listed.
	Serves func() bool
	// Addrs are the addresses that others can dial now.
	Addrs func() []ma.Multiaddr
	// Members are the connected peers of the network.
	Members func() []peer.ID
	// Announce hands a new record of this node to the network.
	Announce func(ctx context.Context, sealed []byte)
	// Logger is told what happens. Default: discards.
	Logger *slog.Logger
}

// Keeper keeps this node's own record true and measures the way to its neighbours.
type Keeper struct {
	host  host.Host
	table *Table
	place *coordinate.Place
	cfg   KeeperConfig

	serving  chan struct{} // holds a token for each exchange that is served
	count    map[peer.ID]int
	last     Record // this node's
	lifetime context.Context
	cancel   context.CancelFunc
	mu       sync.Mutex // guards closed
	closed   bool
	running  sync.WaitGroup
}

// NewKeeper begins to serve, to measure and to announce. Close it before h.
func NewKeeper(h host.Host, t *Table, cfg KeeperConfig) (*Keeper, error) {
	if h == nil || t == nil || cfg.Key == nil || cfg.Serves == nil || cfg.Addrs == nil || cfg.Members == nil || cfg.Announce == nil {
		return nil, errors.New("peertable: a field of the keeper's configuration is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{
		host: h, table: t, place: coordinate.NewPlace(), cfg: cfg,
		serving: make(chan struct{}, servedAtOnce), count: map[peer.ID]int{},
	}
	k.lifetime, k.cancel = context.WithCancel(context.Background())
	h.SetStreamHandler(Protocol, k.serve)
	k.running.Go(k.keep)
	return k, nil
}

// Close stops serving and measuring and waits for both. It is idempotent.
func (k *Keeper) Close() error {
	k.host.RemoveStreamHandler(Protocol)
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	k.running.Wait()
	return nil
}

// Expected is how long a round trip to a candidate takes: as measured, or else as the
// points predict; 0 if nothing is known.
func (k *Keeper) Expected(c Candidate) time.Duration {
	switch here := k.place.Point(); {
	case c.Measured > 0:
		return c.Measured
	case here.Known() && c.At.Known():
		return here.RoundTrip(c.At)
	}
	return 0
}

// serve answers one exchange.
func (k *Keeper) serve(s network.Stream) {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		_ = s.Reset() // it may be gone already
		return
	}
	k.running.Add(1)
	k.mu.Unlock()
	defer k.running.Done()
	select {
	case k.serving <- struct{}{}:
		defer func() { <-k.serving }()
	default:
		_ = s.Reset() // whoever it is measures again
		return
	}
	stop := context.AfterFunc(k.lifetime, func() { _ = s.Reset() })
	defer stop()
	if _, err := exchange(s, k.place.Point(), false); err != nil {
		_ = s.Reset() // it may be gone already
		return
	}
	_ = s.Close() // nothing is left to say
}

// exchange sends a point and reads one, in the order of the client or the server.
func exchange(s network.Stream, mine coordinate.Point, first bool) (theirs coordinate.Point, err error) {
	if err := s.SetDeadline(time.Now().Add(measureTimeout)); err != nil {
		return theirs, err
	}
	if first {
		if _, err := s.Write(mine.Append(nil)); err != nil {
			return theirs, err
		}
	}
	var read [coordinate.Size]byte
	if _, err := io.ReadFull(s, read[:]); err != nil {
		return theirs, err
	}
	if !first {
		if _, err := s.Write(mine.Append(nil)); err != nil {
			return theirs, err
		}
	}
	return coordinate.Parse(read[:])
}

// keep is the keeper's only loop.
func (k *Keeper) keep() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	started := time.Now()
	looked, resampled := started.Add(settle-look), started
	for {
		select {
		case <-k.lifetime.Done():
			return
		case <-ticker.C:
		}
		k.measureSome(time.Since(resampled) >= resample)
		if time.Since(resampled) >= resample {
			resampled = time.Now()
		}
		if time.Since(looked) >= look {
			looked = time.Now()
			k.renew()
			k.table.Expire()
		}
	}
}

// measureSome measures the neighbours that were measured least, and one more.
func (k *Keeper) measureSome(again bool) {
	members := k.cfg.Members()
	for p := range k.count {
		if !slices.Contains(members, p) {
			delete(k.count, p)
		}
	}
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	slices.SortStableFunc(members, func(a, b peer.ID) int { return k.count[a] - k.count[b] })
	var measuring sync.WaitGroup
	for i, p := range members[:min(len(members), perTick)] {
		if k.count[p] >= enough && (i > 0 || !again) {
			break
		}
		k.count[p]++
		measuring.Go(func() { k.measure(p) })
	}
	measuring.Wait()
}

// measure exchanges points with a connected peer.
func (k *Keeper) measure(p peer.ID) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(k.lifetime, "measure connected peers"), measureTimeout)
	defer cancel()
	s, err := k.host.NewStream(ctx, p, Protocol)
	if err != nil {
		return // gone, or older than this protocol
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	began := time.Now()
	theirs, err := exchange(s, k.place.Point(), true)
	took := time.Since(began)
	if err != nil {
		_ = s.Reset() // it may be gone already
		return
	}
	_ = s.Close() // all has been read
	k.place.Observe(theirs, took)
	k.table.Measured(p, took)
}

// renew makes a record if the last is no longer true.
func (k *Keeper) renew() {
	addrs := k.cfg.Addrs()
	if !k.cfg.Serves() || len(addrs) == 0 {
		return
	}
	here, now := k.place.Point(), time.Now()
	if k.last.Made.IsZero() {
		k.recall()
	}
	age := now.Sub(k.last.Made)
	moved := age >= soonest && hasMoved(k.last.At, here)
	if age < Renewal && sameAddrs(k.last.Addrs, addrs) && !moved {
		return
	}
	k.last = Record{Peer: k.host.ID(), Made: now, Addrs: addrs, At: here}
	sealed, err := Seal(k.cfg.Key, k.last)
	if err == nil {
		_, err = k.table.Put(sealed)
	}
	if err != nil {
		k.cfg.Logger.Warn("cannot make a record of this node", "error", err)
		return
	}
	k.cfg.Announce(k.lifetime, sealed)
}

// recall finds the record that this node made before it was started again.
func (k *Keeper) recall() {
	if sealed := k.table.Sealed(Key(k.host.ID())); sealed != nil {
		if rec, err := Open(sealed); err == nil {
			k.last = rec
		}
	}
}

// hasMoved tells whether predictions from the two points differ by over a quarter of
// what is typical: 10 ms, or by the older point's own error.
func hasMoved(from, to coordinate.Point) bool {
	if !to.Known() {
		return false
	}
	return !from.Known() || from.RoundTrip(to) > 10*time.Millisecond+from.RoundTrip(from)+to.RoundTrip(to)
}

func sameAddrs(a, b []ma.Multiaddr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(addr ma.Multiaddr) bool { return !ma.Contains(b, addr) })
}
