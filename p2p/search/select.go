package search

import (
	"cmp"
	"slices"

	"ggen.dev/marketplace/shared"
)

// hit is a document that a query has found.
type hit struct {
	number uint32
	score  float32
}

// selection keeps the best hits of many: in a heap whose first is the worst of them, or,
// if that would be large, all of them.
type selection struct {
	index *Index
	order shared.SearchOrder
	most  int // hits that are wanted
	hits  []hit
	least float32 // hits of a lower score need not be offered: most of a common word are
}

// before orders hits as they are shown.
func (s *selection) before(a, b hit) int {
	switch s.order {
	case shared.SortName:
	case shared.SortNewest:
		x, y := s.index.docs[a.number].published, s.index.docs[b.number].published
		if c := y.Compare(x); c != 0 {
			return c
		}
	default:
		if a.score != b.score {
			return cmp.Compare(b.score, a.score)
		}
	}
	return s.index.compare(a.number, b.number)
}

func (s *selection) offer(h hit) {
	switch {
	case s.most > maxSelect:
		s.hits = append(s.hits, h)
	case len(s.hits) < s.most:
		s.hits = append(s.hits, h)
		s.rise(len(s.hits) - 1)
	case s.most > 0 && s.before(h, s.hits[0]) < 0:
		s.hits[0] = h
		s.sink(0)
		if s.order != shared.SortName && s.order != shared.SortNewest {
			s.least = s.hits[0].score
		}
	}
}

func (s *selection) rise(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if s.before(s.hits[parent], s.hits[i]) > 0 {
			return
		}
		s.hits[parent], s.hits[i] = s.hits[i], s.hits[parent]
		i = parent
	}
}

func (s *selection) sink(i int) {
	for {
		worst := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(s.hits); child++ {
			if s.before(s.hits[child], s.hits[worst]) > 0 {
				worst = child
			}
		}
		if worst == i {
			return
		}
		s.hits[i], s.hits[worst] = s.hits[worst], s.hits[i]
		i = worst
	}
}

// page lists the hits from offset on, the best first.
func (s *selection) page(offset int) []hit {
	slices.SortFunc(s.hits, s.before)
	return s.hits[min(offset, len(s.hits)):min(s.most, len(s.hits))]
}
