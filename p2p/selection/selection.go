// Package selection decides in which order to ask peers for content, so that it is here
// soon: whoever is expected to be done first is asked first, equals share the work, those
// that were never tried are, and nobody's whole network is asked at once.
//
// It is told what is known of each candidate and knows nothing itself but how many
// downloads each of them has now. Where candidates come from, and what they are like, is
// for others (packages routing and reputation); how many of them work on a download, and
// what becomes of a slow one, is package transfer's business.
package selection

import (
	"cmp"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// explore is the share of small downloads that begin with a peer that is not the best
	// one: lines change, and who is never asked again can never be seen to have become good.
	// Half of all downloads are small, as each package has an index: it is 5 % of all.
	explore = 0.1

	// cheap bounds small downloads in bytes: one range of a transfer, for which somebody
	// else is asked beside a stranger, and soon beside a slow peer. A slow peer that is tried
	// with more makes one of the slowest downloads of all.
	cheap = 256 << 10

	// leastConfidence is what a peer is worth at least that is tried for that reason;
	// a stranger has 0.5.
	leastConfidence = 0.3

	// untriedBonus is by how much the time shrinks that is expected of a peer that was
	// never dealt with. It wears off as 1/(1+dealings): to have tried it is worth
	// something to all later downloads.
	untriedBonus = 0.3

	// sharpness is how strictly the best goes first. A peer's odds to be put before another
	// one are the ratio of their times to this power: of two alike each is first half
	// of the time, one that is a tenth slower once in 6, one that is a quarter slower
	// once in 36. Half of it was not seen to be worse; the figures of docs/PEERS.md are with this.
	sharpness = 16

	// perBlock bounds how many peers of one block of public addresses (a /24 or /48, one
	// owner's) are among the first [places]: they share a line, or a liar.
	perBlock = 2
	places   = 8

	// What is assumed while nothing is known of anybody: the other side of the world, over
	// a slow line.
	typicalResponse = 200 * time.Millisecond
	typicalPace     = 1e-6 // seconds a byte: 1 MB/s
)

// ColdTrips is how many more round trips the first byte takes without a connection:
// QUIC's handshake, and an address that may have to be tried first.
const ColdTrips = 2

// Candidate is a peer that may have what is wanted.
type Candidate struct {
	ID         string
	Response   time.Duration  // expected time to the first byte over a connection; 0: not known
	Pace       float64        // expected seconds a byte beyond that; 0: not known
	Confidence float64        // that it keeps what it promises, 0 to 1
	Dealings   float64        // how often it was dealt with
	Holds      float64        // the chance that it has the content; 0 counts as 1
	Cold       bool           // there is no connection to it
	Rests      bool           // it has just failed: it is asked after all others
	Blocks     []netip.Prefix // of public addresses that it is in
}

// Selector orders candidates. Its methods may be called concurrently.
type Selector struct {
	mu       sync.Mutex // guards the fields below
	rand     *rand.Rand
	inFlight map[string]int
}

// New makes a selector. Its choices are random within bounds; source makes them
// repeatable and may be nil.
func New(source rand.Source) *Selector {
	if source == nil {
		source = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	return &Selector{rand: rand.New(source), inFlight: map[string]int{}}
}

// Begin counts a download from peers, until end is called, which may be done more than
// once.
func (s *Selector) Begin(peers ...string) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range peers {
		s.inFlight[id]++
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, id := range peers {
				if s.inFlight[id]--; s.inFlight[id] <= 0 {
					delete(s.inFlight, id)
				}
			}
		})
	}
}

// InFlight is how many downloads a peer has now.
func (s *Selector) InFlight(peer string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight[peer]
}

// place is a candidate on its way to a place in the order.
type place struct {
	Candidate
	expected, key float64
}

