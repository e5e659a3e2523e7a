// Package replicate gives every full peer the whole catalogue: it pulls from
// other peers what gossip missed, when a peer connects and from time to time.
//
// It does not know what is in a log: updates are opaque, and [Catalog.Apply]
// verifies each before anything is kept. Spreading news at once is package
// gossip's business.
//
// # Protocol /ggen/sync/1
//
// A client opens a libp2p stream and sends requests; the server gives each of
// them one answer, in their order. A client may send further requests before the
// answers have arrived; the server reads them one by one. Requests and answers are frames: a
// length of 4 bytes, which counts what follows it, a type of 1 byte, and a body.
// All integers are big-endian; a publisher is the 32 bytes of its ID.
//
//	request  type  body
//	compare  1     fingerprint 32
//	range    2     publisher 32, from 8, most 4
//	regions  3     for each region (1 to 256): number of digits 1, digits
//
//	answer     type  body
//	described  129   for each region: number of heads 1, then for each head:
//	                 publisher 32, size 8, root hash 32;
//	                 or: 255, the parts that have heads 2, a fingerprint 32 of each
//	same       130   empty
//	update     131   next 8, then an update
//	none       132   empty
//	busy       133   milliseconds 4
//
// A region is all publishers whose IDs begin with the same 0 to 24 hexadecimal
// digits. Its fingerprint is zeros if it has no heads, the SHA-256 of a byte 0 and
// its heads, in ascending order and in the form of the answer, if it has at most 32,
// and else that of a byte 1 and the fingerprints of its 16 parts, the regions with
// one digit more. A region of 24 digits has no parts; of its heads only the first 32
// count.
//
// compare has the fingerprint of all heads of the client. A server with the same
// heads answers same, any other describes the region without digits: it lists the
// heads if there are at most 32, or else gives the fingerprints of the parts (bit i
// stands for digit i). regions asks for descriptions of regions of 1 to 24 digits, in
// ascending order, none within another; two digits are a byte, and the last half of a
// byte is 0. All such answers on one stream are about one state of the server: what is
// described has the fingerprint that was given for it, or the server is a liar.
//
// range asks for entries of a log from number from on, in an update of at most
// most bytes (65536 to 1048576). next is where the update ends if the log goes on
// behind it, else 0. A range at the end of the log gives its newest head alone.
// none means that the server has no such log or that it ends before from.
//
// A server with too many streams sends busy without waiting for a request, and
// closes. It also ends a stream on which no request arrives for 30 s, that takes
// answers slower than 16 KiB/s (10 s are granted to each), that has received
// 1 GiB, or that is 15 minutes old. Whatever breaks these rules makes the other
// side reset the stream with the error code 0x1004.
package replicate

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"ggen.dev/marketplace/shared"
)

// Protocol is the stream protocol that is spoken here. The same protocol under another
// name can reconcile any set of things that have a hash for a name, a number that
// grows, and a hash of their content.
const Protocol protocol.ID = "/ggen/sync/1"

// Head says how far a log goes.
type Head struct {
	Publisher shared.PublisherID
	Size      int64 // entries
	Hash      [32]byte
}

// Catalog is the verified logs of this node. Its methods are called concurrently.
type Catalog interface {
	// Heads yields the logs that this node can serve, in the order of their
	// publishers. It is called once for each session.
	Heads() iter.Seq[Head]

	// Wants tells whether a log of another peer has something that this node does
	// not have, and from which entry on. A log of the same size with another hash
	// is wanted from its end: its head is the proof that the publisher lied.
	Wants(head Head) (from int64, wanted bool)

	// Since returns entries of a log from number from on as an update of at most
	// maxBytes (at least [MinUpdate], at most [MaxUpdate]). next is the number of
	// the first entry behind it, or 0 when there is none. It returns an error that
	// matches [ErrNone] when the log is not here or ends before from.
	Since(publisher shared.PublisherID, from int64, maxBytes int) (update []byte, next int64, err error)

	// Apply verifies an update, which is valid until it returns, and keeps what is new in it. Nothing new is no
	// error. An error that matches shared.ReasonIntegrity means that the update
	// cannot come from an honest peer; any other is this node's own trouble.
	Apply(ctx context.Context, from peer.ID, update []byte) error
}

// ErrNone says that a catalogue cannot serve a range.
var ErrNone = errors.New("no such log or range")

// Bounds on updates in bytes. The smallest must hold one entry (16 KiB), a chain
// of roots and the proofs.
const (
	MinUpdate = 64 << 10
	MaxUpdate = 1 << 20
)

