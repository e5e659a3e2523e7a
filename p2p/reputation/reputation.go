// Package reputation remembers what dealing with each peer was like: first-hand,
// bounded, decaying, and kept over restarts. It turns outcomes into one figure between 0
// and 1 with its parts ([Book.Score]), into what to expect of a peer next
// ([Book.Expect]), and into bans of those that lied. It passes nothing on: what others
// say of a peer does not count, so nobody can be talked down.
//
// It knows peers as strings; who they are, how to reach them and how to keep banned ones
// out is for others. In which order to ask peers is package selection's business.
package reputation

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// MaxPeers bounds the book. A peer costs about 500 bytes in memory and on disk, so
	// a full book has about 5 MB.
	MaxPeers = 10_000

	// makeRoom is how many peers give way when the book is full. Choosing them takes a
	// look at all, which a hundredth at a time makes cheap even when strangers come by
	// the thousand.
	makeRoom = MaxPeers / 100

	// maxBanned bounds those that are kept because they are banned: identities cost
	// nothing, and liars by the thousand must not push out everybody else.
	maxBanned = MaxPeers / 2

	// maxPeerID bounds the name of a peer in bytes; real ones have about 50.
	maxPeerID = 128
)

const (
	// halfLife is how fast the past fades: a failure of yesterday counts half.
	halfLife = 24 * time.Hour

	// evidence bounds successes and failures together: what a peer did in its last 20
	// dealings is what it is like. Without a bound a thousand good answers would
	// outweigh a hundred bad ones.
	evidence = 20

	// The weight of the newest measurement in the moving averages. With 0.3 nine tenths of
	// a figure come from the last seven measurements; one that is worse counts double: to
	// take a peer for faster than it is makes somebody wait, and to take it for slower
	// only lets somebody else go first.
	smoothing, smoothingWorse = 0.3, 0.6

	// leastForPace is from how many bytes on a delivery tells something of bandwidth:
	// what is smaller is over with the round trip.
	leastForPace = 64 << 10

	// leastTime is the shortest time that a delivery is held to have taken beyond its
	// round trip: what was already under way arrives in no time at all.
	leastTime = time.Millisecond
)

const (
	// firstRest is for how long a peer that has failed is asked only if nobody else is
	// left; each further failure in a row doubles it, up to longestRest. A peer that
	// restarts is back after half a minute; one that is gone costs five attempts in
	// the first quarter of an hour, and six an hour then.
	firstRest   = 30 * time.Second
	longestRest = 10 * time.Minute
)

// Record is what is known of a peer. Times that are zero mean never.
type Record struct {
	Successes float64 `json:"s"` // faded counts, as of Counted
	Failures  float64 `json:"f"`

	Counts   Counts        `json:"counts"`          // plain ones, for people
	Bytes    int64         `json:"bytes,omitempty"` // verified content that it has sent
	Response time.Duration `json:"response"`        // moving average of the time to the first byte; 0: not measured
	Pace     float64       `json:"pace"`            // moving average of seconds a byte beyond that; 0: not measured
	Streak   int           `json:"streak,omitempty"`

	FirstSeen   time.Time `json:"first_seen,omitzero"`
	LastSeen    time.Time `json:"last_seen,omitzero"`
	Counted     time.Time `json:"counted,omitzero"`      // when the last outcome was noted
	Measured    time.Time `json:"measured,omitzero"`     // when a time was last measured
	LastSuccess time.Time `json:"last_success,omitzero"` // …it delivered
	LastFailure time.Time `json:"last_failure,omitzero"` // …it failed, and how:
	FailedBy    Outcome   `json:"failed_by,omitempty"`

	BannedUntil time.Time `json:"banned_until,omitzero"`
	BannedFor   Outcome   `json:"banned_for,omitempty"`

	Place Place `json:"place,omitzero"` // what it says of itself
}

// Bandwidth is the moving average in bytes a second, 0 while nothing was measured. Times
// are averaged and not rates: how long the next delivery takes is what matters, and one
// slow delivery among ten fast ones says more about that than its rate does.
func (r Record) Bandwidth() float64 {
	if r.Pace <= 0 {
		return 0
	}
	return 1 / r.Pace
}

