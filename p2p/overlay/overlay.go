// Package overlay is what this node knows of the network and how it finds things in
// it: it puts the peer table, the way its records travel and are repaired, and the
// lookups that use it together over one node. The engine opens one.
//
// It does not know publishers, packages or blobs, and starts nothing that package node
// has not listened for. What a lookup finds is verified by the caller's codec.
package overlay

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"iter"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/p2p/gossip"
	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/peertable"
	"ggen.dev/marketplace/p2p/replicate"
	"ggen.dev/marketplace/p2p/routing"
	"ggen.dev/marketplace/shared"
)

const (
	// Protocol is the exchange of peer tables: package replicate's, about records
	// instead of logs. A record's name is the SHA-256 of the peer's ID, its size the time
	// it was made in Unix seconds, its hash the SHA-256 of the sealed record, and an
	// update is one sealed record.
	Protocol protocol.ID = "/ggen/peers/1"

	// announcements is the gossip topic's kind.
	announcements = "peers"

	// A node compares tables with the first firstPeers peers it meets, and then every
	// repairEvery with one: what gossip missed is not urgent.
	firstPeers  = 3
	repairEvery = time.Minute
	syncTimeout = time.Minute

	// rendezvousPeers is about how many peers can be found under the network's own key.
	rendezvousPeers = 64

	// findTimeout bounds the search for members whom this node has not met.
	findTimeout = 5 * time.Second
)

// Config describes an [Overlay]. Identity and Heads are required.
type Config struct {
	// Identity is the node's key.
	Identity crypto.PrivKey
	// Heads verifies head records, and Keep is what to keep announced.
	Heads routing.HeadCodec
	Keep  routing.Kept
	// Light makes a node that uses the network and carries nothing of it: it keeps no peer
	// table and hears no announcements.
	Light bool
	// Super tells whether this node announces itself as a super-peer now. nil: never.
	Super func() bool
	// Fanout and Concurrency are those of lookups; see [routing.Config].
	Fanout, Concurrency int
	// Table bounds the peer table, and PerBlock what one network block has in a lookup;
	// see [routing.Config].
	Table    peertable.Config
	PerBlock int
	// Snapshot is what [Overlay.Snapshot] gave when the node ran last.
	Snapshot []byte
	// Misbehaved is told of a peer that lied about others. Default: nobody is told.
	Misbehaved func(p peer.ID, cause error)
	// Flooding is told of a neighbour that floods announcements. Default: nobody is told.
	Flooding func(p peer.ID)
	// Logger is told what happens. Default: discards.
	Logger *slog.Logger
}

// Overlay is a node's view of the network. Its methods may be called concurrently.
type Overlay struct {
	node    *node.Node
	log     *slog.Logger
	table   *peertable.Table
	keeper  *peertable.Keeper
	topic   *gossip.Topic
	repair  *replicate.Replicator
	routing *routing.Router

	light      bool
	super      func() bool
	rendezvous shared.Digest // what members of the network "provide" to be found

	met      atomic.Int32 // members that tables were compared with on meeting
	lifetime context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	once     sync.Once
	closeErr error
}

// Open begins to learn the network. Call it before the node is started, and Close
// before the node is closed.
func Open(n *node.Node, cfg Config) (_ *Overlay, err error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	o := &Overlay{node: n, log: cfg.Logger, table: peertable.New(n.PeerID(), cfg.Table)}
	o.lifetime, o.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	o.light, o.super = cfg.Light, cfg.Super
	if o.super == nil {
		o.super = func() bool { return false }
	}
	if !cfg.Light {
		if err := o.learn(cfg); err != nil {
			return nil, err
		}
	}
	if o.keeper, err = peertable.NewKeeper(n.Host(), o.table, peertable.KeeperConfig{
		Key: cfg.Identity, Serves: o.serves, Addrs: n.DHT().FilteredAddrs,
		Members: n.Connected, Announce: o.announce, Logger: cfg.Logger,
	}); err != nil {
		return nil, err
	}
	o.rendezvous = shared.DigestOf([]byte("ggen/rendezvous/" + n.Network()))
	if o.routing, err = routing.New(n.DHT(), routing.Config{
		Heads: cfg.Heads, Values: n.Values(), Protocol: n.DHTProtocol(), Directory: directory{o}, PerBlock: cfg.PerBlock,
		Fanout: cfg.Fanout, Concurrency: cfg.Concurrency, Keep: kept{o, cfg.Keep}, Logger: cfg.Logger,
	}); err != nil {
		return nil, err
	}
	if len(cfg.Snapshot) > 0 { // a second for 10,000 peers: nobody waits for it
		o.running.Go(func() {
			if err := o.table.Restore(cfg.Snapshot); err != nil {
				o.log.Warn("forgetting peers of the last run", "error", err)
			}
		})
	}
	n.SetFinder(o.find)
	if !cfg.Light {
		n.OnPeer(o.meet)
		o.repair.Start()
	}
	return o, nil
}

