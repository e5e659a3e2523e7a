package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.opentelemetry.io/otel/attribute"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/tracing"
)

// Want names the content of a [Client.Fetch]: Digest identifies it, and Size is its
// length in bytes.
type Want struct {
	Digest shared.Digest
	Size   int64
}

// Stats tell what a download took.
type Stats struct {
	Fetched int64     // bytes of verified content from peers
	Resumed int64     // bytes that were there before
	Wasted  int64     // bytes that arrived twice
	From    []peer.ID // peers that contributed; not to be changed
	Took    time.Duration
}

// Fetch downloads the pieces that a sink is missing, from several peers at once,
// and commits the sink. open is called in the goroutine of the download, which
// also closes the sink: it may go on after this call has returned because ctx
// ended, as long as other callers wait for the same content (whose own sinks are
// never opened). progress, which may be nil, is called from this goroutine with
// verified and total bytes.
//
// Every peer gets as much as it is fast. What a peer is late with is asked from
// another one, and so are the last pieces. A peer that sends a wrong piece is
// reported as [WrongContent], exactly it, and not asked again.
//
// Errors: UNAVAILABLE when no candidate holds the content or can be reached;
// INTEGRITY when all that hold it lied; TIMEOUT when all of them went silent;
// PEERS_FAILED otherwise: metadata peers says what each of them did. CANCELED,
// DEADLINE_EXCEEDED. Errors of the sink, such as STORAGE_FULL, come back as they
// are. What was verified before an error is in the sink.
func (c *Client) Fetch(ctx context.Context, want Want, open func() (Sink, error), peers Candidates, progress func(done, total int64)) (Stats, error) {
	if _, err := shared.ParseDigest(string(want.Digest)); err != nil {
		return Stats{}, err
	}
	if want.Size < 0 || open == nil || peers == nil {
		return Stats{}, shared.NewError(shared.ReasonInvalidArgument, "fetch %s: a size of %d bytes, or no sink or source of peers", want.Digest, want.Size)
	}
	key := fmt.Sprintf("sink %s %d", want.Digest, want.Size)
	f, err := c.share(ctx, key, want.Digest, progress, func(ctx context.Context, f *flight) error {
		return c.fly(ctx, f, want, open, peers)
	})
	if err != nil {
		return Stats{}, err
	}
	return f.stats, nil
}

func (c *Client) fly(ctx context.Context, f *flight, want Want, open func() (Sink, error), peers Candidates) (err error) {
	started := time.Now()
	sink, err := open()
	if err != nil {
		return fmt.Errorf("fetch %s: %w", want.Digest, err)
	}
	defer func() {
		if closeErr := sink.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("fetch %s: %w", want.Digest, closeErr)
		}
	}()
	d, err := newDownload(c, f, want, sink)
	if err != nil {
		return err
	}
	if d.left > 0 {
		// A megabyte is not worth a second peer unless the first is slow.
		limit := int(min(max((want.Size-d.arrived)/perPeer, 1), int64(c.cfg.Peers)))
		crew := crew{client: c, limit: limit, most: c.cfg.Peers, work: d.work, done: d.done, moved: d.moved}
		crew.run(ctx, peers)
		switch {
		case d.broken != nil:
			return fmt.Errorf("fetch %s: %w", want.Digest, d.broken)
		case d.left > 0:
			return verdict(want.Digest, crew.failed)
		}
	}
	if err := sink.Commit(); err != nil {
		return fmt.Errorf("fetch %s: %w", want.Digest, err)
	}
	d.stats.Took = time.Since(started)
	f.stats = d.stats
	return nil
}

// perPeer is for how many missing bytes one more peer is asked at the beginning.
const perPeer = 4 * MaxRange

// download is the state that all peers of one Fetch work on. A piece is missing,
// and then it is either queued or in flight with one or more workers, or done.
type download struct {
	client *Client
	flight *flight
	want   Want
	sink   Sink
	pieces []Piece
	done   chan struct{} // closed when nothing is missing or the sink is broken
	moved  chan struct{} // holds a token after a piece arrived

	mu      sync.Mutex        // guards the fields below, and those of the workers
	queue   []int             // missing and asked from nobody
	flying  map[int][]*worker // missing and asked from these
	left    int               // missing
	arrived int64             // bytes that are not missing
	broken  error             // of the sink
	stats   Stats
	changed chan struct{} // closed and replaced when idle workers should look again
}

