package transfer

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// The window is how many bytes a worker has asked for and not received. It must
// cover the round trip, or the link rests between answers, and should not exceed
// that by much, or a peer that turns slow holds pieces that others could fetch.
const (
	// minWindow is also where it begins: 10 Mbit/s at 800 ms. It is never less, because the first
	// answers come while the congestion window grows, which what they tell of the pace would
	// end: with half of it 10 MB take 2.48 instead of 2.37 s at 90 ms and 50 Mbit/s.
	minWindow = 4 * MaxRange
	maxWindow = 16 * MaxRange

	// maxAsked bounds the pieces of a window: small ones cost the server a read each.
	maxAsked = 64
)

const (
	// guessedPace stands for a peer's seconds a byte before anything was measured:
	// 4 Mbit/s.
	guessedPace = 2e-6

	// leastForPace is from how many bytes on an answer tells something of bandwidth:
	// what is smaller is over with the round trip.
	leastForPace = 64 << 10

	// smoothing is the weight of the newest measurement.
	smoothing = 0.3

	// lateFactor is by how much a piece must exceed the time that the peer's own
	// past predicts, before nobody counts on it any more.
	lateFactor = 3

	// copies bounds how many peers may be asked for one piece while none of them is
	// late; when all are late one more is asked.
	copies = 2

	// lookAgain is how often an idle worker looks whether another one is late.
	lookAgain = 20 * time.Millisecond

	// fastEnough is the rate above which compression costs more than it saves:
	// a processor core decodes and encodes about as much in a second.
	fastEnough = 32 << 20 // bytes a second
)

// worker is one peer at work. All fields but peer are guarded by download.mu,
// except that its own goroutine may read what only it writes.
type worker struct {
	peer      peer.ID
	asked     []asked       // oldest first
	inFlight  int           // bytes of asked
	last      time.Time     // when the last answer was complete
	pace      float64       // smoothed seconds a byte while busy, or expected; 0: not known
	roundTrip time.Duration // firstByte, or expected; 0: not known
	paced     bool          // pace was measured
	firstByte time.Duration // smallest time from a request to an idle peer to its answer; 0: not measured
	bytes     int64         // verified, and not brought by somebody else before
	busy      time.Duration // with them
}

type asked struct {
	piece   int
	request request
	at      time.Time
	idle    bool // nothing else was asked at that moment
}

// expect begins with what former downloads have shown of a peer.
func (d *download) expect(w *worker) {
	expected := d.client.cfg.Expect(w.peer)
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.firstByte == 0 {
		w.roundTrip = expected.FirstByte
	}
	if !w.paced {
		w.pace = expected.Pace
	}
}

// measure learns from the answer to the oldest request, and tells how long it took.
func (w *worker) measure(a asked, arrived, now time.Time) (took time.Duration) {
	from := a.at
	if w.last.After(from) {
		from = w.last
	}
	took = now.Sub(from)
	w.last = now
	if a.idle {
		if trip := arrived.Sub(a.at); w.firstByte == 0 || trip < w.firstByte {
			w.firstByte, w.roundTrip = trip, trip
		}
	}
	if a.request.length < leastForPace {
		return took
	}
	pace := max(took, time.Microsecond).Seconds() / float64(a.request.length)
	if !w.paced {
		w.paced, w.pace = true, pace
	} else {
		w.pace += smoothing * (pace - w.pace)
	}
	return took
}

// window is one and a half times what fits into a round trip, and a chunk.
func (w *worker) window() int {
	if w.pace == 0 {
		return minWindow
	}
	fits := 1.5 * w.roundTrip.Seconds() / w.pace
	return int(min(max(MaxRange+fits, minWindow), maxWindow))
}

// takes is how long w takes to send so many bytes.
func (w *worker) takes(bytes int) time.Duration {
	pace := w.pace
	if pace == 0 {
		pace = guessedPace
	}
	return time.Duration(float64(bytes) * pace * float64(time.Second))
}

