package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ggen.dev/marketplace/shared"
)

// TestMainHelper is a `ggen` for tests that need a process.
func TestMainHelper(t *testing.T) {
	if os.Getenv("TEST_AS_GGEN") == "" {
		t.Skip("only as a child of another test")
	}
	os.Args = append([]string{"ggen"}, strings.Split(os.Getenv("TEST_AS_GGEN"), " ")...)
	os.Exit(int(realMain(folderEngines{os.Getenv})))
}

func TestSignals(t *testing.T) {
	for _, tc := range []struct {
		name   string
		signal syscall.Signal
		line   string
		hang   string
		code   int
		out    string
	}{
		{"SIGINT ends a call with 130", syscall.SIGINT, "marketplace search --json", "search", 130, `"reason":"CANCELED"`},
		{"SIGTERM ends a call with 143", syscall.SIGTERM, "marketplace search --json", "search", 143, `"reason":"CANCELED"`},
		{"a peer in the foreground ends as it should", syscall.SIGTERM, "marketplace p2p start --foreground --json", "foreground", 0, `"started":true`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			home := t.TempDir()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMainHelper$")
			cmd.Env = append(os.Environ(), "TEST_AS_GGEN="+tc.line, "TEST_HANG="+tc.hang, "GGEN_HOME="+home, "TEST_ENTERED="+filepath.Join(home, "entered"), "TEST_NETWORK="+home)
			var stdout, stderr buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, filepath.Join(home, "entered"))
			if err := cmd.Process.Signal(tc.signal); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			code := cmd.ProcessState.ExitCode()
			if code != tc.code || !strings.Contains(stdout.String(), tc.out) || strings.Count(stdout.String(), "\n") != 1 {
				t.Fatalf("code %d (%v), want %d\n%s%s", code, err, tc.code, stdout.String(), stderr.String())
			}
		})
	}
}

func waitFor(t *testing.T, path string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s did not appear", path)
		case <-tick.C:
		}
	}
}

func TestUntilSignalLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, stop := untilSignal(t.Context())
	stop()
	stop()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Fatal("stopping does not end the context")
	}
}

func TestOutcome(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(signalled{syscall.SIGTERM})
	for _, tc := range []struct {
		name    string
		ctx     context.Context
		err     error
		reason  shared.Reason
		printed bool
		code    exitCode
	}{
		{"an error of the contract", t.Context(), shared.NewError(shared.ReasonUntrusted, "no"), shared.ReasonUntrusted, false, 4},
		{"any other error", t.Context(), errors.New("bug"), shared.ReasonInternal, false, 1},
		{"a finding was printed", t.Context(), finding{cause: shared.NewError(shared.ReasonIntegrity, "no")}, shared.ReasonIntegrity, true, 5},
		{"a deadline", t.Context(), context.DeadlineExceeded, shared.ReasonDeadlineExceeded, false, 6},
		{"a signal goes before what it caused", interrupted, errors.New("pipe broke"), shared.ReasonCanceled, false, 143},
	} {
		t.Run(tc.name, func(t *testing.T) {
			said, printed, code := outcome(tc.ctx, tc.err)
			if said.Reason != tc.reason || printed != tc.printed || code != tc.code {
				t.Fatalf("%s, %v, %d", said.Reason, printed, code)
			}
		})
	}
}
