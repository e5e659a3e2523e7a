//go:build linux

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ggen.dev/marketplace/host/engine"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// faulty is the folder with an engine that fails on demand (plugin/faults.go),
// built by the first test that asks for it.
var faulty = sync.OnceValues(func() (string, error) { return buildEngine("faulty", "0.1.0", 1, "ggen_faults") })

// buildEngine builds an engine of a version, and gives the folder that it is in.
func buildEngine(folder, version string, protocol int, tags string) (string, error) {
	dir := filepath.Join(built, folder)
	path := filepath.Join(dir, binaryName(version, protocol))
	build := exec.Command("go", "build", "-tags", tags, "-ldflags", "-X main.version="+version, "-o", path, "ggen.dev/marketplace/plugin")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build engine: %w\n%s", err, out)
	}
	return dir, writeChecksum(path)
}

func folder(t *testing.T, build func() (string, error)) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func search(ctx context.Context, cfg engine.Config, text string) error {
	s, err := engine.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	_, err = s.Search(ctx, shared.SearchQuery{Text: text})
	return errors.Join(err, s.Close())
}

// hangs is when a call that should have come back by itself counts as hanging, on a
// busy machine; callTime is the deadline of one that cannot.
const (
	hangs    = 3 * time.Minute
	callTime = 5 * time.Second
)

func timeFor(reason shared.Reason) time.Duration {
	if reason == shared.ReasonDeadlineExceeded {
		return callTime
	}
	return hangs
}

// startTime is the deadline of a command whose engine never comes up.
const startTime = 4 * time.Second

// TestFaults is the table of what may befall an engine while it runs. For each the
// caller gets an error that names the engine, or none, and in time; and the next
// command works.
func TestFaults(t *testing.T) {
	dir := folder(t, faulty)
	signal := func(sig syscall.Signal) func(*testing.T, engine.Config, launch.State) {
		return func(t *testing.T, _ engine.Config, state launch.State) { kill(t, state.PID, sig) }
	}
	for _, c := range []struct {
		name   string
		query  string                                        // breaks the engine from inside
		harm   func(*testing.T, engine.Config, launch.State) // breaks it from outside, before the query
		memory int64                                         // limit of the engine
		reason shared.Reason                                 // of the call; empty: it succeeds, on another engine if need be
		says   string                                        // in the error
		crash  string                                        // in a crash report
	}{
		{name: "SIGKILL", harm: signal(syscall.SIGKILL)},
		{name: "SIGSTOP", harm: func(t *testing.T, _ engine.Config, state launch.State) { stopProcess(t, state.PID) }},
		{name: "a panic in a handler", query: "fault:panic-in-handler", reason: shared.ReasonInternal, says: "a fault in a handler", crash: "a fault in a handler"},
		{name: "a panic in a background goroutine", query: "fault:panic-in-background", reason: shared.ReasonEngineFailed, says: "panic: a fault in the background", crash: "a fault in the background"},
		{name: "os.Exit", query: "fault:exit", reason: shared.ReasonEngineFailed, says: "ended without a word"},
		{name: "a deadlock", query: "fault:deadlock", reason: shared.ReasonDeadlineExceeded},
		{name: "more memory than it may have", query: "fault:memory", memory: 256 << 20, reason: shared.ReasonEngineFailed, says: "out of memory", crash: "runtime.sysMap"},
		{name: "1 GiB to standard output", query: "fault:flood-stdout"},
		{name: "1 GiB to standard error", query: "fault:flood-stderr"},
		{name: "an error of 10 MiB", query: "fault:huge-error", reason: shared.ReasonInternal},
		{name: "a reply that never ends", query: "fault:endless-reply", reason: shared.ReasonEngineFailed, says: "does not end"},
		{name: "its socket is deleted", harm: func(t *testing.T, _ engine.Config, state launch.State) {
			if err := os.Remove(state.Address); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			cfg.PluginDirs, cfg.Settings.Memory = []string{dir}, c.memory
			if err := search(t.Context(), cfg, ""); err != nil {
				t.Fatalf("before: %v", err)
			}
			state, ok := launch.ReadState(filepath.Join(cfg.Home, "run"))
			if !ok {
				t.Fatal("there is no state")
			}
			if c.harm != nil {
				c.harm(t, cfg, state)
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeFor(c.reason))
			defer cancel()
			err := search(ctx, cfg, c.query)
			if e := shared.AsError(err); c.reason == "" && err != nil || c.reason != "" && (err == nil || e.Reason != c.reason || !strings.Contains(e.Message, c.says)) {
				t.Errorf("the call: %v, want %s %q", err, c.reason, c.says)
			}
			if e := shared.AsError(err); err != nil && (!strings.Contains(e.Message+e.Metadata["engine"], "engine 0.1.0 (process ") || e.Metadata["log"] == "") {
				t.Errorf("the error does not say which engine failed, or where its log is: %+v", e)
			}
			if err := search(t.Context(), cfg, ""); err != nil {
				t.Errorf("the next command: %v", err)
			}
			checkCrashes(t, cfg.Home, c.crash)
			checkSizes(t, cfg.Home)
		})
	}
}

