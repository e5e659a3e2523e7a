package plugins_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
)

// BenchmarkChoose compares a choice that has to hash the engine file, because it is
// new or has changed, with one that knows it, in turns.
func BenchmarkChoose(b *testing.B) {
	home := b.TempDir()
	run := filepath.Join(home, "run")
	path := filepath.Join(home, "plugins", fmt.Sprintf("ggen-engine-marketplace_v1.0.0_p1_%s_%s", runtime.GOOS, runtime.GOARCH))
	content := bytes.Repeat([]byte("engine "), 5<<20) // 35 MiB, as the real one
	for _, dir := range []string{run, filepath.Dir(path)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(path, content, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path+".sha256", []byte(shared.DigestOf(content).Hex()+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	search := plugins.Search{Home: home, RunDir: run, Oldest: 1, Newest: 1}
	choose := func() time.Duration {
		begun := time.Now()
		if _, err := plugins.Choose(b.Context(), search); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
	choose() // records the digest in plugins.lock
	var hashed, known time.Duration
	rounds := 0
	for b.Loop() {
		changed := time.Unix(int64(1_700_000_000+rounds), 0)
		if err := os.Chtimes(path, changed, changed); err != nil {
			b.Fatal(err)
		}
		hashed += choose()
		known += choose()
		rounds++
	}
	b.ReportMetric(float64(hashed.Microseconds())/float64(rounds)/1000, "ms/changed")
	b.ReportMetric(float64(known.Microseconds())/float64(rounds)/1000, "ms/known")
	b.ReportMetric(float64(known)/float64(hashed), "known/changed")
}