// remaining predicts how long the piece will still take, from w's own past; late
// tells that the prediction has failed.
func (w *worker) remaining(piece int, now time.Time) (left time.Duration, late bool) {
	position := slices.IndexFunc(w.asked, func(a asked) bool { return a.piece == piece })
	if position < 0 {
		return 0, true
	}
	bytes := 0
	for _, a := range w.asked[:position+1] {
		bytes += a.request.length
	}
	from := w.asked[0].at
	if w.last.After(from) {
		from = w.last
	}
	waited := now.Sub(from)
	expected := w.takes(bytes) + w.roundTrip
	// What is overdue is likely to stay so for as long again.
	return (expected - waited).Abs(), waited > lateFactor*(w.takes(w.asked[0].request.length)+w.roundTrip)
}

// assign gives w as many pieces as its window allows, and if there is nothing
// left to give and w is idle, one that another peer is expected to bring later.
func (d *download) assign(w *worker, local bool) (batch []request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return nil
	}
	now := time.Now()
	slow := w.pace == 0 || 1/w.pace < fastEnough
	give := func(piece int) {
		r := d.request(piece)
		r.zstd = slow && !local
		w.asked = append(w.asked, asked{piece, r, now, len(w.asked) == 0})
		w.inFlight += r.length
		d.flying[piece] = append(d.flying[piece], w)
		batch = append(batch, r)
	}
	for window := w.window(); w.inFlight < window && len(w.asked) < maxAsked && len(d.queue) > 0; d.queue = d.queue[1:] {
		give(d.queue[0])
	}
	if len(w.asked) == 0 {
		if piece, ok := d.slowest(w, now); ok {
			give(piece)
		}
	}
	return batch
}

// slowest finds the piece in flight that gains most when w fetches it too.
func (d *download) slowest(w *worker, now time.Time) (piece int, ok bool) {
	var longest time.Duration
	for i, others := range d.flying {
		if slices.Contains(others, w) {
			continue
		}
		soonest, allLate := time.Duration(math.MaxInt64), true
		for _, other := range others {
			left, late := other.remaining(i, now)
			if !late {
				allLate = false
				soonest = min(soonest, left)
			}
		}
		mine := w.takes(d.pieces[i].Length) + w.roundTrip
		switch {
		case allLate && (longest < math.MaxInt64 || i < piece): // the first of them
			piece, longest, ok = i, math.MaxInt64, true
		case !allLate && len(others) < copies && soonest > mine && soonest > longest:
			piece, longest, ok = i, soonest, true
		}
	}
	return piece, ok
}

// oldest is w's next request to be answered.
func (d *download) oldest(w *worker) (asked, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(w.asked) == 0 {
		return asked{}, false
	}
	return w.asked[0], true
}

// await lets an idle worker wait until there may be something to do. It returns
// false when there never will be.
func (d *download) await(ctx context.Context) bool {
	d.mu.Lock()
	over, changed := d.left == 0 || d.broken != nil, d.changed
	d.mu.Unlock()
	if over {
		return false
	}
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-d.done:
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}

// abandon gives back what w was asked for and will not bring.
func (d *download) abandon(w *worker) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var back []int
	for _, a := range w.asked {
		others := slices.DeleteFunc(d.flying[a.piece], func(other *worker) bool { return other == w })
		switch {
		case len(others) > 0:
			d.flying[a.piece] = others
		case d.flying[a.piece] != nil:
			delete(d.flying, a.piece)
			back = append(back, a.piece)
		}
	}
	w.asked, w.inFlight = nil, 0
	if len(back) > 0 {
		d.queue = append(back, d.queue...)
		close(d.changed)
		d.changed = make(chan struct{})
	}
}

// blame reports a peer that was late when others had finished its work.
func (d *download) blame(ctx context.Context, w *worker) {
	d.mu.Lock()
	late := false
	if len(w.asked) > 0 {
		_, late = w.remaining(w.asked[0].piece, time.Now())
	}
	d.mu.Unlock()
	if late {
		d.client.cfg.Observe(ctx, Outcome{Peer: w.peer, Kind: Stalled})
	}
}
