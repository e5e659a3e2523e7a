package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// lend is what a full node proves about a package.
func lend(t testing.TB, c *catalog.Catalog, id shared.PublisherID, name string) publisher.Proven {
	t.Helper()
	p, err := c.Lend(id, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func take(t testing.TB, b *catalog.Borrowed, p publisher.Proven, name string) error {
	t.Helper()
	l, err := catalog.Prove(p, name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = b.Take(l, time.Now())
	return err
}

// TestHoweverALogIsCutWhatIsBorrowedIsTheSame gives a node random parts of what a log
// says of a package, in any order, until it has had all of them.
func TestHoweverALogIsCutWhatIsBorrowedIsTheSame(t *testing.T) {
	c, key := open(t), newKey(t)
	for i := range 6 {
		publish(t, c, key, release("pack", fmt.Sprintf("1.%d.0", i), fmt.Sprint(i)))
		publish(t, c, key, release("aside", fmt.Sprintf("1.%d.0", i), fmt.Sprint(i)))
		if i%2 == 0 {
			if _, _, err := c.Declare(key, publisher.Entry{Kind: publisher.KindYank, Yank: &publisher.Yank{Name: "pack", Version: fmt.Sprintf("1.%d.0", i)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	whole := lend(t, c, key.ID(), "pack")
	if len(whole.Entries) != 9 {
		t.Fatalf("%d entries are about it", len(whole.Entries))
	}
	want := versions(c.Lookup("pack"))
	rapid.Check(t, func(r *rapid.T) {
		b := catalog.NewBorrowed()
		asked := false
		order := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8}).Draw(r, "order")
		for len(order) > 0 {
			n := rapid.IntRange(1, len(order)).Draw(r, "part")
			part := whole
			part.Entries = nil
			for _, i := range slices.Sorted(slices.Values(order[:n])) {
				part.Entries = append(part.Entries, whole.Entries[i])
			}
			name := rapid.SampledFrom([]string{"pack", ""}).Draw(r, "question")
			asked = asked || name != "" && len(part.Entries) > 0
			if err := take(t, b, part, name); err != nil {
				r.Fatal(err)
			}
			order = order[n:]
		}
		found, fresh := b.Lookup("pack", time.Now())
		if got := versions(found); got != want || fresh != asked {
			r.Fatalf("%s (fresh: %v), want %s", got, fresh, want)
		}
	})
}

func versions(packages []catalog.Package) (s string) {
	for _, pkg := range packages {
		for _, rel := range pkg.Releases {
			s += fmt.Sprintf("%s %v; ", rel.Version, rel.Yanked)
		}
	}
	return s
}

func TestALaterAnswerTakesNothingAway(t *testing.T) {
	c, key := open(t), newKey(t)
	publish(t, c, key, release("pack", "1.0.0", "a"))
	publish(t, c, key, release("pack", "1.1.0", "b"))
	whole := lend(t, c, key.ID(), "pack")
	less := whole
	less.Entries = whole.Entries[:1]
	b := catalog.NewBorrowed()
	for _, p := range []publisher.Proven{whole, less} {
		if err := take(t, b, p, "pack"); err != nil {
			t.Fatal(err)
		}
	}
	if found, _ := b.Lookup("pack", time.Now()); versions(found) != versions(c.Lookup("pack")) {
		t.Errorf("it has %s", versions(found))
	}
}

func TestAnswersThatContradictEachOtherAreForgotten(t *testing.T) {
	key := newKey(t)
	one := open(t)
	publish(t, one, key, release("pack", "1.0.0", "a"))
	stolen, err := publisher.NewKeyring(key.Keys()[0]) // which does not know what was signed
	if err != nil {
		t.Fatal(err)
	}
	two := open(t)
	publish(t, two, stolen, release("pack", "1.0.0", "b"))
	publish(t, two, stolen, release("pack", "1.1.0", "c"))
	b := catalog.NewBorrowed()
	if err := take(t, b, lend(t, one, key.ID(), "pack"), "pack"); err != nil {
		t.Fatal(err)
	}
	if err := take(t, b, lend(t, two, key.ID(), "pack"), "pack"); !errors.Is(err, catalog.ErrForked) {
		t.Fatalf("two logs: %v", err)
	}
	if found, _ := b.Lookup("pack", time.Now()); len(found) != 0 {
		t.Errorf("it keeps %s", versions(found))
	}
}

func TestEntriesAboutAnotherPackageAreRefused(t *testing.T) {
	c, key := open(t), newKey(t)
	publish(t, c, key, release("pack", "1.0.0", "a"))
	if _, err := catalog.Prove(lend(t, c, key.ID(), "pack"), "other", time.Now()); !errors.Is(err, publisher.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsBorrowedIsBounded(t *testing.T) {
	c, key := open(t), newKey(t)
	b := catalog.NewBorrowed()
	for i := range catalog.MaxBorrowed + 10 {
		name := fmt.Sprintf("pack-%d", i)
		publish(t, c, key, release(name, "1.0.0", "a"))
		if err := take(t, b, lend(t, c, key.ID(), name), name); err != nil {
			t.Fatal(err)
		}
	}
	if b.Size() != catalog.MaxBorrowed {
		t.Errorf("%d packages", b.Size())
	}
	if found, _ := b.Lookup("pack-0", time.Now()); len(found) != 0 {
		t.Error("the oldest one is still there")
	}
}
