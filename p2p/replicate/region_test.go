package replicate

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/shared"
)

// drawHeads makes heads whose publishers share beginnings of many lengths, as nobody
// could find them who has to hash for an ID.
func drawHeads(t *rapid.T, label string) []Head {
	begins := make([]string, rapid.IntRange(1, 4).Draw(t, label+" beginnings"))
	for i := range begins {
		begins[i] = rapid.StringMatching(`[0-9a-f]{0,20}`).Draw(t, fmt.Sprint(label, " beginning ", i))
	}
	heads := make(map[shared.PublisherID]Head)
	for i := range rapid.IntRange(0, 400).Draw(t, label+" heads") {
		begin := begins[i%len(begins)]
		id := shared.PublisherID(begin) + hashed(i)[len(begin):]
		heads[id] = Head{id, int64(i), [32]byte{byte(i)}}
	}
	list := make([]Head, 0, len(heads))
	for _, h := range heads {
		list = append(list, h)
	}
	return newShelf(list...).heads
}

// drawChange makes another catalogue out of one: some heads are missing, some are
// others, some are new.
func drawChange(t *rapid.T, heads []Head, label string) []Head {
	changed := make(map[shared.PublisherID]Head)
	for _, h := range heads {
		changed[h.Publisher] = h
	}
	if len(heads) > 0 {
		for i := range rapid.IntRange(0, 40).Draw(t, label+" changes") {
			h := rapid.SampledFrom(heads).Draw(t, fmt.Sprint(label, " change ", i))
			switch rapid.IntRange(0, 3).Draw(t, fmt.Sprint(label, " kind ", i)) {
			case 0:
				delete(changed, h.Publisher)
			case 1:
				h.Size++
				changed[h.Publisher] = h
			case 2:
				h.Hash[31]++
				changed[h.Publisher] = h
			case 3:
				h.Publisher = h.Publisher[:20] + hashed(i)[20:]
				changed[h.Publisher] = h
			}
		}
	}
	list := make([]Head, 0, len(changed))
	for _, h := range changed {
		list = append(list, h)
	}
	return newShelf(list...).heads
}

func TestReconciliationOffersExactlyWhatDiffers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		common := drawHeads(rt, "common")
		mine, theirs := newShelf(drawChange(rt, common, "mine")...), newShelf(drawChange(rt, common, "theirs")...)
		if rapid.Bool().Draw(rt, "strangers") {
			theirs = newShelf(drawHeads(rt, "strangers")...)
		}
		reconciled(t, &view{catalog: mine}, &view{catalog: theirs})
		var want []Head
		for _, h := range theirs.heads {
			if !slices.Contains(mine.heads, h) {
				want = append(want, h)
			}
		}
		slices.SortFunc(mine.offered, func(a, b Head) int { return cmp.Compare(a.Publisher, b.Publisher) })
		if !slices.Equal(mine.offered, want) {
			rt.Fatalf("%d heads were offered, %d differ", len(mine.offered), len(want))
		}
	})
}

func TestRegionsAreAsIfMadeAnew(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first := drawHeads(rt, "first")
		second := drawChange(rt, first, "second")
		old := grow(nil, sent(first), 0)
		grown, anew := grow(old, sent(second), 0), grow(nil, sent(second), 0)
		if grown.sum() != anew.sum() || grown.sum() != specified(second, 0) {
			rt.Fatal("the fingerprint depends on what was there before, or is not as specified")
		}
		if (grown.sum() == old.sum()) != slices.Equal(first, second) {
			rt.Fatal("equal fingerprints of other heads, or the other way round")
		}
		if again := grow(grown, sent(second), 0); again != grown {
			rt.Fatal("a region was made anew though nothing changed")
		}
		whole := sent(second)
		for i := 0; i < len(whole); i += headLen {
			if !grown.holds(whole[i:i+headLen], 0) {
				rt.Fatal("a head is missing")
			}
		}
	})
}

// specified is the fingerprint of docs/PROTOCOL.md, word by word.
func specified(heads []Head, depth int) [32]byte {
	switch {
	case len(heads) == 0:
		return [32]byte{}
	case len(heads) <= 32:
		return sha256.Sum256(append([]byte{0}, sent(heads)...))
	}
	b := []byte{1}
	for _, digit := range "0123456789abcdef" {
		var part []Head
		for _, h := range heads {
			if rune(h.Publisher[depth]) == digit {
				part = append(part, h)
			}
		}
		sum := specified(part, depth+1)
		b = append(b, sum[:]...)
	}
	return sha256.Sum256(b)
}

func TestFingerprintsHaveGoldenValues(t *testing.T) {
	for _, tc := range []struct {
		heads int
		want  string
	}{
		{0, zeros(32)},
		{1, "572faa1d02923127205f99426e769fc9c0e3ee90f8141b02d4da04f53c99da42"},
		{32, "3b0ec3bfeca4e63dc10e27f250f6c1b2d52968c153fd29abcb56da9b818c09f9"},
		{33, "21ef420e023904f72415468e2c588ddbfbcc86b317f8a7fff990d4503aa7a427"},
		{1000, "ebd269922a34c6842e71d36e49d420d9cdd65b926a99dea2a900baa312432fae"},
	} {
		sum := grow(nil, sent(newShelf(manyHeads(tc.heads)...).heads), 0).sum()
		if got := hex.EncodeToString(sum[:]); got != tc.want {
			t.Errorf("of %d heads: %s, want %s", tc.heads, got, tc.want)
		}
	}
}

