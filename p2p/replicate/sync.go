package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/shared"
)

const (
	// maxRegions bounds the regions that one session asks about. 100,000 publishers,
	// as many as a catalogue can hold, have 7,000; ten times as many have 70,000. A liar
	// can say 64 MiB about them.
	maxRegions = 1 << 17

	// ahead is how many ranges are asked for before the first has arrived: new
	// publishers with a few entries each come at 32 a round trip.
	ahead = 32

	// maxWasted bounds the answers in one session that bring nothing though the
	// peer's heads promised something. Honest peers give one when a log changes
	// under our hands; a liar is left after this many.
	maxWasted = 64

	// maxBusyPause bounds how long we wait for a peer that is busy.
	maxBusyPause = 10 * time.Second
)

// Stats tell what a session brought.
type Stats struct {
	Rounds  int   // questions until both catalogues were compared
	Heads   int   // that the peer listed; 0 when both catalogues are the same
	Updates int   // that were applied
	Bytes   int64 // received
}

// Sync pulls from a connected peer everything that it has and this node has not.
// A second call for the same peer waits for the first. Whatever was applied
// before an error stays, and the next Sync goes on from there.
//
// Errors: INTEGRITY when the peer lied or broke the protocol (it is reported, and
// not asked again for half an hour); LIMIT_EXCEEDED when the session's bytes are
// used up; TIMEOUT; PEERS_FAILED; CANCELED, DEADLINE_EXCEEDED; and those of the
// catalogue.
func (r *Replicator) Sync(ctx context.Context, p peer.ID) (Stats, error) {
	stats, err := r.session(ctx, p, "synchronise with "+shortID(p), (*session).pullAll)
	if err == nil && r.cfg.Synced != nil {
		r.cfg.Synced(p)
	}
	return stats, err
}

// Fetch pulls one publisher's log from a connected peer, from entry from on: it
// repairs the gap that an announcement has shown. Errors are those of
// [Replicator.Sync], and NOT_FOUND when the peer does not have that part.
func (r *Replicator) Fetch(ctx context.Context, p peer.ID, publisher shared.PublisherID, from int64) (Stats, error) {
	what := fmt.Sprintf("fetch log of %s from %s", publisher.Short(), shortID(p))
	if !publisher.Complete() || from < 0 || from > maxLogSize {
		return Stats{}, shared.NewError(shared.ReasonInvalidArgument, "%s: no complete publisher ID, or entry %d", what, from)
	}
	return r.session(ctx, p, what, func(s *session, ctx context.Context) error {
		return s.pullLog(ctx, publisher, from)
	})
}

// turn is the queue of sessions with one peer: whoever holds its token goes on.
type turn struct {
	token chan struct{}
	users int // guarded by Replicator.mu
}

// enter waits until no other session with p runs and until there is a place for
// one more session at all.
func (r *Replicator) enter(ctx context.Context, p peer.ID) (leave func(), err error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, context.Canceled
	}
	t := r.sessions[p]
	if t == nil {
		t = &turn{token: make(chan struct{}, 1)}
		r.sessions[p] = t
	}
	t.users++
	r.running.Add(1)
	r.mu.Unlock()
	forget := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(r.sessions, p)
		}
		r.running.Done()
	}
	select {
	case t.token <- struct{}{}:
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
	select {
	case r.slots <- struct{}{}:
		return func() { <-r.slots; <-t.token; forget() }, nil
	case <-ctx.Done():
		<-t.token
		forget()
		return nil, ctx.Err()
	}
}

func (r *Replicator) session(ctx context.Context, p peer.ID, what string, pull func(*session, context.Context) error) (Stats, error) {
	caller := ctx
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	leave, err := r.enter(ctx, p)
	if err != nil {
		return Stats{}, shared.AsError(fmt.Errorf("%s: %w", what, err))
	}
	defer leave()
	var stats Stats
	for attempt := 0; ; attempt++ {
		err = r.attempt(ctx, p, &stats, pull)
		var busy busyError
		if !errors.As(err, &busy) || attempt > 0 {
			break
		}
		timer := time.NewTimer(min(time.Duration(busy)*time.Millisecond, maxBusyPause))
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
	return stats, r.judge(caller, p, what, err)
}

// bounded limits a call by the life of the replicator.
func (r *Replicator) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.lifetime, cancel)
	return ctx, func() { stop(); cancel() }
}