// checkCrashes looks for a text in the crash reports, and that they are private.
func checkCrashes(t *testing.T, home, text string) {
	t.Helper()
	found := text == ""
	entries, err := os.ReadDir(launch.CrashDir(home))
	if err != nil {
		t.Error(err)
	}
	for _, entry := range entries {
		path := filepath.Join(launch.CrashDir(home), entry.Name())
		report, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		info, err := entry.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
		found = found || strings.Contains(string(report), text) && strings.Contains(string(report), "ggen engine 0.1.0") && strings.Contains(string(report), "goroutine ")
	}
	if !found {
		t.Errorf("no crash report has %q", text)
	}
}

// checkSizes sees to it that what an engine writes does not fill the disk.
func checkSizes(t *testing.T, home string) {
	t.Helper()
	for _, path := range []string{launch.LogFile(home), launch.LogFile(home) + ".old"} {
		if info, err := os.Stat(path); err == nil && info.Size() > 2*launch.MaxLog {
			t.Errorf("%s has %d bytes", path, info.Size())
		}
	}
}

// TestFaultsAtTheStart is the table of what may befall an engine before it is up.
func TestFaultsAtTheStart(t *testing.T) {
	dir := folder(t, faulty)
	for _, c := range []struct{ fault, says string }{
		{"garbage", "does not answer like an engine"},
		{"silence", ""},
		{"flood-stdout", "does not answer like an engine"},
		{"flood-stderr", "of log"},
		{"exit", "ended without an answer"},
		{"panic", "ended without an answer"},
	} {
		t.Run(c.fault, func(t *testing.T) { // not parallel: the environment is one
			for _, perCommand := range []bool{false, true} {
				cfg := config(t)
				cfg.PluginDirs, cfg.PerCommand = []string{dir}, perCommand
				t.Setenv("GGEN_FAULT", c.fault)
				ctx, cancel := context.WithTimeout(t.Context(), startTime)
				err := search(ctx, cfg, "")
				cancel()
				want := shared.ReasonEngineFailed
				if c.fault == "silence" || c.fault == "flood-stderr" && errors.Is(err, shared.ReasonDeadlineExceeded) {
					want = shared.ReasonDeadlineExceeded
				}
				if !errors.Is(err, want) && !(perCommand && (err == nil || errors.Is(err, shared.ReasonEngineFailed) || errors.Is(err, shared.ReasonDeadlineExceeded))) {
					t.Errorf("per command %v: %v, want %s", perCommand, err, want)
				}
				if !perCommand && !errors.Is(err, shared.ReasonDeadlineExceeded) && !strings.Contains(fmt.Sprint(err), c.says) {
					t.Errorf("%v does not say %q", err, c.says)
				}
				t.Setenv("GGEN_FAULT", "")
				if err := search(t.Context(), cfg, ""); err != nil {
					t.Errorf("the next command, per command %v: %v", perCommand, err)
				}
				checkSizes(t, cfg.Home)
			}
		})
	}
}

func TestAStaleLockAndAReusedProcessID(t *testing.T) {
	cfg := config(t)
	run := filepath.Join(cfg.Home, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	innocent := exec.CommandContext(t.Context(), "sleep", "600")
	if err := innocent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = innocent.Process.Kill(); _ = innocent.Wait() })
	left := launch.State{PID: innocent.Process.Pid, Instance: "gone", Network: "unix", Address: filepath.Join(run, "plugin1"), Version: "0.1.0", Protocols: []int{1}}
	if err := launch.WriteState(run, &left); err != nil {
		t.Fatal(err)
	}
	s, info := connect(t, cfg)
	if info.PID == left.PID {
		t.Fatal("it took another process for the engine")
	}
	if len(s.Notices()) != 1 {
		t.Errorf("notices %v", s.Notices())
	}
	if err := innocent.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process that has the old engine's ID was ended: %v", err)
	}
}

func TestAFullRunFolder(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	cfg := config(t)
	run := filepath.Join(cfg.Home, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "tmpfs", run).CombinedOutput(); err != nil {
		t.Skipf("cannot mount: %s", out)
	}
	t.Cleanup(func() {
		eventually(t, "the run folder is free", func() bool { return syscall.Unmount(run, 0) == nil })
	})
	if err := os.WriteFile(filepath.Join(run, "full"), make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the folder is not full")
	}
	err := search(t.Context(), cfg, "")
	if err != nil && shared.AsError(err).Reason != shared.ReasonStorageFull && shared.AsError(err).Reason != shared.ReasonStorage {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filepath.Join(run, "full")); err != nil {
		t.Fatal(err)
	}
	if err := search(t.Context(), cfg, ""); err != nil {
		t.Errorf("the next command: %v", err)
	}
	if _, err := engine.Stop(t.Context(), cfg, time.Second); err != nil {
		t.Error(err)
	}
}

