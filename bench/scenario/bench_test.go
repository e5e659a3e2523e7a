package scenario_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"ggen.dev/marketplace/bench/links"
	"ggen.dev/marketplace/bench/scenario"
)

// TestMain is a peer in a process that a scenario has started.
func TestMain(m *testing.M) {
	if os.Getenv(scenario.PeerEnv) != "" {
		if err := scenario.ServePeer(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "peer:", err)
			os.Exit(1)
		}
		return
	}
	m.Run()
}

// options are those of the environment: GGEN_BENCH is the set (full), GGEN_BENCH_SEED the
// seed (1), GGEN_BENCH_LINKS internet or uniform, GGEN_BENCH_SAMPLES a file, as an absolute path.
func options(b *testing.B) scenario.Options {
	b.Helper()
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("GGEN_BENCH_SEED"), "1"), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	topology := links.Internet
	if os.Getenv("GGEN_BENCH_LINKS") == "uniform" {
		topology = links.Uniform
	}
	return scenario.Options{
		Set: scenario.Set(cmp.Or(os.Getenv("GGEN_BENCH"), string(scenario.Full))), Seed: seed, Links: topology, Samples: os.Getenv("GGEN_BENCH_SAMPLES"),
	}
}

// testFlag is the value of a flag of go test.
func testFlag(name string) string { return flag.Lookup(name).Value.String() }

// madeBy is the command that runs a set, or a part of it.
func madeBy(set scenario.Set, selected string) string {
	command := map[scenario.Set]string{scenario.Quick: "make bench-quick", scenario.Full: "make bench", scenario.Scale: "make bench-scale"}[set]
	if selected != "." {
		command += " SELECT='" + selected + "'"
	}
	return "`" + command + "`"
}

// Benchmark runs all scenarios of a set.
func Benchmark(b *testing.B) {
	opts := options(b)
	if opts.Samples != "" { // lines of the benchmark format that describe the run
		fmt.Printf("set: %s\nseed: %d\nlinks: %s\ngo: %s\nbenchtime: %s\nmade-by: %s\n",
			opts.Set, opts.Seed, opts.Links(opts.Seed).Name, runtime.Version(), testFlag("test.benchtime"), madeBy(opts.Set, testFlag("test.bench")))
	}
	for _, s := range scenario.All() {
		b.Run(s.Name, func(b *testing.B) { s.Bench(b, opts) })
	}
}