func (r *Replicator) attempt(ctx context.Context, p peer.ID, stats *Stats, pull func(*session, context.Context) error) error {
	ctx, end := context.WithTimeout(ctx, streamTime) // no honest server goes on for longer
	defer end()
	opening, cancel := context.WithTimeout(network.WithNoDial(ctx, "sync with connected peers only"), r.cfg.Timeout)
	defer cancel()
	stream, err := r.host.NewStream(opening, p, r.cfg.Protocol)
	if err != nil {
		return fmt.Errorf("open a stream: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() }) // makes reading end
	s := &session{peer: p, stream: stream, view: r.view, timeout: r.cfg.Timeout, left: r.cfg.SessionBytes, stats: stats}
	err = pull(s, ctx)
	if stop() && err == nil {
		farewell(stream)
		return nil
	}
	_ = stream.Reset() // it may be gone already
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// farewellTimeout bounds how long we wait for a server to let go of a stream.
const farewellTimeout = 2 * time.Second

// farewell ends a stream and waits until the server has noticed, so that our next
// stream does not find its place taken by this one.
func farewell(stream network.Stream) {
	if stream.CloseWrite() == nil && stream.SetReadDeadline(time.Now().Add(farewellTimeout)) == nil {
		_, _ = stream.Read(make([]byte, 1)) // EOF, or whatever: it is over
	}
	_ = stream.Close() // nothing is left to say
}

// judge gives the error of a session its reason, and reports the peer if it is to
// blame.
func (r *Replicator) judge(ctx context.Context, p peer.ID, what string, err error) error {
	var typed *shared.Error
	var timeout interface{ Timeout() bool }
	var busy busyError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return shared.AsError(fmt.Errorf("%s: %w", what, ctx.Err()))
	case r.lifetime.Err() != nil:
		return shared.NewError(shared.ReasonCanceled, "%s: the node is closing", what)
	case errors.Is(err, errProtocol), errors.Is(err, shared.ReasonIntegrity):
		r.shun(p, err)
		return shared.NewError(shared.ReasonIntegrity, "%s: %w", what, err).With("peer", p.String())
	case errors.As(err, &typed):
		return fmt.Errorf("%s: %w", what, err)
	case errors.As(err, &timeout) && timeout.Timeout(), errors.As(err, &busy):
		return shared.NewError(shared.ReasonTimeout, "%s: %w", what, err)
	}
	return shared.NewError(shared.ReasonPeersFailed, "%s: %w", what, err)
}

// busyError is a refusal; it counts milliseconds.
type busyError uint32

func (busyError) Error() string { return "it is busy" }

// session is one stream on which this node asks. It belongs to one goroutine.
type session struct {
	peer    peer.ID
	stream  duplex
	view    *view
	timeout time.Duration // without a byte
	left    int64         // bytes that may still come
	stats   *Stats
	buffer  []byte
	regions int // that were in doubt
	wasted  int
}

// need is a log that the peer has more of.
type need struct {
	head  Head
	from  int64
	again bool // less is held than when it was first asked for
}

// doubt is a region in which the peer differs from us.
type doubt struct {
	at       prefix
	promised [32]byte // its fingerprint there; not known of the whole
	mine     *region
}

// pullAll reconciles the two catalogues and pulls what is missing, as soon as it is
// known. The regions that were found last are asked about first: so heads are listed
// soon, and whoever promises what it does not have is soon found out. At most
// maxRegions/maxAsked questions are full; every other one is about all doubts that
// there are, and goes a digit deeper.
func (s *session) pullAll(ctx context.Context) error {
	doubts := []doubt{{mine: s.view.now()}}
	for len(doubts) > 0 {
		rest := max(0, len(doubts)-maxAsked)
		needs, deeper, err := s.reconcile(doubts[rest:])
		if err != nil {
			return err
		}
		// Sessions with several peers at once begin in different places, so that each
		// brings something else.
		rand.Shuffle(len(deeper), func(i, j int) { deeper[i], deeper[j] = deeper[j], deeper[i] })
		rand.Shuffle(len(needs), func(i, j int) { needs[i], needs[j] = needs[j], needs[i] })
		doubts = append(doubts[:rest], deeper...)
		if s.regions += len(deeper); s.regions > maxRegions {
			return fmt.Errorf("over %d regions: %w", maxRegions, errProtocol)
		}
		if err := s.pull(ctx, needs); err != nil {
			return err
		}
	}
	return nil
}

// reconcile asks about regions that do not overlap, and finds out what the peer has
// there and we have not: as heads, or in which parts of them.
func (s *session) reconcile(doubts []doubt) (needs []need, deeper []doubt, err error) {
	kind, body, err := s.ask(doubts)
	switch {
	case err != nil:
		return nil, nil, err
	case kind == typeSame && len(body) == 0 && doubts[0].at.depth == 0:
		return nil, nil, nil
	case kind != typeDescribed:
		return nil, nil, fmt.Errorf("an answer of type %d to a question about regions: %w", kind, errProtocol)
	}
	for _, in := range doubts {
		var said description
		if said, body, err = cutDescription(body, in.at); err != nil {
			return nil, nil, err
		}
		if in.at.depth > 0 && said.sum() != in.promised {
			return nil, nil, fmt.Errorf("a region that is not as it was promised: %w", errProtocol)
		}
		if said.parts != nil {
			deeper = append(deeper, in.parts(said.parts)...)
			continue
		}
		if needs, err = s.want(needs, in, said.heads); err != nil {
			return nil, nil, err
		}
	}
	if len(body) > 0 {
		return nil, nil, fmt.Errorf("%d bytes about no region: %w", len(body), errProtocol)
	}
	return needs, deeper, nil
}

// ask sorts the doubts as they must be asked about.
func (s *session) ask(doubts []doubt) (kind byte, body []byte, err error) {
	slices.SortFunc(doubts, func(a, b doubt) int { return bytes.Compare(a.at.digits[:], b.at.digits[:]) })
	request := compareRequest(doubts[0].mine.sum())
	if doubts[0].at.depth > 0 {
		regions := make([]prefix, len(doubts))
		for i := range doubts {
			regions[i] = doubts[i].at
		}
		request = regionsRequest(regions)
	}
	if err := s.send(request); err != nil {
		return 0, nil, err
	}
	s.stats.Rounds++
	return s.receive()
}

// parts are the parts of a region in which the peer has something else.
func (d doubt) parts(theirs *[fanout][32]byte) (differ []doubt) {
	for digit, promised := range theirs {
		mine := d.mine.part(digit, d.at.depth)
		if promised != mine.sum() && promised != [32]byte{} {
			differ = append(differ, doubt{d.at.part(digit), promised, mine})
		}
	}
	return differ
}

// want adds the heads of a region that bring something new.
func (s *session) want(needs []need, in doubt, heads []byte) ([]need, error) {
	for ; len(heads) > 0; heads = heads[headLen:] {
		h, err := parseHead(heads)
		if err != nil {
			return nil, err
		}
		s.stats.Heads++
		if in.mine.holds(heads[:headLen], in.at.depth) {
			continue
		}
		if from, wanted := s.view.catalog.Wants(h); wanted {
			needs = append(needs, need{h, from, false})
		}
	}
	return needs, nil
}

// pull gets logs, several requests ahead of the answers.
func (s *session) pull(ctx context.Context, needs []need) error {
	var asked []need
	for len(needs) > 0 || len(asked) > 0 {
		var requests []byte
		for ; len(needs) > 0 && len(asked) < ahead; needs = needs[1:] {
			if _, wanted := s.view.catalog.Wants(needs[0].head); !wanted {
				continue // another session has brought it
			}
			requests = rangeRequest{rawID(needs[0].head.Publisher), needs[0].from, MaxUpdate}.append(requests)
			asked = append(asked, needs[0])
		}
		if len(requests) > 0 {
			if err := s.send(requests); err != nil {
				return err
			}
		}
		if len(asked) == 0 {
			return nil // the last ones were not wanted any more
		}
		n := asked[0]
		asked = asked[1:]
		next, _, err := s.apply(ctx)
		if err != nil {
			return err
		}
		from, wanted := s.view.catalog.Wants(n.head)
		switch {
		case !wanted:
		case from < n.from && !n.again:
			// What was held has been taken back by its publisher: from there on.
			needs = append([]need{{n.head, from, true}}, needs...)
		case from <= n.from:
			// Neither what was promised nor a part of it.
			if s.wasted++; s.wasted > maxWasted {
				return fmt.Errorf("it promises logs that it does not have: %w", errProtocol)
			}
		case next != 0:
			needs = append([]need{{n.head, from, n.again}}, needs...)
		}
	}
	return nil
}

// pullLog gets one log from one entry on, whatever its head is.
func (s *session) pullLog(ctx context.Context, publisher shared.PublisherID, from int64) error {
	for {
		if err := s.send(rangeRequest{rawID(publisher), from, MaxUpdate}.append(nil)); err != nil {
			return err
		}
		next, found, err := s.apply(ctx)
		switch {
		case err != nil:
			return err
		case !found:
			return shared.NewError(shared.ReasonNotFound, "the peer does not have entry %d", from)
		case next == 0:
			return nil
		case next <= from:
			return fmt.Errorf("a range from %d that ends at %d: %w", from, next, errProtocol)
		}
		from = next
	}
}

// apply takes the answer to a request for a range.
func (s *session) apply(ctx context.Context) (next int64, found bool, err error) {
	kind, body, err := s.receive()
	switch {
	case err != nil:
		return 0, false, err
	case kind == typeNone && len(body) == 0:
		return 0, false, nil
	case kind != typeUpdate:
		return 0, false, fmt.Errorf("an answer of type %d to a request for a range: %w", kind, errProtocol)
	}
	next, update, err := parseUpdate(body)
	if err != nil {
		return 0, false, err
	}
	if err := s.view.catalog.Apply(ctx, s.peer, update); err != nil {
		return 0, false, fmt.Errorf("apply an update: %w", err)
	}
	s.stats.Updates++
	return next, true, nil
}

func (s *session) send(frames []byte) error {
	if err := s.stream.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	_, err := s.stream.Write(frames)
	return err
}

// receive reads one answer; body is valid until the next call.
func (s *session) receive() (kind byte, body []byte, err error) {
	kind, body, err = readFrame(patient{s.stream, s.timeout, time.Now().Add(s.timeout + maxAnswerFrame*time.Second/minRate)}, &s.buffer, maxAnswerFrame)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, fmt.Errorf("wait for an answer: %w", err)
	}
	size := int64(len(body) + 5)
	s.stats.Bytes += size
	if s.left -= size; s.left < 0 {
		return 0, nil, shared.NewError(shared.ReasonLimitExceeded, "the session has received its %d bytes", s.stats.Bytes)
	}
	if kind == typeBusy {
		milliseconds, err := parseBusy(body)
		if err != nil {
			return 0, nil, err
		}
		return 0, nil, busyError(milliseconds)
	}
	return kind, body, nil
}

// patient reads from a peer that may pause for a while at a time, but must be
// done by a deadline.
type patient struct {
	stream duplex
	pause  time.Duration
	end    time.Time
}

// Read implements io.Reader.
func (p patient) Read(b []byte) (int, error) {
	deadline := time.Now().Add(p.pause)
	if deadline.After(p.end) {
		deadline = p.end
	}
	if err := p.stream.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return p.stream.Read(b)
}

// shortID is the end of a peer ID: all Ed25519 IDs begin alike.
func shortID(p peer.ID) string {
	s := p.String()
	return "…" + s[max(0, len(s)-8):]
}
