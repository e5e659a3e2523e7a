package search

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTerm: however a word's documents are stored, and whenever that changes, they are
// those that were added and not removed.
func TestTerm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held, last := map[uint32]uint8{}, uint32(0)
		term := term{docs: []uint32{}}
		run := func(what string, do func(doc uint32)) {
			first := rapid.Uint32Range(0, 6000).Draw(t, what)
			step := rapid.Uint32Range(1, 9).Draw(t, "step")
			for n := range rapid.Uint32Range(0, 3000).Draw(t, "count") {
				do(first + n*step)
			}
		}
		for range rapid.IntRange(1, 6).Draw(t, "runs") {
			if rapid.Bool().Draw(t, "remove") {
				run("remove from", func(doc uint32) {
					if held[doc] > 0 {
						delete(held, doc)
						term.remove(doc)
					}
				})
			} else {
				run("add from", func(doc uint32) {
					if held[doc] == 0 {
						held[doc], last = uint8(doc%255+1), max(last, doc)
						term.add(doc, held[doc])
					}
				})
			}
			if term.count != len(held) {
				t.Fatalf("%d documents, want %d", term.count, len(held))
			}
			if !term.dense() && (!slices.IsSorted(term.docs) || len(term.docs) != len(held) || len(term.weights) != len(held)) {
				t.Fatalf("%d numbers, %d weights, want %d of each, ascending", len(term.docs), len(term.weights), len(held))
			}
			if term.dense() && (term.count < denseFrom/2 || len(term.weights) > int(last)+1) {
				t.Fatalf("%d documents take %d bytes", term.count, len(term.weights))
			}
			for i, weight := range term.weights {
				doc := uint32(i)
				if !term.dense() {
					doc = term.docs[i]
				}
				if held[doc] != weight {
					t.Fatalf("document %d has weight %d, want %d", doc, weight, held[doc])
				}
			}
		}
	})
}

func TestNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfDistinct(rapid.Uint32(), rapid.ID[uint32]).Draw(t, "list")
		slices.Sort(list)
		if got := slices.Collect(pack(list).all()); !slices.Equal(got, list) {
			t.Fatalf("%v became %v", list, got)
		}
	})
}
