package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/shared"
)

// Config describes a [Client]; zero values mean the defaults.
type Config struct {
	// Observe is told how peers behaved. Default: nobody is.
	Observe Observer
	// Peers is from how many peers one download takes at once. Memory grows by two
	// buffers of [MaxRange] for each. Default: 8.
	Peers int
	// DialTimeout bounds connecting to one peer. Default: 3 s; dead peers cost
	// nothing while others answer.
	DialTimeout time.Duration
	// StallTimeout is after how much silence a peer is given up. What it was asked
	// for is asked elsewhere long before. Default: 10 s.
	StallTimeout time.Duration
	// HedgeAfter is after how much silence of all peers one more is asked, of those of
	// whom Expect knows nothing. Default: 250 ms, about the round trip to the other
	// side of the world.
	HedgeAfter time.Duration
	// Expect is what to expect of a peer from now on. One more is asked when the last one
	// that was asked takes twice as long for a piece, and 20 ms. Default: nothing is known.
	Expect func(peer.ID) Expected
}

// Expected is what former downloads from a peer have shown.
type Expected struct {
	FirstByte time.Duration // until the first byte; 0: not known
	Pace      float64       // seconds a byte beyond that; 0: not known
	Stranger  bool          // it never delivered: another peer is asked beside it, at once
}

// Candidates yields peers that may have what is wanted, the best first, as they
// become known. It stops when ctx ends or when no more can be found. It is called
// once, from a goroutine of its own. Addresses may be missing if the host knows
// them already.
type Candidates func(ctx context.Context) iter.Seq[peer.AddrInfo]

// maxCandidates bounds the candidates of one download. It is above the number of
// connections of a node, so that peers which are merely connected do not keep
// out those that are known to have the content.
const maxCandidates = 512

// Client fetches content from other peers. Its methods may be called
// concurrently; calls for the same content share one download.
type Client struct {
	host    host.Host
	cfg     Config
	decoder *zstd.Decoder

	lifetime context.Context // ends when Close begins
	cancel   context.CancelFunc

	mu       sync.Mutex // guards the fields below
	flights  map[string]*flight
	seats    map[peer.ID]*seats
	breaking map[peer.ID]int // streams in a row that broke
	closed   bool
	running  sync.WaitGroup // of flights; added to under mu while not closed
}

// NewClient makes a client on h. Close it before h.
func NewClient(h host.Host, cfg Config) (*Client, error) {
	switch {
	case h == nil:
		return nil, errors.New("transfer: no host")
	case cfg.Peers < 0, cfg.DialTimeout < 0, cfg.StallTimeout < 0, cfg.HedgeAfter < 0:
		return nil, errors.New("transfer: a value of Config is negative")
	}
	if cfg.Observe == nil {
		cfg.Observe = func(context.Context, Outcome) {}
	}
	if cfg.Peers == 0 {
		cfg.Peers = 8
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 3 * time.Second
	}
	if cfg.StallTimeout == 0 {
		cfg.StallTimeout = 10 * time.Second
	}
	if cfg.HedgeAfter == 0 {
		cfg.HedgeAfter = 250 * time.Millisecond
	}
	if cfg.Expect == nil {
		cfg.Expect = func(peer.ID) Expected { return Expected{} }
	}
	decoder, err := newDecoder()
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	c := &Client{host: h, cfg: cfg, decoder: decoder, flights: map[string]*flight{}, seats: map[peer.ID]*seats{}, breaking: map[peer.ID]int{}}
	c.lifetime, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close ends all downloads and waits for them. It is idempotent.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	c.decoder.Close()
	return nil
}

// flight is a download that any number of callers wait for. It ends when it is
// done, or when the last of them has left.
type flight struct {
	cancel context.CancelFunc
	done   chan struct{} // closed at the end; the results below are set before

	stats Stats
	data  [][]byte
	err   error

	waiters int // guarded by Client.mu

	mu       sync.Mutex    // guards the fields below
	moved    chan struct{} // closed and replaced at each progress
	received int64
	total    int64
}

// progress tells the waiters how far the download is.
func (f *flight) progress(received, total int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.received, f.total = received, total
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *flight) position() (moved <-chan struct{}, received, total int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.moved, f.received, f.total
}

// share joins the flight of this key, or starts it, and waits for its end.
// Progress is reported from this goroutine.
func (c *Client) share(ctx context.Context, key string, digest shared.Digest, report func(done, total int64), fly func(ctx context.Context, f *flight) error) (*flight, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx, digest)
	}
	f, err := c.board(ctx, key, digest, fly)
	if err != nil {
		return nil, err
	}
	for last := int64(-1); ; {
		moved, received, total := f.position()
		if report != nil && received > last && total > 0 {
			last = received
			report(received, total)
		}
		select {
		case <-f.done:
			if _, received, total = f.position(); report != nil && received > last && total > 0 {
				report(received, total)
			}
			return f, f.err
		case <-ctx.Done():
			c.leave(key, f)
			return nil, ended(ctx, digest)
		case <-moved:
		}
	}
}

