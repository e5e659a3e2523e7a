package catalog_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
)

// bulk makes the updates of a log of n releases of n/10 packages.
func bulk(t testing.TB, n, page int) (*logOf, []publisher.Update) {
	t.Helper()
	l := newLogOf(t)
	var updates []publisher.Update
	for i := 0; i < n; i += page {
		entries := make([][]byte, min(page, n-i))
		for j := range entries {
			entries[j] = l.states(fmt.Sprintf("pack-%d", (i+j)/10), fmt.Sprintf("1.%d.0", (i+j)%10))
		}
		updates = append(updates, l.append(entries...))
	}
	return l, updates
}

// TestLargeLog is a log of 100,000 entries: what it costs is logged.
func TestLargeLog(t *testing.T) {
	n := 100_000
	if testing.Short() || raceBuild {
		n = 5_000
	}
	l, updates := bulk(t, n, 1000)
	path := filepath.Join(t.TempDir(), "market.db")
	c, db := openAt(t, path)
	start := time.Now()
	for _, u := range updates {
		if _, err := c.Apply(u); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("apply: %v", time.Since(start))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	c, _ = openAt(t, path)
	t.Logf("open: %v", time.Since(start))
	if _, releases := c.Count(); releases != n || c.Held(l.id()) != int64(n) {
		t.Fatalf("%d releases", releases)
	}
	_, head, _ := c.Head(l.id())
	for _, from := range []int64{1, int64(n) / 3, int64(n) - 1} {
		u, err := c.Since(l.id(), from, 20<<10)
		if err != nil {
			t.Fatal(err)
		}
		bytes := (len(u.Consistency) + len(u.Base.Proof) + 1) * tlog.HashSize
		if bytes > 2<<10 || len(u.Inclusion)*tlog.HashSize > 1<<10 {
			t.Fatalf("from %d: proofs of %d bytes", from, bytes)
		}
		if err := tlog.CheckTree(u.Base.Proof, head.Size, head.Hash, from, u.Base.Hash); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for name, key := range map[string]func() *publisher.Keyring{
		"without mark": func() *publisher.Keyring { return newKey(b) },
		"with mark": func() *publisher.Keyring {
			key, err := publisher.OpenKeyring(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			return key
		},
	} {
		b.Run(name, func(b *testing.B) {
			c, k, i := open(b), key(), 0
			for b.Loop() {
				publish(b, c, k, release(fmt.Sprintf("pack-%d", i/10), fmt.Sprintf("1.%d.0", i), "x"))
				i++
			}
		})
	}
}

func BenchmarkApply10000(b *testing.B) {
	_, updates := bulk(b, 10_000, 1000)
	for b.Loop() {
		b.StopTimer()
		c := open(b)
		b.StartTimer()
		for _, u := range updates {
			if _, err := c.Apply(u); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkApplyOne takes an announcement of one release, of a log that is known, without
// the time of the disk.
func BenchmarkApplyOne(b *testing.B) {
	_, updates := bulk(b, 1_000, 1)
	var c *catalog.Catalog
	i := 0
	for b.Loop() {
		if i%len(updates) == 0 {
			b.StopTimer()
			var db *bbolt.DB
			c, db = openAt(b, filepath.Join(b.TempDir(), "market.db"))
			db.NoSync = true
			b.StartTimer()
		}
		if _, err := c.Apply(updates[i%len(updates)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkOpen opens logs of altogether 100,000 entries, and 10,000 small ones.
func BenchmarkOpen(b *testing.B) {
	for _, tc := range []struct{ logs, entries int }{{1, 100_000}, {1_000, 100}, {10_000, 1}} {
		b.Run(fmt.Sprintf("logs=%d/entries=%d", tc.logs, tc.entries), func(b *testing.B) {
			c, db := openAt(b, filepath.Join(b.TempDir(), "market.db"))
			db.NoSync = true
			for range tc.logs {
				_, updates := bulk(b, tc.entries, 1000)
				for _, u := range updates {
					if _, err := c.Apply(u); err != nil {
						b.Fatal(err)
					}
				}
			}
			for b.Loop() {
				if _, err := catalog.Open(db); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerifyEntry proves one entry of a large log and checks the proof, as a
// light peer does.
func BenchmarkVerifyEntry(b *testing.B) {
	l, updates := bulk(b, 10_000, 1000)
	c := open(b)
	for _, u := range updates {
		if _, err := c.Apply(u); err != nil {
			b.Fatal(err)
		}
	}
	_, head, _ := c.Head(l.id())
	entry, proof, err := c.Proof(l.id(), 5_000)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := tlog.CheckRecord(proof, head.Size, head.Hash, 5_000, tlog.RecordHash(entry)); err != nil {
			b.Fatal(err)
		}
		if _, err := publisher.ParseEntry(entry, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(proof)*tlog.HashSize), "proof-bytes")
}