// Failed counts the dealings that failed.
func (r Record) Failed() (n int64) {
	for o, count := range r.Counts {
		if Outcome(o).blame() > 0 {
			n += count
		}
	}
	return n
}

// RestsUntil is until when the peer should only be asked if nobody else is left, because
// it has failed; the zero time if it may be asked.
func (r Record) RestsUntil() time.Time {
	if r.Streak == 0 {
		return time.Time{}
	}
	rest := longestRest
	if doubled := r.Streak - 1; doubled < 10 {
		rest = min(firstRest<<doubled, longestRest)
	}
	return r.LastFailure.Add(rest)
}

// Book holds the records. It is safe for concurrent use.
type Book struct {
	db  DB // nil: it is kept in memory alone
	now func() time.Time

	writing sync.Mutex // held while changes are written

	mu    sync.Mutex // guards the fields below; not held during I/O
	peers map[string]*Record
	dirty map[string]bool // changed since they were written; nil records are gone
	here  Place
}

// New makes an empty book that is kept in memory alone.
func New() *Book { return &Book{now: time.Now, peers: map[string]*Record{}, dirty: map[string]bool{}} }

// Seen notes that a peer is there.
func (k *Book) Seen(peer string) {
	k.change(peer, func(r *Record, now time.Time) { r.LastSeen = now })
}

// Observe notes an outcome: how many verified bytes came in which time, and how
// long the first of them took. Zeros mean that nothing was measured. It tells whether
// the peer is banned for it.
func (k *Book) Observe(peer string, outcome Outcome, bytes int64, took, firstByte time.Duration) (banned bool) {
	if !outcome.known() {
		return false
	}
	k.change(peer, func(r *Record, now time.Time) {
		r.fade(now)
		r.LastSeen = now
		r.Counts[outcome]++
		switch blame := outcome.blame(); {
		case outcome == Success:
			// Who has delivered something and then failed has failed: transfers say both.
			if took <= 0 || r.LastFailure.Before(now.Add(-took)) {
				r.credit(now)
			}
			r.Bytes += max(bytes, 0)
			r.measure(now, bytes, took, firstByte)
		case blame > 0:
			r.blame(now, outcome, blame)
		}
		if term := outcome.Ban(); term > 0 {
			banned = true
			if until := now.Add(term); until.After(r.BannedUntil) {
				r.BannedUntil, r.BannedFor = until, outcome
			}
		}
	})
	return banned
}

// Outrun notes that a peer was asked first for so many bytes, and that after elapsed
// others had brought them: it is no faster than that. This is all that is ever learnt of
// a peer that is so slow that nobody waits for it. It does nothing when the peer is known
// to be slower, or has told something of itself since the beginning of that time.
func (k *Book) Outrun(peer string, bytes int64, elapsed time.Duration) {
	k.change(peer, func(r *Record, now time.Time) {
		if elapsed <= 0 || r.Counted.After(now.Add(-elapsed)) {
			return
		}
		if bytes < leastForPace {
			if elapsed > r.Response {
				r.Measured, r.Response = now, smoothed(r.Response, elapsed)
			}
			return
		}
		if pace := elapsed.Seconds() / float64(bytes); pace > r.Pace {
			r.Measured, r.Pace = now, smoothed(r.Pace, pace)
		}
	})
}

