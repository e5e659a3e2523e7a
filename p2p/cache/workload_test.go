package cache_test

import (
	"container/heap"
	"container/list"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"ggen.dev/marketplace/p2p/cache"
)

// popularity draws packages by Zipf's law: the nth most wanted is wanted 1/n^s as often as
// the first. (rand.Zipf wants s > 1.)
type popularity struct{ upTo []float64 }

func zipf(packages int, s float64) popularity {
	upTo := make([]float64, packages)
	sum := 0.0
	for i := range upTo {
		sum += 1 / math.Pow(float64(i+1), s)
		upTo[i] = sum
	}
	return popularity{upTo}
}

func (p popularity) draw(r *rand.Rand) int {
	x := r.Float64() * p.upTo[len(p.upTo)-1]
	low, high := 0, len(p.upTo)-1
	for low < high {
		if mid := (low + high) / 2; p.upTo[mid] < x {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// request is that somebody wants something, some time after the one before.
type request struct {
	key   int
	after time.Duration
}

// trace is two weeks of a team's installs: a popularity by Zipf's law that drifts as new
// packages come up, a package that is wanted brings what it depends on, and there are days
// and nights. It is made up, after what is known of package registries; no log of a real
// one was at hand.
func trace(r *rand.Rand, packages, requests int) (all []request) {
	p := zipf(packages, 0.9)
	needs := make([][]int, packages)
	for i := range needs {
		for range r.IntN(5) {
			needs[i] = append(needs[i], p.draw(r)) // popular ones are also needed by many
		}
	}
	newest := map[int]int{} // that took the place of another one
	mean := 14 * 24 * time.Hour / time.Duration(requests/3)
	now := time.Duration(0)
	for len(all) < requests {
		hour := int(now.Hours()) % 24
		busy := 0.2
		if hour >= 9 && hour < 18 {
			busy = 2
		}
		pause := time.Duration(r.ExpFloat64() / busy * float64(mean))
		now += pause
		if r.IntN(500) == 0 { // a new release of something is what everybody wants from now on
			newest[p.draw(r)] = packages + len(newest)
		}
		wanted := p.draw(r)
		for i, key := range append([]int{wanted}, needs[wanted]...) {
			if n, ok := newest[key]; ok {
				key = n
			}
			all = append(all, request{key, pause})
			if i == 0 {
				pause = 0
			}
		}
	}
	return all[:requests]
}

// shelf is a disk of so many bytes that drops what was wanted least lately, as the store
// does. Packages have 5 KB to 5 MB, most of them little.
type shelf struct {
	room, used int64
	byAge      *list.List // the newest first
	at         map[string]*list.Element
}

type book struct {
	key   string
	data  []byte
	bytes int64
}

func newShelf(room int64) *shelf {
	return &shelf{room: room, byAge: list.New(), at: map[string]*list.Element{}}
}

func bytesOf(key string) int64 {
	var n uint64
	_, _ = fmt.Sscanf(key, "p%d.", &n)
	r := rand.New(rand.NewPCG(n, 1))
	return int64(math.Min(5e6, math.Max(5e3, math.Exp(r.NormFloat64()*1.3+11)))) // median 60 KB, mean 140 KB
}

func (s *shelf) Read(key string) ([]byte, time.Time, bool) {
	e, ok := s.at[key]
	if !ok {
		return nil, time.Time{}, false
	}
	s.byAge.MoveToFront(e)
	return e.Value.(book).data, time.Now(), true
}

func (s *shelf) Write(key string, data []byte) {
	s.Drop(key)
	b := book{key, data, bytesOf(key)}
	s.at[key] = s.byAge.PushFront(b)
	for s.used += b.bytes; s.used > s.room; {
		s.Drop(s.byAge.Back().Value.(book).key)
	}
}

func (s *shelf) Drop(key string) {
	if e, ok := s.at[key]; ok {
		s.used -= e.Value.(book).bytes
		s.byAge.Remove(e)
		delete(s.at, key)
	}
}

// use is the next time that a key is wanted.
type use struct{ key, next int }

type farthest []use

func (f farthest) Len() int           { return len(f) }
func (f farthest) Less(i, j int) bool { return f[i].next > f[j].next }
func (f farthest) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *farthest) Push(x any)        { *f = append(*f, x.(use)) }
func (f *farthest) Pop() any          { last := (*f)[len(*f)-1]; *f = (*f)[:len(*f)-1]; return last }

// belady is the best hit rate that so many entries can have, by whoever knows the future:
// what is dropped is wanted again the latest (Belady, 1966).
func belady(all []request, entries int) float64 {
	next := make([]int, len(all))
	seen := map[int]int{}
	for i := len(all) - 1; i >= 0; i-- {
		next[i] = math.MaxInt
		if n, ok := seen[all[i].key]; ok {
			next[i] = n
		}
		seen[all[i].key] = i
	}
	held := map[int]int{} // its next use
	order := &farthest{}
	hits := 0
	for i, r := range all {
		_, here := held[r.key]
		if here {
			hits++
		} else if len(held) >= entries {
			for {
				last := heap.Pop(order).(use)
				if n, ok := held[last.key]; ok && n == last.next { // or it is an older note
					if n > next[i] {
						delete(held, last.key)
					} else {
						heap.Push(order, last) // what comes is wanted later than all that is here
					}
					break
				}
			}
			if len(held) >= entries {
				continue
			}
		}
		held[r.key] = next[i]
		heap.Push(order, use{r.key, next[i]})
	}
	return float64(hits) / float64(len(all))
}

// hitRates runs a workload through the tiers as they are by default, in virtual time.
func hitRates(t *testing.T, all []request, room int64) (hot, memory, total float64) {
	synctest.Test(t, func(t *testing.T) {
		c := words(t, cache.Config[string]{Cold: newShelf(room)})
		found := map[cache.Tier]int{}
		for _, r := range all {
			pass(r.after)
			key := fmt.Sprintf("p%d.", r.key)
			_, at, err := c.Get(t.Context(), key, func(context.Context) (string, error) { return key, nil })
			if err != nil {
				t.Fatal(err)
			}
			found[at]++
		}
		share := func(n int) float64 { return float64(n) / float64(len(all)) }
		hot = share(found[cache.Hot])
		memory = hot + share(found[cache.Warm])
		total = memory + share(found[cache.Cold])
	})
	return hot, memory, total
}

// TestHitRates tells how often the tiers of the default sizes have what is wanted, beside
// what the best possible choice of what to keep would reach; docs/benchmarks/cache.md.
func TestHitRates(t *testing.T) {
	const packages, requests = 10_000, 100_000
	r := rand.New(rand.NewPCG(1, 2))
	p := zipf(packages, 1)
	plain := make([]request, requests)
	for i := range plain {
		plain[i] = request{p.draw(r), 0}
	}
	weeks := trace(rand.New(rand.NewPCG(3, 4)), packages, requests)
	for _, w := range []struct {
		name string
		all  []request
		room int64
	}{
		{"Zipf(1.0)", plain, 2 << 30},
		{"Zipf(1.0), 512 MiB", plain, 512 << 20},
		{"two weeks of a team", weeks, 2 << 30},
		{"two weeks, 512 MiB", weeks, 512 << 20},
	} {
		if w.room < 2<<30 && os.Getenv("GGEN_TEST_FIGURES") == "" {
			continue // for the report
		}
		hot, memory, total := hitRates(t, w.all, w.room)
		bestHot, bestMemory, best := belady(w.all, cache.DefaultHotEntries), belady(w.all, cache.DefaultWarmEntries), belady(w.all, math.MaxInt)
		t.Logf("%-24s hot %.1f %% (best %.1f), hot and warm %.1f %% (best %.1f), all %.1f %% (best with a disk without end %.1f)",
			w.name, 100*hot, 100*bestHot, 100*memory, 100*bestMemory, 100*total, 100*best)
		if hot > bestHot || total > best+1e-9 {
			t.Errorf("%s: better than possible", w.name)
		}
		if memory < 0.8*bestMemory || total < 0.85 {
			t.Errorf("%s: the tiers keep the wrong things", w.name)
		}
	}
}
