//go:build unix

package engine_test

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"ggen.dev/marketplace/host/engine"
	"ggen.dev/marketplace/shared"
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

// BenchmarkCrash measures how long after an engine's death its caller knows, and
// how long a command takes that finds the engine dead, beside one that starts the
// first engine, in one run.
func BenchmarkCrash(b *testing.B) {
	home, err := os.MkdirTemp("", "gg")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(home)
	cfg := engine.Config{Home: home, PluginDirs: []string{built}, Settings: loopback()}
	command := func() (*engine.Session, time.Duration) {
		begun := time.Now()
		s, err := engine.Connect(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Search(b.Context(), shared.SearchQuery{}); err != nil {
			b.Fatal(err)
		}
		return s, time.Since(begun)
	}
	stop := func() { // also gives the restart budget back
		if _, err := engine.Stop(b.Context(), cfg, time.Second); err != nil {
			b.Fatal(err)
		}
	}
	first, _ := command() // makes keys and verifies the binary
	_ = first.Close()
	stop()
	var colds, reports, recoveries []time.Duration
	for b.Loop() {
		s, cold := command()
		colds = append(colds, cold)
		info, err := s.Info(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		watching, died := make(chan struct{}), make(chan time.Time)
		go func() {
			defer close(died)
			close(watching)
			if err := s.Watch(b.Context(), shared.WatchQuery{}, func(shared.Event) error { return nil }); !errors.Is(err, shared.ReasonEngineFailed) {
				b.Error(err)
			}
			died <- time.Now()
		}()
		<-watching
		if _, err := s.Search(b.Context(), shared.SearchQuery{}); err != nil { // the watch is on its way by now
			b.Fatal(err)
		}
		killed := time.Now()
		if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		reports = append(reports, (<-died).Sub(killed))
		_ = s.Close()
		again, recovery := command()
		recoveries = append(recoveries, recovery)
		_ = again.Close()
		stop()
	}
	middle := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Microseconds()) / 1000
	}
	b.ReportMetric(middle(reports), "ms/report")
	b.ReportMetric(middle(colds), "ms/cold")
	b.ReportMetric(middle(recoveries), "ms/recovery")
	b.ReportMetric(middle(recoveries)/middle(colds), "recovery/cold")
}