// change applies a change to the record of a peer, which is made if there is none.
func (k *Book) change(peer string, apply func(r *Record, now time.Time)) {
	if peer == "" || len(peer) > maxPeerID {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	r := k.peers[peer]
	if r == nil {
		if len(k.peers) >= MaxPeers {
			k.evict(now)
		}
		r = &Record{FirstSeen: now, LastSeen: now}
		k.peers[peer] = r
	}
	apply(r, now)
	k.dirty[peer] = true
}

// fade halves the counts for every half-life since they were last touched.
func (r *Record) fade(now time.Time) {
	if age := now.Sub(r.Counted); age > 0 {
		factor := math.Exp2(-float64(age) / float64(halfLife))
		r.Successes *= factor
		r.Failures *= factor
	}
	r.Counted = now
}

// credit counts a success.
func (r *Record) credit(now time.Time) {
	r.Successes++
	r.limit()
	r.Streak, r.LastSuccess = 0, now
}

// blame counts a failure, which also halves what the past is worth: whoever begins to
// fail falls within three failures, however good it was.
func (r *Record) blame(now time.Time, outcome Outcome, weight float64) {
	r.Successes /= 2
	r.Failures += weight
	r.limit()
	r.Streak = min(r.Streak+1, 1<<10)
	r.LastFailure, r.FailedBy = now, outcome
}

func (r *Record) limit() {
	if sum := r.Successes + r.Failures; sum > evidence {
		r.Successes *= evidence / sum
		r.Failures *= evidence / sum
	}
}

// measure learns from the times of a delivery.
func (r *Record) measure(now time.Time, bytes int64, took, firstByte time.Duration) {
	if firstByte > 0 {
		r.Measured, r.Response = now, smoothed(r.Response, firstByte)
	}
	if took > 0 && bytes >= leastForPace {
		r.Measured, r.Pace = now, smoothed(r.Pace, max(took-max(firstByte, 0), leastTime).Seconds()/float64(bytes))
	}
}

// smoothed is a moving average, of which less is better, after one more measurement; 0 stands for none before.
func smoothed[T time.Duration | float64](old, value T) T {
	if old == 0 {
		return value
	}
	if value > old {
		return old + T(smoothingWorse*float64(value-old))
	}
	return old + T(smoothing*float64(value-old))
}

// evict makes room: those go of whom least is known, and of these whoever was seen
// longest ago. Bans outlive that, unless there are too many.
func (k *Book) evict(now time.Time) {
	type leaving struct {
		id     string
		worth  float64
		seen   time.Time
		banned time.Time
	}
	var free, banned []leaving
	for id, r := range k.peers {
		if r.BannedUntil.After(now) {
			banned = append(banned, leaving{id: id, banned: r.BannedUntil})
			continue
		}
		worth := r.Successes + r.Failures
		if age := now.Sub(r.Counted); age > 0 {
			worth *= math.Exp2(-float64(age) / float64(halfLife))
		}
		// To the tenth: between those of whom nothing is left, the last one seen counts.
		free = append(free, leaving{id: id, worth: math.Round(worth * 10), seen: r.LastSeen})
	}
	slices.SortFunc(free, func(a, b leaving) int { return cmp.Or(cmp.Compare(a.worth, b.worth), a.seen.Compare(b.seen)) })
	if len(banned) > maxBanned {
		slices.SortFunc(banned, func(a, b leaving) int { return a.banned.Compare(b.banned) })
		free = banned
	}
	for _, l := range free[:min(len(free), makeRoom)] {
		delete(k.peers, l.id)
		k.dirty[l.id] = true
	}
}

// Get tells what is known of a peer, its counts faded up to now.
func (k *Book) Get(peer string) (Record, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.peers[peer]
	if !ok {
		return Record{}, false
	}
	faded := *r
	faded.fade(k.now())
	faded.Counted = r.Counted
	return faded, true
}

// Banned tells whether a peer is not to be dealt with now.
func (k *Book) Banned(peer string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.peers[peer]
	return r != nil && r.BannedUntil.After(k.now())
}

// Peers lists everybody in the book, in no order.
func (k *Book) Peers() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	peers := make([]string, 0, len(k.peers))
	for id := range k.peers {
		peers = append(peers, id)
	}
	return peers
}

// Rank orders peers by score, the best first, and leaves out banned ones.
func (k *Book) Rank(peers []string) []string {
	scores := make(map[string]float64, len(peers))
	var ranked []string
	for _, id := range peers {
		if k.Banned(id) {
			continue
		}
		scores[id] = k.Score(id).Total
		ranked = append(ranked, id)
	}
	slices.SortStableFunc(ranked, func(a, b string) int { return cmp.Compare(scores[b], scores[a]) })
	return ranked
}