// Order puts candidates into the order in which to ask them for content of a size. No
// candidate is left out. With small content it is at times not the best who is first; the
// better somebody may be, and the less is known of it, the more often.
func (s *Selector) Order(candidates []Candidate, bytes int64) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	response, pace := typical(candidates)
	order := make([]place, len(candidates))
	for i, c := range candidates {
		if c.Response <= 0 {
			c.Response = response
		}
		if c.Pace <= 0 {
			c.Pace = pace
		}
		// Sorting by keys with noise of Gumbel's distribution draws without replacement
		// by the odds that sharpness gives.
		t := expected(c, bytes, s.inFlight[c.ID])
		order[i] = place{c, t, sharpness*math.Log(t) + math.Log(s.rand.ExpFloat64()+math.SmallestNonzeroFloat64)}
	}
	slices.SortStableFunc(order, func(a, b place) int {
		if a.Rests != b.Rests {
			if b.Rests {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.key, b.key)
	})
	if bytes <= cheap && s.rand.Float64() < explore {
		s.explore(order)
	}
	order = spread(order)
	ids := make([]string, len(order))
	for i, p := range order {
		ids[i] = p.ID
	}
	return ids
}

// expected is how long a download from one candidate is expected to take that has so many
// downloads already, in seconds:
//
//	(response + bytes·pace·(1 + in flight)) / confidence + response·(1/holds − 1)
//
// and less for a peer that was never tried. A failure costs as much again as a success; a
// peer that does not have the content says so after one round trip.
func expected(c Candidate, bytes int64, inFlight int) float64 {
	first := c.Response.Seconds()
	if c.Cold {
		first *= 1 + ColdTrips
	}
	t := (first + float64(max(bytes, 0))*c.Pace*float64(1+inFlight)) / min(max(c.Confidence, 0.01), 1)
	if c.Holds > 0 && c.Holds < 1 {
		t += first * (1/c.Holds - 1)
	}
	return max(t*(1-untriedBonus/(1+max(c.Dealings, 0))), 1e-9)
}

// typical is what those are expected to be like of whom nothing is known: as good as the
// best quarter of the others. Whoever is tried and is not better will not be again, and
// so all are tried until somebody is good.
func typical(candidates []Candidate) (response time.Duration, pace float64) {
	var responses []time.Duration
	var paces []float64
	for _, c := range candidates {
		if c.Response > 0 {
			responses = append(responses, c.Response)
		}
		if c.Pace > 0 {
			paces = append(paces, c.Pace)
		}
	}
	return quarter(responses, typicalResponse), quarter(paces, typicalPace)
}

func quarter[T cmp.Ordered](values []T, otherwise T) T {
	if len(values) == 0 {
		return otherwise
	}
	slices.Sort(values)
	return values[len(values)/4]
}

// explore puts a peer first by other odds: it neither rests nor fails, and who is expected
// in half the time has four times the odds, and so has who was never dealt with against
// who was three times.
func (s *Selector) explore(order []place) {
	total := 0.0
	odds := make([]float64, len(order))
	for i, p := range order {
		if !p.Rests && p.Confidence >= leastConfidence {
			odds[i] = 1 / (p.expected * p.expected * (1 + max(p.Dealings, 0)))
			total += odds[i]
		}
	}
	point := s.rand.Float64() * total
	for i, p := range order {
		if point -= odds[i]; point < 0 && odds[i] > 0 {
			copy(order[1:i+1], order[:i])
			order[0] = p
			return
		}
	}
}

// spread moves those back of whose block enough are among the first ones.
func spread(order []place) []place {
	taken := map[netip.Prefix]int{}
	kept := make([]place, 0, len(order))
	var back []place
	for i, p := range order {
		if len(kept) == places {
			return append(append(kept, back...), order[i:]...)
		}
		if slices.ContainsFunc(p.Blocks, func(b netip.Prefix) bool { return taken[b] >= perBlock }) {
			back = append(back, p)
			continue
		}
		for _, b := range p.Blocks {
			taken[b]++
		}
		kept = append(kept, p)
	}
	return append(kept, back...)
}