// learn begins to exchange the peer table.
func (o *Overlay) learn(cfg Config) (err error) {
	if o.repair, err = replicate.New(o.node.Host(), records{o.table}, replicate.Config{
		Protocol: Protocol, Interval: repairEvery, Peers: o.node.Connected, Misbehaved: cfg.Misbehaved, Logger: cfg.Logger,
	}); err != nil {
		return err
	}
	if o.topic, err = gossip.Join(o.node.PubSub(), o.node.PeerID(), o.node.Network(), gossip.Config{
		Kind: announcements, Validate: o.judge, Deliver: func(context.Context, peer.ID, []byte) {}, Flooding: cfg.Flooding, Logger: cfg.Logger,
	}); err != nil {
		return err
	}
	return nil
}

// Routing finds and announces.
func (o *Overlay) Routing() *routing.Router { return o.routing }

// Table is the known peers.
func (o *Overlay) Table() *peertable.Table { return o.table }

// RoundTrip is how long a round trip to a peer takes, as measured or else as the
// coordinates of both predict; 0 if nothing is known.
func (o *Overlay) RoundTrip(p peer.ID) time.Duration {
	c, ok := o.table.Get(p)
	if !ok {
		return 0
	}
	return o.keeper.Expected(c)
}

// Snapshot is the table as bytes, for [Config.Snapshot] of the next run.
func (o *Overlay) Snapshot() []byte { return o.table.Snapshot() }

// Close ends everything and waits for it. It is idempotent.
func (o *Overlay) Close() error {
	o.once.Do(func() {
		o.cancel()
		if o.routing != nil {
			o.closeErr = o.routing.Close()
		}
		if o.keeper != nil {
			o.closeErr = errors.Join(o.closeErr, o.keeper.Close())
		}
		if o.topic != nil {
			o.closeErr = errors.Join(o.closeErr, o.topic.Close())
		}
		if o.repair != nil {
			o.closeErr = errors.Join(o.closeErr, o.repair.Close())
		}
		o.running.Wait()
	})
	return o.closeErr
}

// meet compares tables with the first members that are met. It is called from one
// goroutine.
func (o *Overlay) meet(p peer.ID, connected bool) {
	if !connected || o.lifetime.Err() != nil || o.met.Load() >= firstPeers {
		return
	}
	o.met.Add(1)
	o.running.Go(func() {
		ctx, cancel := context.WithTimeout(o.lifetime, syncTimeout)
		defer cancel()
		if _, err := o.repair.Sync(ctx, p); err != nil && o.lifetime.Err() == nil {
			o.met.Add(-1) // another one
			o.log.Debug("compare peer tables", "peer", p, "error", err)
		}
	})
}

// serves tells whether this node answers DHT queries.
func (o *Overlay) serves() bool { return o.node.DHTMode() == "server" }

// find gives members of the network to dial: some from the peer table, or, while it
// has too few, those who have announced themselves under the network's own key in the
// DHT.
func (o *Overlay) find(ctx context.Context, most int) (infos []peer.AddrInfo) {
	var anywhere [32]byte
	_, _ = rand.Read(anywhere[:]) // never fails, see crypto/rand
	for _, c := range o.table.Closest(anywhere, most) {
		infos = append(infos, peer.AddrInfo{ID: c.Peer, Addrs: c.Addrs})
	}
	if len(infos) == most {
		return infos
	}
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	stop := context.AfterFunc(o.lifetime, cancel) //nolint:contextcheck // ends the one above
	defer stop()
	for info := range o.routing.Providers(ctx, o.rendezvous, most-len(infos)) {
		infos = append(infos, info)
	}
	return infos
}

// meets tells whether this node announces itself under the network's own key: about
// rendezvousPeers do, so that the 20 peers which keep the answers are not asked to keep
// the whole network.
func (o *Overlay) meets() bool {
	if o.node.DHTMode() != "server" {
		return false
	}
	key := peertable.Key(o.node.PeerID())
	return float64(binary.BigEndian.Uint64(key[:]))/math.MaxUint64*float64(o.table.Size()) < rendezvousPeers
}

// superPeers is what super-peers "provide".
func (o *Overlay) superPeers() shared.Digest {
	return shared.DigestOf([]byte("ggen/super-peers/" + o.node.Network()))
}

// SuperPeers are up to most peers that have announced that they answer for others.
// Nothing vouches for it. It takes at most 5 s.
func (o *Overlay) SuperPeers(ctx context.Context, most int) (infos []peer.AddrInfo) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	for info := range o.routing.Providers(ctx, o.superPeers(), most) {
		infos = append(infos, info)
	}
	return infos
}

