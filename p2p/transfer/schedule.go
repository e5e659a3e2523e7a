package transfer

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// The window is how many chunks a worker has asked for and not received. It must
// cover the round trip, or the link rests between answers, and should not exceed
// that by much, or a peer that turns slow holds chunks that others could fetch.
const (
	firstWindow = 4 // before anything is measured: 1 MiB, 10 Mbit/s at 800 ms
	minWindow   = 2 // one that is being sent, one behind it
	maxWindow   = 16
)

const (
	// guessedChunkTime stands for the time of a chunk before the first has arrived:
	// 4 Mbit/s.
	guessedChunkTime = 500 * time.Millisecond

	// smoothing is the weight of the newest measurement.
	smoothing = 0.3

	// lateFactor is by how much a chunk must exceed the time that the peer's own
	// past predicts, before nobody counts on it any more.
	lateFactor = 3

	// copies bounds how many peers may be asked for one chunk while none of them is
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
	last      time.Time     // when the last answer was complete
	perChunk  time.Duration // smoothed time between answers while busy; 0: none yet
	roundTrip time.Duration // smallest time from a request to an idle peer to its answer
	busy      time.Duration
	bytes     int64 // verified
}

type asked struct {
	chunk   int
	request request
	at      time.Time
	idle    bool // nothing else was asked at that moment
}

// measure learns from the answer to the oldest request.
func (w *worker) measure(a asked, arrived, now time.Time) {
	from := a.at
	if w.last.After(from) {
		from = w.last
	}
	took := now.Sub(from)
	w.last = now
	w.busy += took
	if a.idle {
		if trip := arrived.Sub(a.at); w.roundTrip == 0 || trip < w.roundTrip {
			w.roundTrip = trip
		}
	}
	if w.perChunk == 0 {
		w.perChunk = took
	} else {
		w.perChunk += time.Duration(smoothing * float64(took-w.perChunk))
	}
	w.perChunk = max(w.perChunk, time.Microsecond)
}

// window is one and a half times what fits into a round trip, and one.
func (w *worker) window() int {
	if w.perChunk == 0 {
		return firstWindow
	}
	fits := math.Ceil(1.5 * float64(w.roundTrip) / float64(w.perChunk))
	return int(min(max(1+fits, minWindow), maxWindow))
}

func (w *worker) chunkTime() time.Duration {
	if w.perChunk == 0 {
		return guessedChunkTime
	}
	return w.perChunk
}

// remaining predicts how long the chunk will still take, from w's own past; late
// tells that the prediction has failed.
func (w *worker) remaining(chunk int, now time.Time) (left time.Duration, late bool) {
	position := slices.IndexFunc(w.asked, func(a asked) bool { return a.chunk == chunk })
	if position < 0 {
		return 0, true
	}
	from := w.asked[0].at
	if w.last.After(from) {
		from = w.last
	}
	waited := now.Sub(from)
	expected := time.Duration(position+1)*w.chunkTime() + w.roundTrip
	return max(expected-waited, 0), waited > lateFactor*(w.chunkTime()+w.roundTrip)
}

// assign gives w as many chunks as its window allows, and if there is nothing
// left to give and w is idle, one that another peer is expected to bring later.
func (d *download) assign(w *worker, local bool) (batch []request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return nil
	}
	now := time.Now()
	slow := w.perChunk == 0 || float64(d.want.ChunkSize)/w.perChunk.Seconds() < fastEnough
	give := func(chunk int) {
		r := d.request(chunk)
		r.zstd = slow && !local
		w.asked = append(w.asked, asked{chunk, r, now, len(w.asked) == 0})
		d.flying[chunk] = append(d.flying[chunk], w)
		batch = append(batch, r)
	}
	for window := w.window(); len(w.asked) < window && len(d.queue) > 0; d.queue = d.queue[1:] {
		give(d.queue[0])
	}
	if len(w.asked) == 0 {
		if chunk, ok := d.slowest(w, now); ok {
			give(chunk)
		}
	}
	return batch
}

// slowest finds the chunk in flight that gains most when w fetches it too.
func (d *download) slowest(w *worker, now time.Time) (chunk int, ok bool) {
	mine := w.chunkTime() + w.roundTrip
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
		switch {
		case allLate && (longest < math.MaxInt64 || i < chunk): // the first of them
			chunk, longest, ok = i, math.MaxInt64, true
		case !allLate && len(others) < copies && soonest > mine && soonest > longest:
			chunk, longest, ok = i, soonest, true
		}
	}
	return chunk, ok
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
		others := slices.DeleteFunc(d.flying[a.chunk], func(other *worker) bool { return other == w })
		switch {
		case len(others) > 0:
			d.flying[a.chunk] = others
		case d.flying[a.chunk] != nil:
			delete(d.flying, a.chunk)
			back = append(back, a.chunk)
		}
	}
	w.asked = nil
	if len(back) > 0 {
		d.queue = append(back, d.queue...)
		close(d.changed)
		d.changed = make(chan struct{})
	}
}

// blame reports a peer that was late when others had finished its work.
func (d *download) blame(w *worker) {
	d.mu.Lock()
	late := false
	if len(w.asked) > 0 {
		_, late = w.remaining(w.asked[0].chunk, time.Now())
	}
	d.mu.Unlock()
	if late {
		d.client.cfg.Observe(Outcome{Peer: w.peer, Kind: Stalled})
	}
}
