package selection_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/selection"
)

func seeded(seed uint64) *selection.Selector { return selection.New(rand.NewPCG(seed, seed)) }

// known is a peer of so many milliseconds and bytes a second that was dealt with often.
func known(id string, response time.Duration, bandwidth float64) selection.Candidate {
	return selection.Candidate{ID: id, Response: response, Pace: 1 / bandwidth, Confidence: 0.9, Dealings: 20}
}

// firsts counts how often each candidate comes first in n orders.
func firsts(s *selection.Selector, candidates []selection.Candidate, bytes int64, n int) map[string]int {
	count := map[string]int{}
	for range n {
		count[s.Order(candidates, bytes)[0]]++
	}
	return count
}

func TestTheFastestIsFirst(t *testing.T) {
	near, broad := known("near", 10*time.Millisecond, 1e6), known("broad", 100*time.Millisecond, 1e7)
	for bytes, want := range map[int64]string{1 << 10: "near", 4 << 20: "broad"} {
		if got := firsts(seeded(1), []selection.Candidate{near, broad}, bytes, 1000); got[want] < 900 {
			t.Errorf("%d bytes: %v", bytes, got)
		}
	}
}

// TestEqualsShare: none of ten equal peers is overrun, and one that is in use less so.
func TestEqualsShare(t *testing.T) {
	var candidates []selection.Candidate
	for i := range 10 {
		candidates = append(candidates, known(fmt.Sprint(i), 50*time.Millisecond, 1e6))
	}
	s := seeded(2)
	for id, n := range firsts(s, candidates, 1<<20, 2000) {
		if n < 120 || n > 290 {
			t.Errorf("%s is first %d times of 2000", id, n)
		}
	}
	end := s.Begin("0", "0")
	if got := firsts(s, candidates, 1<<20, 2000); got["0"] > 40 {
		t.Errorf("a peer with two downloads is first %d times", got["0"])
	}
	end()
	end()
	if s.InFlight("0") != 0 {
		t.Errorf("%d downloads are left", s.InFlight("0"))
	}
}

// TestStrangersAreTried, even beside somebody good, mostly with what is small, and those
// that failed at first are not.
func TestStrangersAreTried(t *testing.T) {
	stranger := selection.Candidate{ID: "stranger", Confidence: 0.5}
	good, slow := known("good", 50*time.Millisecond, 1e7), known("slow", 50*time.Millisecond, 1e5)
	if got := firsts(seeded(3), []selection.Candidate{good, stranger}, 1<<20, 1000); got["stranger"] < 5 || got["stranger"] > 300 {
		t.Errorf("beside a good one: %v", got)
	}
	if got := firsts(seeded(3), []selection.Candidate{good, stranger}, 64<<10, 1000); got["stranger"] < 50 || got["stranger"] > 300 {
		t.Errorf("beside a good one, with what is small: %v", got)
	}
	if got := firsts(seeded(4), []selection.Candidate{slow, good, stranger}, 1<<20, 1000); got["slow"] > 30 {
		t.Errorf("a slow one: %v", got)
	}
	failing := selection.Candidate{ID: "failing", Confidence: 0.2, Dealings: 5}
	if got := firsts(seeded(5), []selection.Candidate{good, failing}, 1<<20, 1000); got["failing"] > 5 {
		t.Errorf("one that fails: %v", got)
	}
}

func TestWhoeverRestsIsLast(t *testing.T) {
	resting, slow := known("resting", time.Millisecond, 1e8), known("slow", time.Second, 1e4)
	resting.Rests = true
	if got := firsts(seeded(6), []selection.Candidate{resting, slow}, 1<<20, 1000); got["resting"] > 0 {
		t.Errorf("%v", got)
	}
	if got := seeded(7).Order([]selection.Candidate{resting}, 1<<20); !slices.Equal(got, []string{"resting"}) {
		t.Errorf("it is not even asked when nobody else is left: %v", got)
	}
}

// TestConfidenceAndChance: who is likelier to deliver goes before who is likelier not to.
func TestConfidenceAndChance(t *testing.T) {
	sure, doubtful := known("sure", 50*time.Millisecond, 1e6), known("doubtful", 50*time.Millisecond, 1e6)
	doubtful.Confidence = 0.45
	has, may := known("has", 50*time.Millisecond, 1e6), known("may", 50*time.Millisecond, 1e6)
	has.Holds, may.Holds = 1, 0.25
	if got := firsts(seeded(8), []selection.Candidate{doubtful, sure}, 1<<20, 1000); got["sure"] < 920 {
		t.Errorf("%v", got)
	}
	if got := firsts(seeded(9), []selection.Candidate{may, has}, 1<<10, 1000); got["has"] < 920 {
		t.Errorf("%v", got)
	}
}

