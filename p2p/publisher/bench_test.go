package publisher_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
)

// BenchmarkVerify is one announcement from wire to verified: parse, root and head
// signatures, inclusion. It reports the bytes of the announcement too.
func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{1, 10, 1_000} {
		b.Run(fmt.Sprintf("log=%d", size), func(b *testing.B) {
			key, now := newKey(b), time.Now()
			versions := make([]string, size)
			for i := range versions {
				versions[i] = fmt.Sprintf("1.%d.0", i)
			}
			_, u := appended(b, key, now, versions...)
			wire := u.Marshal()
			for b.Loop() {
				parsed, err := publisher.ParseUpdate(wire)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := parsed.Verify(now); err != nil {
					b.Fatal(err)
				}
			}
			// Loop drops what was reported before it.
			b.ReportMetric(float64(len(wire)), "wire-bytes")
			b.ReportMetric(float64(len(u.Inclusion)*tlog.HashSize), "proof-bytes")
		})
	}
}
