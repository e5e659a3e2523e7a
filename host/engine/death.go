package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// maxTail is how much of a log's end is read for an error, in bytes, and
// tailLines how many of its lines are shown.
const (
	maxTail   = 4 << 10
	tailLines = 8
)

// name is an engine for people.
func name(state launch.State) string {
	return fmt.Sprintf("engine %s (process %d)", state.Version, state.PID)
}

// obituary says how an engine that ended came to its end, as far as it shows: its
// crash report has the words of the runtime, unless it was killed.
func obituary(state launch.State) string {
	if state.Ended != "" {
		return fmt.Sprintf("the %s ended: %s", name(state), state.Ended)
	}
	if cause := causeOfDeath(state.Crash); cause != "" {
		return fmt.Sprintf("the %s crashed: %s", name(state), cause)
	}
	return fmt.Sprintf("the %s ended without a word: it was killed, or it hung up", name(state))
}

// causeOfDeath is the line of a crash report that says why: the first one behind
// the header, which ends with an empty line.
func causeOfDeath(path string) string {
	report := readHead(path, launch.MaxCrashSize)
	_, stack, ok := bytes.Cut(report, []byte("\n\n"))
	if !ok {
		return ""
	}
	line, rest, _ := strings.Cut(strings.TrimSpace(string(stack)), "\n")
	if line == "runtime stack:" { // the runtime's own words are not in the report (Go 1.26)
		line = "a fatal error of the Go runtime"
		if slices.ContainsFunc(allocators, func(name string) bool { return strings.Contains(rest, "runtime."+name) }) {
			line = "out of memory"
		}
	}
	const enough = 300
	return line[:min(len(line), enough)]
}

// allocators are the functions of Go's runtime that end a process when the system
// gives it no more memory, or no more threads for want of it.
var allocators = []string{"sysMap", "sysAlloc", "sysReserve", "sysUsed", "sysHugePage", "persistentalloc", "(*mheap).grow", "newosproc", "(*mcache).refill", "(*pageAlloc)"}

func readHead(path string, most int64) []byte {
	if path == "" {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()               // only read
	head, _ := io.ReadAll(io.LimitReader(file, most)) // what can be read is enough
	return head
}

// blame completes the error of a call by what the user has to know of the engine
// that it failed in. ctx is the call's.
func (cfg Config) blame(ctx context.Context, state launch.State, err error) error {
	e := shared.AsError(err)
	switch {
	case e == nil:
		return nil
	case e.Reason == shared.ReasonEngineFailed && e.Metadata["connection"] != "":
		return cfg.died(state, e)
	case e.Reason == shared.ReasonInternal, e.Reason == shared.ReasonEngineFailed: // a bug, whose traces are in the log
		return cfg.withLog(e.With("engine", name(state)))
	case e.Reason == shared.ReasonDeadlineExceeded && ctx.Err() != nil:
		late := shared.NewError(shared.ReasonDeadlineExceeded, "the time is over, and the %s has not finished", name(state)).
			WithHint("allow more with --timeout; if it happens again, `ggen marketplace p2p stop` ends the engine, and the next command starts another")
		return cfg.withLog(late)
	}
	return err
}

// died makes the error of a call whose engine ended under it; what gRPC says is
// that the connection broke, which helps nobody.
func (cfg Config) died(state launch.State, e *shared.Error) error {
	told := shared.NewError(shared.ReasonEngineFailed, "%s", obituary(state)).WithHint("%s", e.Hint)
	if causeOfDeath(state.Crash) != "" {
		told = told.WithHint("the report is %s; run the command again, it starts a new engine", state.Crash).With("crash", state.Crash)
	}
	return cfg.withLog(told.With("connection", e.Metadata["connection"]))
}

// withLog adds where the engine's log is, and how it ends, for --verbose.
func (cfg Config) withLog(e *shared.Error) *shared.Error {
	path := launch.LogFile(cfg.home())
	return e.With("log", path).With("log_tail", tail(path))
}

// tail is the end of a log.
func tail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }() // only read
	if info, err := file.Stat(); err == nil && info.Size() > maxTail {
		if _, err := file.Seek(-maxTail, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(io.LimitReader(file, maxTail))
	if err != nil {
		return ""
	}
	return lastLines(data)
}

// wordsSince is what was written to a log behind an offset, at most 64 KiB of it.
func wordsSince(path string, offset int64) []byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()                                          // only read
	words, _ := io.ReadAll(io.NewSectionReader(file, offset, 16*int64(maxTail))) // what can be read is enough
	return words
}

// fatalLine is the line in which the Go runtime says why it ends, if there is one.
func fatalLine(log []byte) string {
	for line := range strings.Lines(string(log)) {
		for _, begin := range []string{"fatal error: ", "runtime: out of memory", "panic: "} {
			if strings.HasPrefix(line, begin) {
				const enough = 300
				line = strings.TrimSpace(line)
				return line[:min(len(line), enough)]
			}
		}
	}
	return ""
}

func lastLines(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
