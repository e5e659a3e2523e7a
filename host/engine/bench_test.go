//go:build unix

package engine_test

import (
	"os"
	"testing"
	"time"

	"ggen.dev/marketplace/host/engine"
)

// BenchmarkAttach measures how long it takes to find the running engine and get
// its first answer, beside starting one, in one run.
func BenchmarkAttach(b *testing.B) {
	home, err := os.MkdirTemp("", "gg")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(home)
	cfg := engine.Config{Home: home, PluginDirs: []string{built}, Settings: loopback()}
	connect := func() time.Duration {
		begin := time.Now()
		s, err := engine.Connect(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(begin)
		_ = s.Close()
		return took
	}
	stop := func() {
		if _, err := engine.Stop(b.Context(), cfg, time.Second); err != nil {
			b.Fatal(err)
		}
	}
	connect() // makes keys and verifies the binary
	stop()
	var spawned, attached time.Duration
	rounds := 0
	for b.Loop() {
		spawned += connect()
		attached += connect()
		rounds++
		stop()
	}
	b.ReportMetric(float64(spawned.Milliseconds())/float64(rounds), "ms/spawn")
	b.ReportMetric(float64(attached.Microseconds())/1000/float64(rounds), "ms/attach")
	b.ReportMetric(float64(attached)/float64(spawned), "attach/spawn")
}
