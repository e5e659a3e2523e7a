package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// machine is one user's home and project for a benchmark.
type machine struct {
	b    testing.TB
	home string
	env  []string
}

func newMachine(b testing.TB, env ...string) *machine {
	b.Helper()
	home, err := os.MkdirTemp("", "gg")
	if err != nil {
		b.Fatal(err)
	}
	m := &machine{b: b, home: home, env: append(os.Environ(), append(env, "GGEN_HOME="+filepath.Join(home, "h"), "GGEN_P2P_LISTEN=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1")...)}
	if err := os.WriteFile(filepath.Join(home, "ggen.toml"), nil, 0o644); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		m.run("p2p", "stop")
		if err := os.RemoveAll(home); err != nil {
			b.Error(err)
		}
	})
	return m
}

// run runs a command to its end and returns its output and wall time.
func (m *machine) run(args ...string) ([]byte, time.Duration) {
	m.b.Helper()
	cmd := exec.Command(filepath.Join(bin, "ggen"), append([]string{"marketplace"}, args...)...)
	cmd.Env, cmd.Dir = m.env, m.home
	var stderr strings.Builder
	cmd.Stderr = &stderr
	begin := time.Now()
	out, err := cmd.Output()
	took := time.Since(begin)
	if err != nil {
		m.b.Fatalf("%v: %v\n%s%s", args, err, out, stderr.String())
	}
	return out, took
}

// pack writes a package of about 30 KB in ten files.
func (m *machine) pack(name, version string) string {
	m.b.Helper()
	dir := filepath.Join(m.home, "src", name, version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.b.Fatal(err)
	}
	files := map[string]string{"package.toml": fmt.Sprintf("[package]\nname = %q\nversion = %q\ndescription = \"a package to measure with\"\n", name, version)}
	for i := range 9 {
		files[fmt.Sprintf("file%d.txt", i)] = strings.Repeat(fmt.Sprintf("%s %s line %d\n", name, version, i), 150)
	}
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			m.b.Fatal(err)
		}
	}
	return dir
}

func median(durations []time.Duration) float64 {
	slices.Sort(durations)
	return float64(durations[len(durations)/2].Microseconds()) / 1000
}

func (m *machine) status() (address string, pid int) {
	m.b.Helper()
	out, _ := m.run("p2p", "status", "--json")
	var st status
	if err := json.Unmarshal(out, &st); err != nil {
		m.b.Fatal(err)
	}
	return st.ListenAddresses[0], st.EnginePID
}

// BenchmarkCommands measures whole processes, from start to exit, with a warm
// engine: the median of what was run.
func BenchmarkCommands(b *testing.B) {
	publisher, user := newMachine(b), newMachine(b)
	publisher.run("p2p", "start")
	address, _ := publisher.status()
	user.run("p2p", "start", "--bootstrap", address)
	var search, install, publish []time.Duration
	round := 0
	for b.Loop() {
		name := fmt.Sprintf("measured-%d", round)
		round++
		_, took := publisher.run("publish", publisher.pack(name, "1.0.0"))
		publish = append(publish, took)
		for { // it arrives by gossip
			out, took := user.run("search", name, "--json")
			if strings.Contains(string(out), name) {
				search = append(search, took)
				break
			}
		}
		_, took = user.run("install", name, "--trust", "--yes")
		install = append(install, took)
	}
	b.ReportMetric(median(search), "ms/search")
	b.ReportMetric(median(install), "ms/install")
	b.ReportMetric(median(publish), "ms/publish")
}

// BenchmarkWarmAgainstOwnEngine compares a command that finds a warm engine with
// one that starts an engine for itself.
func BenchmarkWarmAgainstOwnEngine(b *testing.B) {
	warm, own := newMachine(b), newMachine(b, "GGEN_ENGINE_PER_COMMAND=1")
	warm.run("search", "x")
	own.run("search", "x")
	var warmTimes, ownTimes []time.Duration
	for b.Loop() {
		_, took := warm.run("search", "x")
		warmTimes = append(warmTimes, took)
		_, took = own.run("search", "x")
		ownTimes = append(ownTimes, took)
	}
	b.ReportMetric(median(warmTimes), "ms/warm")
	b.ReportMetric(median(ownTimes), "ms/own")
	b.ReportMetric(median(warmTimes)/median(ownTimes), "warm/own")
}

// BenchmarkColdStart lets 20 commands start at the same time without an engine,
// and counts the engines that this makes.
func BenchmarkColdStart(b *testing.B) {
	const commands = 20
	var took []time.Duration
	engines, rounds := 0, 0
	for b.Loop() {
		m := newMachine(b)
		var all sync.WaitGroup
		begin := time.Now()
		for range commands {
			all.Go(func() { m.run("search", "x") })
		}
		all.Wait()
		took = append(took, time.Since(begin))
		engines += enginesOf(b, m)
		rounds++
	}
	b.ReportMetric(float64(engines)/float64(rounds), "engines/round")
	b.ReportMetric(median(took), "ms/round")
}

// enginesOf counts the processes that serve a home.
func enginesOf(b *testing.B, m *machine) int {
	b.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(commands) == 0 {
		b.Skip("processes are counted in /proc")
	}
	count := 0
	for _, file := range commands {
		// A process may end while we look.
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), "-home\x00"+filepath.Join(m.home, "h")+"\x00") {
			count++
		}
	}
	return count
}

// BenchmarkIdleEngine reports the resident memory of an engine that has nothing
// to do, as the kernel counts it (Linux).
func BenchmarkIdleEngine(b *testing.B) {
	m := newMachine(b)
	m.run("p2p", "start")
	_, pid := m.status()
	var rss int64
	for b.Loop() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			b.Skip("the memory of a process is read from /proc")
		}
		for line := range strings.Lines(string(data)) {
			if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &rss); err == nil {
				break
			}
		}
	}
	b.ReportMetric(float64(rss)/1024, "MiB-resident")
}