// Offer announces this node as a super-peer now. While [Config.Super] says that it is
// one, that is repeated by itself.
func (o *Overlay) Offer(ctx context.Context) error {
	_, err := o.routing.Provide(ctx, o.superPeers())
	return err
}

// kept is what this node keeps announced: what the caller says, and that it is there.
type kept struct {
	o    *Overlay
	more routing.Kept
}

// Heads implements routing.Kept.
func (k kept) Heads() iter.Seq2[shared.PublisherID, []byte] {
	if k.more == nil {
		return func(func(shared.PublisherID, []byte) bool) {}
	}
	return k.more.Heads()
}

// Digests implements routing.Kept.
func (k kept) Digests() iter.Seq[shared.Digest] {
	return func(yield func(shared.Digest) bool) {
		if k.o.meets() && !yield(k.o.rendezvous) || k.o.super() && !yield(k.o.superPeers()) || k.more == nil {
			return
		}
		for digest := range k.more.Digests() {
			if !yield(digest) {
				return
			}
		}
	}
}

// announce hands this node's new record to the network.
func (o *Overlay) announce(ctx context.Context, sealed []byte) {
	if o.light {
		return // not reached: such a node answers no queries
	}
	if _, err := o.topic.Announce(ctx, sealed); err != nil && ctx.Err() == nil {
		o.log.Debug("announce this node", "error", err)
	}
}

// judge is the topic's validator, and takes what is valid at once: a record that is
// news here is news for the neighbours.
func (o *Overlay) judge(_ context.Context, _ peer.ID, sealed []byte) gossip.Verdict {
	switch _, err := o.table.Put(sealed); {
	case err == nil:
		return gossip.Accept
	case errors.Is(err, peertable.ErrOld), errors.Is(err, peertable.ErrEarly), errors.Is(err, peertable.ErrCrowded):
		return gossip.Ignore
	}
	return gossip.Reject
}

// directory gives the lookups the peer table in their own words.
type directory struct{ o *Overlay }

// Closest implements routing.Directory.
func (d directory) Closest(target [32]byte, count int) []routing.Known {
	candidates := d.o.table.Closest(target, count)
	known := make([]routing.Known, len(candidates))
	for i, c := range candidates {
		known[i] = routing.Known{Peer: c.Peer, Addrs: c.Addrs, Expected: d.o.keeper.Expected(c)}
	}
	return known
}

// Addrs implements routing.Directory.
func (d directory) Addrs(p peer.ID) []ma.Multiaddr {
	c, _ := d.o.table.Get(p)
	return c.Addrs
}

// Size implements routing.Directory.
func (d directory) Size() int { return d.o.table.Size() }

// Unreachable implements routing.Directory.
func (d directory) Unreachable(p peer.ID) { d.o.table.Unreachable(p) }

// records gives package replicate the peer table in its own words.
type records struct{ table *peertable.Table }

// Heads implements replicate.Catalog.
func (r records) Heads() iter.Seq[replicate.Head] {
	return func(yield func(replicate.Head) bool) {
		for ref := range r.table.Refs() {
			if !yield(replicate.Head{Publisher: shared.PublisherID(hex.EncodeToString(ref.Key[:])), Size: ref.Made, Hash: ref.Hash}) {
				return
			}
		}
	}
}

// Wants implements replicate.Catalog.
func (r records) Wants(head replicate.Head) (from int64, wanted bool) {
	key, ok := keyOf(head.Publisher)
	return 0, ok && r.table.Wants(peertable.Ref{Key: key, Made: head.Size, Hash: head.Hash})
}

// Since implements replicate.Catalog.
func (r records) Since(name shared.PublisherID, from int64, maxBytes int) (update []byte, next int64, err error) {
	key, ok := keyOf(name)
	if sealed := r.table.Sealed(key); ok && from == 0 && len(sealed) > 0 && len(sealed) <= maxBytes {
		return sealed, 0, nil
	}
	return nil, 0, replicate.ErrNone
}

// Apply implements replicate.Catalog.
func (r records) Apply(_ context.Context, _ peer.ID, sealed []byte) error {
	_, err := r.table.Put(sealed)
	if err == nil || errors.Is(err, peertable.ErrOld) || errors.Is(err, peertable.ErrEarly) || errors.Is(err, peertable.ErrCrowded) {
		return nil
	}
	return shared.NewError(shared.ReasonIntegrity, "%w", err)
}

func keyOf(name shared.PublisherID) (key [32]byte, ok bool) {
	n, err := hex.Decode(key[:], []byte(name))
	return key, err == nil && n == len(key)
}
