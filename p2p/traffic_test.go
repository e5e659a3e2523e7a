package p2p

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestMeter holds that the rate is that of the last minute, whatever came before and
// however long nothing came.
func TestMeter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type sample struct{ at, bytes int64 }
		var samples []sample
		var m meter
		now := int64(1_000_000)
		for range rapid.IntRange(0, 60).Draw(t, "samples") {
			now += rapid.Int64Range(0, 90).Draw(t, "pause")
			s := sample{now, rapid.Int64Range(0, 1<<20).Draw(t, "bytes")}
			samples = append(samples, s)
			m.add(s.bytes, time.Unix(s.at, 0))
		}
		now += rapid.Int64Range(0, 90).Draw(t, "silence")
		var all, recent int64
		for _, s := range samples {
			all += s.bytes
			if now-s.at < window {
				recent += s.bytes
			}
		}
		if total, rate := m.read(time.Unix(now, 0)); total != all || rate != float64(recent)/window {
			t.Fatalf("%d in all at %g a second, want %d at %g", total, rate, all, float64(recent)/window)
		}
	})
}
