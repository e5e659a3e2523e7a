// Package reputation remembers what dealing with each peer was like: first-hand,
// bounded and decaying. It turns outcomes into one figure between 0 and 1 and
// into an order in which to ask peers. It passes nothing on: what others say of a
// peer does not count, so nobody can be talked down.
//
// It knows peers as strings; who they are and how to reach them is for others.
package reputation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// MaxPeers bounds the book; the peer that was heard of longest ago gives way.
	// A peer costs about 300 bytes.
	MaxPeers = 10_000

	// halfLife is how fast the past fades: a failure of yesterday counts half.
	halfLife = 24 * time.Hour

	// smoothing is the weight of the newest measurement in the moving averages;
	// with 0.3 nine tenths of a figure come from the last seven measurements.
	smoothing = 0.3

	// BanWrongContent is for how long a peer that sent wrong bytes is not asked.
	BanWrongContent = time.Hour

	// BanMalformed is the same for one that broke a protocol.
	BanMalformed = 30 * time.Minute
)

// Outcome is what one dealing with a peer was like.
type Outcome int

// The outcomes. Absent (it does not have what was asked for) is no failure.
const (
	Success Outcome = iota
	Failure
	Absent
	WrongContent
	Malformed
)

// Record is what is known of a peer.
type Record struct {
	Successes    float64       `json:"s"` // decayed counts
	Failures     float64       `json:"f"`
	Retrieved    int64         `json:"retrieved"` // plain counts, for people
	Failed       int64         `json:"failed"`
	Response     time.Duration `json:"response"`  // moving average
	Bandwidth    float64       `json:"bandwidth"` // bytes a second, moving average
	LastSeen     time.Time     `json:"last_seen"`
	BannedUntil  time.Time     `json:"banned_until,omitzero"`
	countedSince time.Time
}

// Book holds the records. It is safe for concurrent use.
type Book struct {
	now func() time.Time

	mu    sync.Mutex // guards peers
	peers map[string]*Record
}

// New makes an empty book.
func New() *Book { return &Book{now: time.Now, peers: map[string]*Record{}} }

// Seen notes that a peer is there.
func (k *Book) Seen(peer string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.record(peer).LastSeen = k.now()
}

// Observe notes an outcome: how many verified bytes came in which time, and how
// long the first of them took. Zeros mean that nothing was measured.
func (k *Book) Observe(peer string, outcome Outcome, bytes int64, took, firstByte time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.record(peer)
	now := k.now()
	r.decay(now)
	r.LastSeen = now
	switch outcome {
	case Success:
		r.Successes++
		r.Retrieved++
		if firstByte > 0 {
			r.Response = time.Duration(average(float64(r.Response), float64(firstByte)))
		}
		if took > 0 && bytes > 0 {
			r.Bandwidth = average(r.Bandwidth, float64(bytes)/took.Seconds())
		}
	case Failure:
		r.Failures++
		r.Failed++
	case WrongContent:
		r.Failures++
		r.Failed++
		r.BannedUntil = now.Add(BanWrongContent)
	case Malformed:
		r.Failures++
		r.Failed++
		r.BannedUntil = now.Add(BanMalformed)
	case Absent:
	}
}

func average(old, value float64) float64 {
	if old == 0 {
		return value
	}
	return old + smoothing*(value-old)
}

// decay halves the counts for every half-life since they were last touched.
func (r *Record) decay(now time.Time) {
	if age := now.Sub(r.countedSince); !r.countedSince.IsZero() && age > 0 {
		factor := math.Exp2(-float64(age) / float64(halfLife))
		r.Successes *= factor
		r.Failures *= factor
	}
	r.countedSince = now
}

func (k *Book) record(peer string) *Record {
	if r, ok := k.peers[peer]; ok {
		return r
	}
	if len(k.peers) >= MaxPeers {
		oldest, found := "", false
		for id, r := range k.peers {
			if r.BannedUntil.Before(k.now()) && (!found || r.LastSeen.Before(k.peers[oldest].LastSeen)) {
				oldest, found = id, true
			}
		}
		if found {
			delete(k.peers, oldest)
		}
	}
	r := &Record{countedSince: k.now()}
	k.peers[peer] = r
	return r
}

// Get tells what is known of a peer.
func (k *Book) Get(peer string) (Record, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.peers[peer]
	if !ok {
		return Record{}, false
	}
	r.decay(k.now())
	return *r, true
}

// Banned tells whether a peer is not to be asked now.
func (k *Book) Banned(peer string) bool {
	r, _ := k.Get(peer)
	return r.BannedUntil.After(k.now())
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

// The weights of the score's parts, which sum to 1. Whether a peer delivers what
// it promised matters most; how fast it answers and sends matters where two
// deliver alike.
const (
	weightSuccess   = 0.6
	weightResponse  = 0.2
	weightBandwidth = 0.2
)

// Score is the peer's reputation, 0 to 1; a stranger has 0.5, a banned peer 0.
//
//	score = 0.6·success + 0.2·response + 0.2·bandwidth
//	success   = (s+1)/(s+f+2), the mean of the Beta distribution with decayed counts
//	response  = 1/(1 + t/200 ms)   (0.5 while nothing is measured)
//	bandwidth = r/(r + 1 MB/s)     (0.5 while nothing is measured)
func (k *Book) Score(peer string) float64 {
	r, known := k.Get(peer)
	if !known {
		return 0.5
	}
	if r.BannedUntil.After(k.now()) {
		return 0
	}
	success := (r.Successes + 1) / (r.Successes + r.Failures + 2)
	response, bandwidth := 0.5, 0.5
	if r.Response > 0 {
		response = 1 / (1 + float64(r.Response)/float64(200*time.Millisecond))
	}
	if r.Bandwidth > 0 {
		bandwidth = r.Bandwidth / (r.Bandwidth + 1e6)
	}
	return weightSuccess*success + weightResponse*response + weightBandwidth*bandwidth
}

// Rank orders peers by score, the best first, and leaves out banned ones.
func (k *Book) Rank(peers []string) []string {
	scores := make(map[string]float64, len(peers))
	var ranked []string
	for _, id := range peers {
		if k.Banned(id) {
			continue
		}
		scores[id] = k.Score(id)
		ranked = append(ranked, id)
	}
	slices.SortStableFunc(ranked, func(a, b string) int { return cmp.Compare(scores[b], scores[a]) })
	return ranked
}

// Snapshot gives the book's content for keeping.
func (k *Book) Snapshot() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.peers {
		r.decay(k.now())
	}
	return json.Marshal(k.peers)
}

// Restore replaces the book's content by a snapshot. Values that make no sense
// are dropped.
func (k *Book) Restore(snapshot []byte) error {
	var peers map[string]*Record
	if err := json.Unmarshal(snapshot, &peers); err != nil {
		return fmt.Errorf("reputation: %w", err)
	}
	now := k.now()
	for id, r := range peers {
		if r == nil || !sane(r.Successes) || !sane(r.Failures) || !sane(r.Bandwidth) || r.Response < 0 || r.LastSeen.After(now.Add(time.Hour)) || len(id) > 128 {
			delete(peers, id)
			continue
		}
		r.countedSince = r.LastSeen
	}
	if peers == nil || len(peers) > MaxPeers {
		peers = map[string]*Record{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.peers = peers
	return nil
}

func sane(v float64) bool { return v >= 0 && !math.IsInf(v, 0) && !math.IsNaN(v) }
