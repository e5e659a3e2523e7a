package scenario

import (
	"fmt"
	"math/rand/v2"
	"time"

	"ggen.dev/marketplace/p2p/reputation"
	"ggen.dev/marketplace/p2p/selection"
)

// book is a peer's memory of others, with twenty dealings each.
func (r *Run) book() (book *reputation.Book, ids []string) {
	const dealings = 20
	random := r.random()
	book = reputation.New()
	for i := range r.Scenario.Peers {
		id := fmt.Sprintf("12D3KooW%044d", i)
		ids = append(ids, id)
		for range dealings {
			outcome := reputation.Success
			if random.IntN(10) == 0 {
				outcome = reputation.Stalled
			}
			first := r.Links.Delay(0, i+1) * 2
			book.Observe(id, outcome, 256<<10, first+time.Duration(random.IntN(100))*time.Millisecond, first)
		}
	}
	return book, ids
}

// reputationScore measures one peer's figure with its parts.
func reputationScore(r *Run) {
	book, ids := r.book()
	for i := 0; r.Loop(); i++ {
		book.Score(ids[i%len(ids)])
	}
}

// peerSelection measures in which order all peers would be asked for a small package: what
// the past says of each, and the choice.
func peerSelection(r *Run) {
	book, ids := r.book()
	selector := selection.New(rand.NewPCG(r.Seed, 2))
	candidates := make([]selection.Candidate, len(ids))
	for r.Loop() {
		for i, id := range ids {
			e := book.Expect(id)
			candidates[i] = selection.Candidate{ID: id, Response: e.Response, Pace: e.Pace, Confidence: e.Confidence, Dealings: e.Dealings, Rests: e.Rests}
		}
		if len(selector.Order(candidates, 30<<10)) == 0 {
			r.Fatal("nobody is chosen")
		}
	}
}