func (c *Client) board(ctx context.Context, key string, digest shared.Digest, fly func(ctx context.Context, f *flight) error) (*flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil {
		f.waiters++
		return f, nil
	}
	if c.closed {
		return nil, shared.NewError(shared.ReasonCanceled, "fetch %s: the node is closing", digest)
	}
	// The flight must survive the caller who started it.
	lifetime, cancel := c.detached(ctx)
	f := &flight{cancel: cancel, done: make(chan struct{}), moved: make(chan struct{}), waiters: 1}
	c.flights[key] = f
	c.running.Go(func() {
		defer close(f.done)
		defer cancel()
		f.err = fly(lifetime, f)
		if f.err != nil && lifetime.Err() != nil {
			f.err = shared.NewError(shared.ReasonCanceled, "fetch %s: the node is closing", digest)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.flights[key] == f {
			delete(c.flights, key)
		}
	})
	return f, nil
}

// detached is a context that keeps the values of ctx and ends with the client.
func (c *Client) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(c.lifetime, cancel)
	return ctx, func() { stop(); cancel() }
}

// leave gives up waiting. The last one ends the flight and waits until it has
// let go of everything.
func (c *Client) leave(key string, f *flight) {
	c.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last && c.flights[key] == f {
		delete(c.flights, key) // whoever comes now starts anew
	}
	c.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
}

// patience is for how long nobody else is asked after a peer of which so much is known.
func (c *Client) patience(e Expected) time.Duration {
	const factor, slack, longest = 2, 20 * time.Millisecond, 2 * time.Second
	if e.FirstByte > 0 {
		piece := time.Duration(MaxRange * e.Pace * float64(time.Second))
		return min(factor*(e.FirstByte+piece)+slack, longest)
	}
	return c.cfg.HedgeAfter
}

const (
	// tries is after how many streams in a row that broke a peer is not asked again,
	// over all downloads: a connection that was lost is worth a second one. busyTries is
	// the same of being busy in one download: who tells us to come back is alive.
	tries     = 2
	busyTries = 10

	// maxBreaking bounds the peers of which the last stream broke.
	maxBreaking = 1024
)

// broke counts streams to a peer that broke in a row, and forgets them if it was of use.
func (c *Client) broke(p peer.ID, useful bool) (inARow int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if useful {
		delete(c.breaking, p)
		return 0
	}
	if len(c.breaking) >= maxBreaking {
		clear(c.breaking)
	}
	c.breaking[p]++
	return c.breaking[p]
}

// persist calls attempt again, after a pause, while it fails in a way that may
// pass. progress tells whether the last attempt brought something: then the peer
// has all its tries again.
func (c *Client) persist(ctx context.Context, p peer.ID, attempt func() (progress bool, fail *failure)) *failure {
	for busy := 0; ; {
		progress, fail := attempt()
		if progress || fail == nil {
			busy = 0
			c.broke(p, true)
		}
		if fail == nil || ctx.Err() != nil {
			return fail
		}
		pause := fail.pause
		switch fail.kind {
		case Busy:
			busy++
			pause += rand.N(pause/2 + time.Millisecond) // or all who were refused come back together
		case Disconnected:
			pause = 100 * time.Millisecond
			if c.broke(p, false) >= tries {
				return fail
			}
		default:
			return fail
		}
		if busy >= busyTries {
			return fail
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fail
		case <-timer.C:
		}
	}
}

// streamsPerPeer bounds our streams to one peer over all downloads: an install of
// many packages from one peer must not run into its limit.
const streamsPerPeer = 4

// seats are the streams to one peer.
type seats struct {
	taken chan struct{} // holds a token for each
	users int           // streams and those who wait for one; guarded by Client.mu
}

// sit waits for a free stream to the peer.
func (c *Client) sit(ctx context.Context, p peer.ID) (stand func(), err error) {
	c.mu.Lock()
	s := c.seats[p]
	if s == nil {
		s = &seats{taken: make(chan struct{}, streamsPerPeer)}
		c.seats[p] = s
	}
	s.users++
	c.mu.Unlock()
	forget := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(c.seats, p)
		}
	}
	select {
	case s.taken <- struct{}{}:
		return func() { <-s.taken; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

// pump forwards candidates until there are no more, and closes out. It skips
// this node itself and peers that were named before.
func (c *Client) pump(ctx context.Context, from Candidates, out chan<- peer.AddrInfo) {
	defer close(out)
	seen := map[peer.ID]bool{c.host.ID(): true}
	for p := range from(ctx) {
		if seen[p.ID] || p.ID == "" {
			continue
		}
		seen[p.ID] = true
		select {
		case out <- p:
		case <-ctx.Done():
			return
		}
		if len(seen) > maxCandidates {
			return
		}
	}
}