func TestRestartBudget(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	for round := range 4 {
		s, info := connect(t, cfg)
		_ = s.Close()
		kill(t, info.PID, syscall.SIGKILL)
		if notices := s.Notices(); round > 0 && (len(notices) != 1 || !strings.Contains(notices[0].Message, "ended without a word")) {
			t.Errorf("round %d: %v", round, notices)
		}
	}
	_, err := engine.Connect(t.Context(), cfg)
	e := shared.AsError(err)
	if !errors.Is(err, shared.ReasonEngineCrashing) || !strings.Contains(e.Hint, launch.LogFile(cfg.Home)) || e.Metadata["retry_after_ms"] == "" || !e.Retryable {
		t.Fatalf("got %v, %+v", err, e)
	}
	// Whoever has looked at it may go on at once.
	if _, err := engine.Stop(t.Context(), cfg, time.Second); err != nil {
		t.Fatal(err)
	}
	connect(t, cfg)
}

func TestAnEngineThatIsAliveIsStoppedEvenIfItDoesNotAnswer(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	s, info := connect(t, cfg)
	_ = s.Close()
	stopProcess(t, info.PID)
	stopped, err := engine.Stop(t.Context(), cfg, time.Second)
	if err != nil || !stopped {
		t.Fatal(stopped, err)
	}
	if err := syscall.Kill(info.PID, 0); err == nil {
		eventually(t, "the process is gone", func() bool { return syscall.Kill(info.PID, 0) != nil })
	}
}

// stopProcess sends a SIGSTOP and waits until it has taken effect: a thread that
// still runs may answer a call.
func stopProcess(t *testing.T, pid int) {
	t.Helper()
	kill(t, pid, syscall.SIGSTOP)
	eventually(t, "every thread stands still", func() bool { return standsStill(t, pid) })
}

// standsStill reads the state of each thread, which follows the command's name in
// parentheses: see proc_pid_stat(5).
func standsStill(t *testing.T, pid int) bool {
	t.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(stats) == 0 {
		t.Fatalf("the threads of process %d: %v, %v", pid, stats, err)
	}
	for _, stat := range stats {
		line, err := os.ReadFile(stat)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread ended
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, state, _ := strings.Cut(string(line), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// TestTheLeastMemoryIsEnough for what needs most of it: making keys of passphrases, which
// takes 64 MiB at a time, by several commands at once.
func TestTheLeastMemoryIsEnough(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Settings.Memory = launch.MinMemory
	s, info := connect(t, cfg)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := s.MakeKey(t.Context(), "four random words"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if now, err := s.Info(t.Context()); err != nil || now.InstanceID != info.InstanceID {
		t.Errorf("the engine is %+v, %v: it has died", now, err)
	}
}

// TestAStoppedEngineBreaksACallThatRuns: the first answer was given, and then the
// process is stopped.
func TestAStoppedEngineBreaksACallThatRuns(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	s, info := connect(t, cfg)
	// A watch goes on with the next engine, and says that it has missed something.
	replaced := errors.New("replaced")
	watching := make(chan error, 1)
	go func() {
		watching <- s.Watch(t.Context(), shared.WatchQuery{}, func(ev shared.Event) error {
			if ev.Kind == shared.EventLost {
				return replaced
			}
			return nil
		})
	}()
	stopProcess(t, info.PID)
	select {
	case err := <-watching:
		if !errors.Is(err, replaced) {
			t.Errorf("got %v", err)
		}
	case <-time.After(hangs):
		t.Error("the call hangs")
	}
	if now, err := s.Info(t.Context()); err != nil || now.InstanceID == info.InstanceID {
		t.Errorf("the engine is %+v, %v", now, err)
	}
}

// TestFaultsOfAnEngineForOneCommand: the fallback, a child of this process by
// go-plugin, breaks in the same ways and is survived as well.
func TestFaultsOfAnEngineForOneCommand(t *testing.T) {
	dir := folder(t, faulty)
	for query, reason := range map[string]shared.Reason{
		"fault:panic-in-handler":    shared.ReasonInternal,
		"fault:panic-in-background": shared.ReasonEngineFailed,
		"fault:exit":                shared.ReasonEngineFailed,
		"fault:deadlock":            shared.ReasonDeadlineExceeded,
		"fault:flood-stdout":        "",
		"fault:flood-stderr":        "",
		"fault:huge-error":          shared.ReasonInternal,
		"fault:endless-reply":       shared.ReasonEngineFailed,
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			cfg.PluginDirs, cfg.PerCommand = []string{dir}, true
			ctx, cancel := context.WithTimeout(t.Context(), timeFor(reason))
			defer cancel()
			err := search(ctx, cfg, query)
			if reason == "" && err != nil || reason != "" && !errors.Is(err, reason) {
				t.Errorf("the call: %v, want %s", err, reason)
			}
			if err := search(t.Context(), cfg, ""); err != nil {
				t.Errorf("the next command: %v", err)
			}
		})
	}
}
