// Package routing answers two questions through the network's DHT: what is the
// newest head of a publisher's log, and which peers have a blob. It also keeps
// this node's own answers alive there.
//
// Head records live under /ggen-head/<publisher ID>; a record counts only when
// the caller's [HeadCodec] verifies it, and the newest one wins.
// Provider records are kad-dht's: the key is the CID (raw, sha2-256) of the blob,
// and they are hints that nothing vouches for: only content proves that a
// provider told the truth.
//
// The package does not know what a head looks like (package publisher does), nor
// does it connect to providers (package transfer does).
package routing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"ggen.dev/marketplace/shared"
)

const (
	// storeTimeout bounds PutHead and Provide: a lookup of at most four hops, then
	// one message to each of the 20 closest peers. Over links of 100 ms both take
	// under two seconds; the rest is for peers that are gone.
	storeTimeout = 30 * time.Second

	// tellTimeout bounds storing at one peer, which is connected already.
	tellTimeout = 5 * time.Second

	// lookupTimeout bounds Head and Providers.
	lookupTimeout = 10 * time.Second

	// dialTimeout bounds the dial of one peer on the way, so that dead peers do
	// not hold up the living: 1.5 s are five round trips of 300 ms.
	dialTimeout = 1500 * time.Millisecond
)

// Config describes a [Router].
type Config struct {
	// Heads verifies head records. Required. It is called concurrently.
	Heads HeadCodec
	// Values are the records that this node stores for the network. Required.
	Values *records.ValueStore
	// Protocol is the DHT's. Required.
	Protocol protocol.ID
	// Directory is what is known of the network. nil: the routing table alone.
	Directory Directory
	// Fanout is how many peers a lookup asks at first, and how many more each time the
	// answers are late. Default: 5. Of the 20 closest the five nearest in time answer
	// within a third of the time of all.
	Fanout int
	// Concurrency is how many peers a lookup asks at most at once. Default: 10.
	Concurrency int
	// PerBlock is how many peers of one public network block (IPv4 /24, IPv6 /48) count
	// among the closest to a key. Default: 3. Negative: no bound, for simulations.
	PerBlock int
	// Keep is what to keep announced; nil: nothing.
	Keep Kept
	// KeepEvery is the time between announcements of everything in Keep. Records
	// live 48 h, and every day half of the peers that hold them may leave.
	// Default: 12 h.
	KeepEvery time.Duration
	// Logger is told what happens. Default: discards.
	Logger *slog.Logger
}