func newDownload(c *Client, f *flight, want Want, sink Sink) (*download, error) {
	d := &download{
		client: c, flight: f, want: want, sink: sink, pieces: sink.Missing(),
		done: make(chan struct{}), moved: make(chan struct{}, 1), changed: make(chan struct{}),
		flying: map[int][]*worker{},
	}
	d.arrived = want.Size
	end := int64(0)
	for i, p := range d.pieces {
		if p.Offset < end || p.Length <= 0 || p.Length > MaxRange || p.Offset > want.Size-int64(p.Length) {
			return nil, shared.NewError(shared.ReasonInternal, "fetch %s: its sink misses %d bytes at %d of %d, behind %d", want.Digest, p.Length, p.Offset, want.Size, end)
		}
		end = p.Offset + int64(p.Length)
		d.queue = append(d.queue, i)
		d.arrived -= int64(p.Length)
	}
	d.left = len(d.queue)
	d.stats.Resumed = d.arrived
	f.progress(d.arrived, want.Size)
	return d, nil
}

func (d *download) request(i int) request {
	return request{sum: d.want.Digest.Sum(), offset: d.pieces[i].Offset, length: d.pieces[i].Length}
}

// work takes pieces from one peer until nothing is left to do (nil) or the peer
// is of no use any more.
func (d *download) work(ctx context.Context, p peer.AddrInfo) *failure {
	w := &worker{peer: p.ID}
	before := int64(0)
	ctx, end := tracing.Start(ctx, "peer", attribute.String("peer", p.ID.String()))
	fail := d.client.persist(ctx, p.ID, func() (bool, *failure) {
		fail := d.attempt(ctx, p, w)
		d.abandon(w)
		progress := w.bytes > before
		before = w.bytes
		if fail != nil && ctx.Err() == nil {
			d.client.cfg.Observe(ctx, Outcome{Peer: p.ID, Kind: fail.kind})
		}
		return progress, fail
	})
	tracing.Note(ctx, attribute.Int64("bytes", w.bytes))
	endSpan(ctx, end, fail)
	if w.bytes > 0 {
		d.client.cfg.Observe(ctx, Outcome{Peer: p.ID, Kind: Delivered, Bytes: w.bytes, Took: w.busy, FirstByte: w.firstByte})
		d.mu.Lock()
		d.stats.From = append(d.stats.From, p.ID)
		d.mu.Unlock()
	}
	return fail
}

// endSpan ends the span of one peer. Who is no longer needed has not failed.
func endSpan(ctx context.Context, end func(error), fail *failure) {
	if fail == nil || ctx.Err() != nil {
		end(nil)
		return
	}
	end(fail)
}

func (d *download) attempt(ctx context.Context, p peer.AddrInfo, w *worker) (fail *failure) {
	s, fail := d.client.dial(ctx, p)
	if fail != nil {
		return fail
	}
	d.expect(w)
	answered := false
	stop := context.AfterFunc(ctx, func() { _ = s.stream.Reset() }) // makes reading end
	defer func() { s.close(stop() && answered) }()
	for {
		batch := d.assign(w, s.local)
		if len(batch) > 0 {
			if fail := s.send(batch...); fail != nil {
				return fail
			}
		}
		asked, ok := d.oldest(w)
		if !ok {
			if !d.await(ctx) {
				answered = true
				return nil
			}
			continue
		}
		data, arrived, fail := s.receive(asked.request)
		if fail != nil {
			if ctx.Err() != nil {
				d.blame(ctx, w)
			}
			return fail
		}
		if fail := d.settle(w, asked, data, arrived); fail != nil {
			return fail
		}
	}
}

// settle takes the answer to w's oldest request. After a failure the request
// stays with w, for abandon to give back.
func (d *download) settle(w *worker, asked asked, data []byte, arrived time.Time) *failure {
	d.mu.Lock()
	took := w.measure(asked, arrived, time.Now())
	_, wanted := d.flying[asked.piece]
	d.mu.Unlock()
	var err error
	if wanted {
		err = d.sink.Write(asked.piece, data) // verifies
	}
	if errors.Is(err, shared.ReasonIntegrity) {
		return &failure{peer: w.peer, kind: WrongContent, cause: fmt.Errorf("%d bytes at %d do not match", asked.request.length, asked.request.offset)}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w.asked, w.inFlight = w.asked[1:], w.inFlight-asked.request.length
	_, first := d.flying[asked.piece] // somebody else may have brought it meanwhile
	switch {
	case d.left == 0 || d.broken != nil:
		return nil
	case err != nil:
		d.broken = err
		close(d.done)
		return nil
	case !first:
		d.stats.Wasted += int64(len(data))
		return nil
	}
	delete(d.flying, asked.piece)
	w.bytes += int64(len(data))
	w.busy += took
	d.stats.Fetched += int64(len(data))
	d.arrived += int64(len(data))
	d.flight.progress(d.arrived, d.want.Size)
	if d.left--; d.left == 0 {
		close(d.done)
	}
	select {
	case d.moved <- struct{}{}:
	default:
	}
	return nil
}
