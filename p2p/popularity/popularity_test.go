package popularity_test

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/popularity"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass lets the virtual time of a bubble pass.
func pass(d time.Duration) { <-time.After(d) }

func database(t testing.TB) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func openBook(t testing.TB, db popularity.DB) *popularity.Book {
	t.Helper()
	b, err := popularity.Open(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func named(name string) popularity.Package {
	return popularity.Package{Name: name, Publisher: shared.PublisherID(strings.Repeat("a", 64))}
}

// holders makes n peers of n networks.
func holders(n int) []popularity.Peer {
	return at(many(n, func(i int) []string { return []string{fmt.Sprintf("8.%d.%d.8", i/250, i%250)} })...)
}

func observe(t testing.TB, b *popularity.Book, p popularity.Package, n int) {
	t.Helper()
	if err := b.Observe(p, holders(n)); err != nil {
		t.Fatal(err)
	}
}

func about(t testing.TB, b *popularity.Book, p popularity.Package, want float64) {
	t.Helper()
	if got, ok := b.Holders(p); !ok || math.Abs(got-want) > 0.01 {
		t.Fatalf("about %.3f (%v) hold it, want %.3f", got, ok, want)
	}
}

func TestEstimate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := openBook(t, database(t)), named("pack")
		if _, ok := b.Holders(p); ok || b.Fresh(p) {
			t.Fatal("something is known of what nobody has looked up")
		}
		observe(t, b, p, 8)
		about(t, b, p, 8)
		if !b.Fresh(p) {
			t.Fatal("it is to be looked up again at once")
		}
		pass(popularity.FreshFor)
		if b.Fresh(p) {
			t.Fatal("it is fresh after a day")
		}
		pass(popularity.HalfLife - popularity.FreshFor)
		about(t, b, p, 4)
		observe(t, b, p, 2)
		about(t, b, p, (8*0.5+2)/1.5)
		pass(9 * popularity.HalfLife)
		if got, ok := b.Holders(p); ok {
			t.Fatalf("after months %v", got)
		}
		observe(t, b, p, 1)
		if got, ok := b.Holders(p); !ok || got < 0.99 || got > 1.02 {
			t.Fatalf("after months and a lookup %v", got)
		}
	})
}

// TestABurstFades: a day on which strangers pretend moves the figure by a tenth, and
// leaves no trace.
func TestABurstFades(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := openBook(t, database(t)), named("pack")
		days := func(n, count int) {
			for range n {
				observe(t, b, p, count)
				pass(24 * time.Hour)
			}
		}
		days(60, 4)
		observe(t, b, p, 1000)
		if got, _ := b.Holders(p); got > 4+(popularity.MaxHolders-4)*0.11 {
			t.Fatalf("one day makes 4 holders %.1f", got)
		}
		pass(24 * time.Hour)
		days(28, 4)
		observe(t, b, p, 4)
		if got, _ := b.Holders(p); got > 5 {
			t.Fatalf("four weeks later there are still %.1f", got)
		}
	})
}

// TestEstimateIsBoundedAndMonotone: it lies between nothing and the highest count, only
// observations raise it, and a higher count never lowers it.
func TestEstimateIsBoundedAndMonotone(t *testing.T) {
	db, now := database(t), time.Unix(1_000_000_000, 0)
	open := func() *popularity.Book {
		b := openBook(t, db)
		b.SetClock(func() time.Time { return now })
		return b
	}
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		low, high := open(), open()
		round++
		p, q := named(fmt.Sprintf("low%d", round)), named(fmt.Sprintf("high%d", round))
		most := 0
		for range rapid.IntRange(1, 12).Draw(t, "observations") {
			n := rapid.IntRange(0, 40).Draw(t, "count")
			more := n + rapid.IntRange(0, 200).Draw(t, "more")
			most = max(most, min(more, popularity.MaxHolders))
			if err := errors.Join(low.Observe(p, holders(n)), high.Observe(q, holders(more))); err != nil {
				t.Fatal(err)
			}
			a, _ := low.Holders(p)
			c, _ := high.Holders(q)
			if a < 0 || c > float64(most)+1e-9 || a > c+1e-9 {
				t.Fatalf("%v and %v, of counts up to %d", a, c, most)
			}
			// A clock may also go back.
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(20*24*time.Hour)).Draw(t, "pause")))
			if later, ok := high.Holders(q); ok && later > c {
				t.Fatalf("%v became %v by itself", c, later)
			}
		}
		want, ok := high.Holders(q)
		if got, found := open().Holders(q); found != ok || math.Abs(got-want) > 0.01 {
			t.Fatalf("%v (%v) was read back as %v (%v)", want, ok, got, found)
		}
	})
}

func TestHoldersByName(t *testing.T) {
	db, p := database(t), named("pack")
	b, err := popularity.Open(db, func(peers []string) []string {
		peers = slices.DeleteFunc(slices.Clone(peers), func(id string) bool { return id == "banned" })
		slices.Sort(peers)
		return peers
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Provided(p, []string{"d", "banned", strings.Repeat("x", 200), ""}); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Holders(p); ok || b.Fresh(p) {
		t.Fatal("who gave it says nothing of how many hold it")
	}
	if all := b.All(); len(all) != 1 || all[0].About != -1 {
		t.Fatalf("%+v", all)
	}
	if err := b.Observe(p, []popularity.Peer{{ID: "f"}, {ID: "c"}, {ID: "e"}, {ID: "d"}, {ID: "g"}}); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*popularity.Book{b, openBook(t, db)} {
		all := b.All()
		if len(all) != 1 || all[0].Package != p || math.Abs(all[0].About-5) > 0.01 || strings.Join(all[0].Peers, "") != "cdef" {
			t.Fatalf("%+v", all)
		}
	}
}

func TestBookIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := database(t)
		b := openBook(t, db)
		for i := range popularity.MaxPackages + 2 {
			if i == 10 {
				pass(time.Hour) // those before are the oldest
			}
			if err := b.Observe(named(fmt.Sprintf("p%d", i)), nil); err != nil {
				t.Fatal(err)
			}
			if i == 10 {
				pass(time.Hour)
			}
		}
		for _, b := range []*popularity.Book{b, openBook(t, db)} {
			all := b.All()
			if len(all) != popularity.MaxPackages {
				t.Fatalf("%d packages", len(all))
			}
			oldest := 0
			for _, known := range all {
				if len(known.Package.Name) == 2 {
					oldest++
				}
			}
			if oldest != 8 {
				t.Fatalf("%d of the ten oldest are left, want 8", oldest)
			}
		}
	})
}

func TestDamagedRecordsAreDropped(t *testing.T) {
	db := database(t)
	observe(t, openBook(t, db), named("good"), 3)
	err := db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("popularity"))
		good := bucket.Get([]byte(strings.Repeat("a", 64) + "/good"))
		future := slices.Clone(good)
		copy(future[1+3*8:], "\x00\x00\x00\x00\xf0\x00\x00\x00") // heard in the year 2097
		for key, value := range map[string][]byte{
			strings.Repeat("a", 64) + "/short":  good[:10],
			strings.Repeat("a", 64) + "/future": future,
			strings.Repeat("a", 64) + "/UPPER":  good,
			"abc/pack":                          good,
			"nothing":                           good,
		} {
			if err := bucket.Put([]byte(key), value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b := openBook(t, db)
	if all := b.All(); len(all) != 1 || all[0].Package != named("good") {
		t.Fatalf("%+v", all)
	}
}
