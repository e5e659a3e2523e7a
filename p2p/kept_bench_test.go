package p2p

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/p2p/cache"
	"ggen.dev/marketplace/p2p/store"
)

// BenchmarkCacheHit measures how long the list of files of a package takes from each tier,
// which verify and parse it below the first: of a usual package, and of a large one.
func BenchmarkCacheHit(b *testing.B) {
	for _, files := range []int{12, 302} {
		disk, err := store.Open(b.TempDir(), store.Options{})
		if err != nil {
			b.Fatal(err)
		}
		data := indexOf(b, disk, files)
		digest, _, err := disk.Put(b.Context(), bytes.NewReader(data), "")
		if err != nil {
			b.Fatal(err)
		}
		for _, tier := range []cache.Tier{cache.Hot, cache.Warm, cache.Cold} {
			b.Run(fmt.Sprintf("%s/files=%d", tier, files), func(b *testing.B) {
				e := &Engine{store: disk}
				switch tier { // nothing lives long above the tier
				case cache.Warm:
					e.cfg.Cache.Hot.Lifetime = 1
				case cache.Cold:
					e.cfg.Cache.Hot.Lifetime, e.cfg.Cache.Warm.Lifetime = 1, 1
				}
				c := e.newIndexes()
				defer func() { _ = c.Close() }()
				if _, _, ok := c.Peek(b.Context(), string(digest), nil); !ok {
					b.Fatal("it is not there")
				}
				var took []time.Duration
				for b.Loop() {
					started := time.Now()
					_, at, ok := c.Peek(b.Context(), string(digest), nil)
					took = append(took, time.Since(started))
					if !ok || at != tier {
						b.Fatalf("it came from %s", at)
					}
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
				b.ReportMetric(float64(len(data)), "list-B")
			})
		}
	}
}

// indexOf is the list of a package of so many files of 4 KB.
func indexOf(b *testing.B, disk *store.Store, files int) []byte {
	b.Helper()
	var stream bytes.Buffer
	w := tar.NewWriter(&stream)
	for i := range files {
		text := strings.Repeat(fmt.Sprintf("line %d\n", i), 500)
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("templates/part-%d/file-%03d.tmpl", i/20, i), Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	packed, err := archive.Pack(b.Context(), &stream, disk.Scratch(), archive.DefaultLimits(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	data, err := packed.Index.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	return data
}