func TestPrefixes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		digits := rapid.StringMatching(`[0-9a-f]{0,24}`).Draw(rt, "digits")
		other := digits[:rapid.IntRange(0, len(digits)).Draw(rt, "common")] + rapid.StringMatching(`[0-9a-f]{0,3}`).Draw(rt, "other")
		other = other[:min(len(other), deepest)]
		a, b := prefixOf(digits), prefixOf(other)
		if got, want := a.contains(b.digits[:]), strings.HasPrefix(other+strings.Repeat("0", 24), digits); got != want {
			rt.Errorf("%q contains %q: %v", digits, other, got)
		}
		apart := !strings.HasPrefix(other, digits) && !strings.HasPrefix(digits, other)
		if got, want := a.before(b), apart && digits < other; got != want {
			rt.Errorf("%q before %q: %v", digits, other, got)
		}
		for i := range digits {
			if got := fmt.Sprintf("%x", digitAt(a.digits[:], i)); got != digits[i:i+1] {
				rt.Errorf("digit %d of %q is %s", i, digits, got)
			}
		}
	})
}

func prefixOf(digits string) (p prefix) {
	for _, d := range digits {
		p = p.part(strings.IndexRune("0123456789abcdef", d))
	}
	return p
}

func TestMoreThanDeepestHeadsHaveABeginning(t *testing.T) {
	var heads []Head
	for i := range 40 {
		heads = append(heads, Head{hashed(0)[:deepest] + hashed(i)[deepest:], 1, [32]byte{}})
	}
	mine, theirs := newShelf(), newShelf(heads...)
	reconciled(t, &view{catalog: mine}, &view{catalog: theirs})
	if !slices.Equal(mine.offered, theirs.heads[:small]) {
		t.Errorf("%d heads were offered", len(mine.offered))
	}
}

func TestAViewIsNewEnough(t *testing.T) {
	var mu sync.Mutex
	var heads []Head
	v := &view{catalog: growing{newShelf(), func() []Head {
		mu.Lock()
		defer mu.Unlock()
		return newShelf(heads...).heads
	}}}
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			h := Head{hashed(i), 1, [32]byte{}}
			mu.Lock()
			heads = append(heads, h)
			mu.Unlock()
			if !v.now().holds(appendHead(nil, h), 0) {
				t.Error("a view is older than the question")
			}
		})
	}
	group.Wait()
}

// TestDifferencesCostLittle is the goal: less than 64 KiB for 10 differences among
// 100,000 publishers.
func TestDifferencesCostLittle(t *testing.T) {
	mine, theirs := differing(100_000, 10)
	stats, up, down := reconciled(t, &view{catalog: mine}, &view{catalog: theirs})
	if up+down > 64<<10 || len(mine.offered) != 10 {
		t.Errorf("%d + %d bytes for %d differences, %+v", up, down, len(mine.offered), stats)
	}
	if stats.Bytes != int64(down) || stats.Rounds > 5 {
		t.Errorf("%d bytes came, and %+v", down, stats)
	}
}

// differing makes catalogues of n publishers, some of which have one entry more on
// one side.
func differing(n, differences int) (mine, theirs *shelf) {
	heads := manyHeads(n)
	mine = newShelf(heads...)
	for i := range differences {
		h := &heads[i*(n/differences)]
		h.Size++
		binary.BigEndian.PutUint64(h.Hash[:], uint64(i+1))
	}
	return mine, newShelf(heads...)
}

func BenchmarkReconcile(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		for _, differences := range []int{0, 1, 10, 100, 1000, n} {
			b.Run(fmt.Sprintf("%d/%d", n, differences), func(b *testing.B) {
				mine, theirs := differing(n, max(differences, 1))
				if differences == 0 {
					theirs = mine
				}
				ours, its := &view{catalog: mine}, &view{catalog: theirs}
				ours.now()
				its.now()
				var stats Stats
				var up, down int
				for b.Loop() {
					mine.offered = nil
					stats, up, down = reconciled(b, ours, its)
				}
				if len(mine.offered) != differences {
					b.Fatalf("%d differences were found", len(mine.offered))
				}
				b.ReportMetric(float64(up), "sent-B")
				b.ReportMetric(float64(down), "received-B")
				b.ReportMetric(float64(stats.Rounds), "rounds")
				b.ReportMetric(float64(stats.Heads), "heads")
			})
		}
	}
}

// BenchmarkView is what a new stream costs before its first answer: with nothing
// changed, with one head changed, and when the node has just started.
func BenchmarkView(b *testing.B) {
	mine, theirs := differing(100_000, 1)
	for _, tc := range []struct {
		name string
		next func(v *view, i int)
	}{
		{"same", func(*view, int) {}},
		{"one", func(v *view, i int) { v.catalog = []*shelf{mine, theirs}[i%2] }},
		{"all", func(v *view, _ int) { v.whole = nil }},
	} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			v := &view{catalog: mine}
			v.now()
			for i := 0; b.Loop(); i++ {
				tc.next(v, i+1)
				v.now()
			}
		})
	}
}
