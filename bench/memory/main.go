// Command memory measures the resident memory of real engine processes that have
// nothing to do, as the kernel counts it (Linux): alone, and with a catalogue of so many
// entries. It runs the binaries that `make build` makes and nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ggen.dev/marketplace/p2p/p2ptest"
)

func main() {
	bin := flag.String("bin", "bin", "`folder` with ggen and the engine")
	entries := flag.Int("entries", 10_000, "entries of the catalogue")
	settle := flag.Duration("settle", time.Minute, "how long an engine runs before it is measured")
	flag.Parse()
	if err := run(context.Background(), *bin, *entries, *settle); err != nil {
		fmt.Fprintln(os.Stderr, "memory:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, entries int, settle time.Duration) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	for _, tc := range []struct {
		what    string
		entries int
		start   []string
	}{
		{"a full engine without a catalogue", 0, nil},
		{"a light engine", 0, []string{"--light"}},
		{fmt.Sprintf("a full engine with %d entries", entries), entries, nil},
	} {
		home, err := os.MkdirTemp("", "ggen-memory-")
		if err != nil {
			return err
		}
		measured, err := measure(ctx, bin, home, tc.entries, tc.start, settle)
		if err = errors.Join(err, os.RemoveAll(home)); err != nil {
			return fmt.Errorf("%s: %w", tc.what, err)
		}
		fmt.Printf("%s: %s\n", tc.what, measured)
	}
	return nil
}

// measure starts an engine in a home, and reads what the kernel says of it.
func measure(ctx context.Context, bin, home string, entries int, start []string, settle time.Duration) (string, error) {
	if entries > 0 {
		if err := p2ptest.SeedHome(home, entries/10, 10); err != nil {
			return "", err
		}
	}
	ggen := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "ggen"), append([]string{"marketplace"}, args...)...)
		cmd.Env = append(os.Environ(), "GGEN_HOME="+home, "GGEN_P2P_LISTEN=/ip4/127.0.0.1/tcp/0")
		cmd.Stderr = os.Stderr
		return cmd.Output()
	}
	if _, err := ggen(append([]string{"p2p", "start"}, start...)...); err != nil {
		return "", err
	}
	defer func() { _, _ = ggen("p2p", "stop") }()
	<-time.After(settle) // an engine that has just read its catalogue is not idle
	pid, err := pidOf(home)
	if err != nil {
		return "", err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%s/status", pid))
	if err != nil {
		return "", err
	}
	var parts []string
	for line := range strings.Lines(string(status)) {
		var size int
		for _, field := range []string{"VmRSS", "RssAnon", "RssFile"} {
			if _, err := fmt.Sscanf(line, field+": %d kB", &size); err == nil {
				parts = append(parts, fmt.Sprintf("%s %.1f MiB", field, float64(size)/1024))
			}
		}
	}
	return strings.Join(parts, ", "), nil
}

// pidOf finds the engine of a home among the processes.
func pidOf(home string) (string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		line, err := os.ReadFile(file) // a process may end while we look
		if err == nil && strings.Contains(string(line), "-home\x00"+home+"\x00") {
			return filepath.Base(filepath.Dir(file)), nil
		}
	}
	return "", fmt.Errorf("no engine of %s runs", home)
}