// Router finds and announces heads and providers. Its methods may be called
// concurrently.
type Router struct {
	dht      *dht.IpfsDHT
	heads    HeadCodec
	values   *records.ValueStore
	protocol protocol.ID
	keep     Kept
	every    time.Duration
	log      *slog.Logger

	directory           Directory
	fanout, concurrency int
	perBlock            int
	paths               paths
	pace                pace

	again    chan struct{} // holds a token when everything is to be announced soon
	lifetime context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// New makes a router over the DHT d, which must have [HeadValidator] for the
// namespace [HeadNamespace]. With Config.Keep it starts to announce what is kept
// as soon as the DHT can be used. Close ends it; d is the caller's.
func New(d *dht.IpfsDHT, cfg Config) (*Router, error) {
	switch {
	case d == nil:
		return nil, errors.New("routing: no DHT")
	case cfg.Heads == nil:
		return nil, errors.New("routing: Config.Heads is missing")
	case cfg.Values == nil:
		return nil, errors.New("routing: Config.Values is missing")
	case cfg.Protocol == "":
		return nil, errors.New("routing: Config.Protocol is missing")
	case cfg.Fanout < 0, cfg.Concurrency < 0:
		return nil, errors.New("routing: a value of Config is negative")
	}
	r := &Router{
		dht: d, heads: cfg.Heads, values: cfg.Values, protocol: cfg.Protocol, keep: cfg.Keep, every: cfg.KeepEvery, log: cfg.Logger,
		directory: cfg.Directory, fanout: cmp.Or(cfg.Fanout, 5), concurrency: cmp.Or(cfg.Concurrency, 10), perBlock: cmp.Or(cfg.PerBlock, 3),
		paths: paths{peers: map[peer.ID]path{}}, again: make(chan struct{}, 1),
	}
	r.concurrency = max(r.concurrency, r.fanout)
	if r.directory == nil {
		r.directory = noDirectory{}
	}
	if r.every == 0 {
		r.every = 12 * time.Hour
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.lifetime, r.cancel = context.WithCancel(context.Background())
	if r.keep != nil {
		r.running.Go(r.keepAnnounced)
	}
	return r, nil
}

// Close ends all work of the router, also calls that others made, and waits for
// its own. It is idempotent.
func (r *Router) Close() error {
	r.cancel()
	r.running.Wait()
	return nil
}

// bounded limits a call by time and by the life of the router, and the dials in
// it by dialTimeout.
func (r *Router) bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(network.WithDialPeerTimeout(ctx, dialTimeout), limit)
	stop := context.AfterFunc(r.lifetime, cancel)
	return ctx, func() { stop(); cancel() }
}

// usable returns NO_PEERS while nobody is known who could be asked.
func (r *Router) usable() error {
	if r.dht.RoutingTable().Size() > 0 || len(r.directory.Closest([32]byte{}, 1)) > 0 {
		return nil
	}
	return shared.NewError(shared.ReasonNoPeers, "no peer in the routing table").
		WithHint("connect to the network first: `ggen marketplace p2p bootstrap ADDRESS`")
}

// storeAtClosest finds the peers that a record under key belongs to and calls
// tell for all of them at once. It counts how often that succeeded; none is an
// error.
func (r *Router) storeAtClosest(ctx context.Context, key string, tell func(ctx context.Context, p Known) error) (told int, err error) {
	if err := r.usable(); err != nil {
		return 0, err
	}
	bounded, cancel := r.bounded(ctx, storeTimeout)
	defer cancel()
	peers := r.closestTo(bounded, key)
	if len(peers) == 0 {
		return 0, r.failure(ctx, fmt.Errorf("look up the closest peers: %w", cmp.Or(bounded.Err(), errors.New("nobody answered"))))
	}
	if told, err = tellAll(bounded, peers, tell); told == 0 {
		return 0, r.failure(ctx, fmt.Errorf("store at %d peers: %w", len(peers), err))
	}
	return told, nil
}

// closestTo are the peers closest to a key that answer: up to 20, or 60 where somebody
// seems to crowd them out.
func (r *Router) closestTo(ctx context.Context, key string) []Known {
	l := r.newLookup(pb.Message_FIND_NODE, []byte(key))
	answered := map[peer.ID]bool{}
	for a := range l.answers(ctx, func() bool { return true }) {
		answered[a.from] = true
	}
	var peers []Known
	for _, c := range l.near() { // the closest first
		if answered[c.Peer] {
			peers = append(peers, c.Known)
		}
	}
	return peers
}

// tellAll calls tell for every peer at once and counts how often it succeeded.
func tellAll(ctx context.Context, peers []Known, tell func(ctx context.Context, p Known) error) (told int, err error) {
	errs := make([]error, len(peers))
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() {
			one, cancel := context.WithTimeout(ctx, tellTimeout)
			defer cancel()
			errs[i] = tell(one, p)
		})
	}
	all.Wait()
	for _, e := range errs {
		if e == nil {
			told++
		} else {
			err = e
		}
	}
	return told, err
}

// failure gives an error of a call with the context ctx its reason.
func (r *Router) failure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return shared.AsError(ctx.Err())
	case r.lifetime.Err() != nil:
		return shared.NewError(shared.ReasonCanceled, "%w: the node is closing", err)
	case errors.Is(err, context.DeadlineExceeded):
		return shared.NewError(shared.ReasonTimeout, "%w", err).WithHint("try again; if it stays so, the peers that are known may all be gone")
	}
	return shared.NewError(shared.ReasonPeersFailed, "%w", err)
}

// named puts what was done in front of a failure and keeps its reason and hint.
func named(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}