// Config describes a [Replicator]; zero values mean the defaults.
type Config struct {
	// Protocol is what this catalogue is exchanged by. Default: [Protocol].
	Protocol protocol.ID
	// Interval is the time between two rounds with a random peer, give or take a
	// fifth, so that peers which started together do not stay together.
	// Default: 60 s. A round between equal catalogues costs 42 bytes.
	Interval time.Duration
	// Peers lists the peers to choose from. Default: all that are connected.
	Peers func() []peer.ID
	// Misbehaved is told of a peer that broke the protocol, lied or wasted our
	// time. It must return soon. Default: nobody is told.
	Misbehaved func(p peer.ID, cause error)
	// Synced is told of a peer with which the whole catalogue was compared. It must return
	// soon. Default: nobody is told.
	Synced func(p peer.ID)
	// SessionBytes bounds what one Sync or Fetch receives. Default: 256 MiB.
	SessionBytes int64
	// Sessions is how many peers are pulled from at once. Default: 4.
	Sessions int
	// Timeout is after how much silence a peer is given up. Default: 15 s.
	Timeout time.Duration
	// Limits bound what others may pull from us.
	Limits Limits
	// Logger is told what happens. Default: discards.
	Logger *slog.Logger
}

// Replicator serves the catalogue and pulls what it lacks. Its methods may be
// called concurrently.
type Replicator struct {
	host   host.Host
	view   *view
	cfg    Config
	server *server

	lifetime context.Context // ends when Close begins
	cancel   context.CancelFunc
	slots    chan struct{} // holds a token for each running session

	mu       sync.Mutex // guards the fields below
	sessions map[peer.ID]*turn
	shunned  map[peer.ID]time.Time // until when
	started  bool
	closed   bool
	running  sync.WaitGroup // of sessions and the loop; added to under mu while not closed
}

// New makes a replicator and begins to serve. Close it before h.
func New(h host.Host, catalog Catalog, cfg Config) (*Replicator, error) {
	switch {
	case h == nil || catalog == nil:
		return nil, errors.New("replicate: no host or no catalogue")
	case cfg.Interval < 0, cfg.SessionBytes < 0, cfg.Sessions < 0, cfg.Timeout < 0, cfg.Limits.Streams < 0, cfg.Limits.StreamsPerPeer < 0:
		return nil, errors.New("replicate: a value of Config is negative")
	}
	if cfg.Protocol == "" {
		cfg.Protocol = Protocol
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Minute
	}
	if cfg.Peers == nil {
		cfg.Peers = h.Network().Peers
	}
	if cfg.Misbehaved == nil {
		cfg.Misbehaved = func(peer.ID, error) {}
	}
	if cfg.SessionBytes == 0 {
		cfg.SessionBytes = 256 << 20
	}
	if cfg.Sessions == 0 {
		cfg.Sessions = 4
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Replicator{
		host: h, view: &view{catalog: catalog}, cfg: cfg, slots: make(chan struct{}, cfg.Sessions),
		sessions: map[peer.ID]*turn{}, shunned: map[peer.ID]time.Time{},
	}
	r.lifetime, r.cancel = context.WithCancel(context.Background())
	r.server = serve(h, r.view, cfg)
	return r, nil
}

// Start begins the rounds with random peers. Only the first call does anything.
func (r *Replicator) Start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started && !r.closed {
		r.started = true
		r.running.Go(r.rounds)
	}
}

// Close ends all sessions, stops serving, and waits for both. It is idempotent.
func (r *Replicator) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.server.close()
	r.running.Wait()
	return nil
}

// rounds is the anti-entropy: whatever gossip lost, two peers that differ meet
// after a few rounds.
func (r *Replicator) rounds() {
	for {
		spread := time.Duration(rand.Int64N(int64(r.cfg.Interval)*2/5 + 1))
		timer := time.NewTimer(r.cfg.Interval*4/5 + spread)
		select {
		case <-r.lifetime.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		p, ok := r.choose()
		if !ok {
			continue
		}
		if stats, err := r.Sync(r.lifetime, p); err != nil && r.lifetime.Err() == nil {
			r.cfg.Logger.Debug("round with a peer failed", "peer", p, "error", err, "entries", stats.Updates)
		}
	}
}

// choose picks a random peer that may speak the protocol.
func (r *Replicator) choose() (peer.ID, bool) {
	peers := r.cfg.Peers()
	for _, i := range rand.Perm(len(peers)) {
		if r.isShunned(peers[i]) {
			continue
		}
		spoken, err := r.host.Peerstore().SupportsProtocols(peers[i], r.cfg.Protocol)
		if err == nil && len(spoken) > 0 {
			return peers[i], true
		}
	}
	return "", false
}

const (
	// shunTime is for how long a peer that misbehaved is not asked again.
	shunTime = 30 * time.Minute

	// maxShunned bounds the memory for such peers; identities cost nothing.
	maxShunned = 1024
)

func (r *Replicator) isShunned(p peer.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.shunned[p]
	if ok && time.Now().After(until) {
		delete(r.shunned, p)
		return false
	}
	return ok
}

func (r *Replicator) shun(p peer.ID, cause error) {
	r.mu.Lock()
	now := time.Now()
	for other, until := range r.shunned {
		if now.After(until) || len(r.shunned) >= maxShunned {
			delete(r.shunned, other)
		}
	}
	r.shunned[p] = now.Add(shunTime)
	r.mu.Unlock()
	r.cfg.Misbehaved(p, cause)
}
