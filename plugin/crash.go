package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"ggen.dev/marketplace/shared/launch"
)

// crashes writes reports of what went wrong in this process, below a home: one
// file that the runtime fills if the process dies of a panic or a fatal error, and
// one for each call whose handler panics. The reports have versions and stacks;
// Go's stacks have no contents of variables, so no secrets.
type crashes struct {
	home   string
	fatal  string // path of the report of this process's death; empty: none is kept
	opened time.Time

	mu       sync.Mutex // guards panicked
	panicked map[string]bool
}

// watchCrashes begins to report.
func watchCrashes(home string) (*crashes, error) {
	c := &crashes{home: home, opened: time.Now(), panicked: map[string]bool{}}
	if err := os.MkdirAll(launch.CrashDir(home), 0o700); err != nil {
		return nil, err
	}
	c.fatal = launch.CrashFile(home, c.opened, os.Getpid())
	file, err := os.OpenFile(c.fatal, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = file.WriteString(header(c.opened))
	// The runtime keeps a descriptor of its own.
	err = errors.Join(err, debug.SetCrashOutput(file, debug.CrashOptions{}), file.Close())
	return c, errors.Join(err, c.sweep())
}

func header(at time.Time) string {
	return fmt.Sprintf("ggen engine %s, %s %s/%s, process %d, since %s\n\n",
		version, runtime.Version(), runtime.GOOS, runtime.GOARCH, os.Getpid(), at.UTC().Format(time.RFC3339))
}

// close ends the reports of a process that ends as it should.
func (c *crashes) close() error {
	return errors.Join(debug.SetCrashOutput(nil, debug.CrashOptions{}), os.Remove(c.fatal))
}

// handlerPanicked reports a panic that one call died of, the first of each method:
// a caller must not be able to fill the folder.
func (c *crashes) handlerPanicked(method string, value any, stack []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.panicked[method] {
		return nil
	}
	c.panicked[method] = true
	now := time.Now()
	name := launch.CrashFile(c.home, now, os.Getpid())
	text := fmt.Sprintf("%spanic in %s: %v\n\n%s", header(now), method, value, stack)
	err := os.WriteFile(name, []byte(text[:min(len(text), launch.MaxCrashSize)]), 0o600)
	return errors.Join(err, c.sweep())
}

// sweep keeps the newest reports, cut to their bound, and that of this process.
func (c *crashes) sweep() error {
	entries, err := os.ReadDir(launch.CrashDir(c.home))
	if err != nil {
		return err
	}
	// The names begin with the time.
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return cmp.Compare(b.Name(), a.Name()) })
	for i, entry := range entries {
		path := filepath.Join(launch.CrashDir(c.home), entry.Name())
		info, err := entry.Info()
		switch {
		case err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(entry.Name(), ".txt"):
		case path == c.fatal:
		case i >= launch.MaxCrashes-1:
			_ = os.Remove(path) // the next sweep tries again
		case info.Size() > launch.MaxCrashSize:
			_ = os.Truncate(path, launch.MaxCrashSize)
		}
	}
	return nil
}