// TestBlocks: of one block no more than two are among the first eight, and nobody is lost.
func TestBlocks(t *testing.T) {
	block := netip.MustParsePrefix("192.0.2.0/24")
	rapid.Check(t, func(t *rapid.T) {
		var candidates []selection.Candidate
		of := map[string]bool{}
		others := 0
		for i := range rapid.IntRange(0, 40).Draw(t, "count") {
			c := known(fmt.Sprint(i), time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms"))*time.Millisecond, 1e6)
			if rapid.Bool().Draw(t, "of the block") {
				c.Blocks = []netip.Prefix{block}
				of[c.ID] = true
			} else {
				others++
			}
			c.Rests = rapid.Bool().Draw(t, "rests")
			candidates = append(candidates, c)
		}
		got := seeded(rapid.Uint64().Draw(t, "seed")).Order(candidates, 1<<20)
		if len(got) != len(candidates) || len(slices.Compact(slices.Sorted(slices.Values(got)))) != len(candidates) {
			t.Fatalf("%d candidates became %v", len(candidates), got)
		}
		n := 0
		for _, id := range got[:min(len(got), 8, others+2)] {
			if of[id] {
				n++
			}
		}
		if n > 2 {
			t.Fatalf("%d of one block are among the first of %v", n, got)
		}
	})
}

// TestTheSameSeedGivesTheSameOrder, or nothing could be compared.
func TestTheSameSeedGivesTheSameOrder(t *testing.T) {
	var candidates []selection.Candidate
	for i := range 50 {
		candidates = append(candidates, known(fmt.Sprint(i), time.Duration(i)*time.Millisecond, 1e6))
	}
	a, b := seeded(10), seeded(10)
	for range 100 {
		if !slices.Equal(a.Order(candidates, 1<<20), b.Order(candidates, 1<<20)) {
			t.Fatal("two orders")
		}
	}
}

// TestBetterIsSooner: a candidate that is better in one way is expected sooner.
func TestBetterIsSooner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := selection.Candidate{
			Response: time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "response")), Pace: rapid.Float64Range(1e-9, 1e-3).Draw(t, "pace"),
			Confidence: rapid.Float64Range(0, 1).Draw(t, "confidence"), Dealings: rapid.Float64Range(0, 20).Draw(t, "dealings"),
			Holds: rapid.Float64Range(0.01, 1).Draw(t, "holds"), Cold: true,
		}
		bytes, inFlight := rapid.Int64Range(0, 50<<20).Draw(t, "bytes"), rapid.IntRange(1, 10).Draw(t, "in flight")
		here := selection.Expected(c, bytes, inFlight)
		for what, change := range map[string]func(c *selection.Candidate){
			"response": func(c *selection.Candidate) { c.Response /= 2 }, "pace": func(c *selection.Candidate) { c.Pace /= 2 },
			"confidence": func(c *selection.Candidate) { c.Confidence = (1 + c.Confidence) / 2 }, "holds": func(c *selection.Candidate) { c.Holds = (1 + c.Holds) / 2 },
			"a connection": func(c *selection.Candidate) { c.Cold = false },
		} {
			better := c
			change(&better)
			if got := selection.Expected(better, bytes, inFlight); got > here {
				t.Fatalf("a better %s makes %v of %v", what, got, here)
			}
		}
		if got := selection.Expected(c, bytes, inFlight-1); got > here {
			t.Fatalf("less to do makes %v of %v", got, here)
		}
	})
}

func BenchmarkPeerSelection(b *testing.B) {
	var candidates []selection.Candidate
	for i := range 50 {
		c := known(fmt.Sprint("12D3KooW", i), time.Duration(i)*time.Millisecond, 1e6)
		c.Blocks = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i / 2), 0}), 24)}
		candidates = append(candidates, c)
	}
	s := seeded(11)
	b.ReportAllocs()
	for b.Loop() {
		s.Order(candidates, 1<<20)
	}
}
