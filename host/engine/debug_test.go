//go:build linux

package engine_test

import (
	"bufio"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ggen.dev/marketplace/host/engine"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// TestAnEngineInATerminal is what an engine's author does: run it by hand, perhaps
// under a debugger, and have every command use that one.
func TestAnEngineInATerminal(t *testing.T) {
	cfg := config(t) // only for a folder that goes away
	cmd := exec.CommandContext(t.Context(), filepath.Join(built, binaryName("0.1.0", 1)), "serve", "-debug", "-home", cfg.Home, "-listen", "/ip4/127.0.0.1/tcp/0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var socket string
	for lines := bufio.NewScanner(stdout); socket == "" && lines.Scan(); {
		_, socket, _ = strings.Cut(lines.Text(), "export "+launch.AttachVariable+"=")
	}
	t.Setenv(launch.AttachVariable, socket)

	elsewhere := engine.Config{Home: t.TempDir()} // neither its home nor any engine file is looked at
	s, info := connect(t, elsewhere)
	if info.PID != cmd.Process.Pid {
		t.Fatalf("process %d answers, and %d was started", info.PID, cmd.Process.Pid)
	}
	if notices := s.Notices(); len(notices) != 1 || !strings.Contains(notices[0].Message, launch.AttachVariable) {
		t.Errorf("notices %v", notices)
	}
	// A breakpoint: the process stands still for longer than an engine may.
	stopProcess(t, cmd.Process.Pid)
	answered := make(chan error, 1)
	go func() {
		_, err := s.Search(t.Context(), shared.SearchQuery{})
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("an answer from a process that stands still: %v", err)
	case <-time.After(7 * time.Second):
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the call over a breakpoint: %v", err)
	}
	if _, err := engine.Stop(t.Context(), elsewhere, time.Second); !errors.Is(err, shared.ReasonInvalidArgument) {
		t.Errorf("stop: %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
	if _, err := engine.Connect(t.Context(), elsewhere); !errors.Is(err, shared.ReasonEngineFailed) {
		t.Errorf("after its end: %v", err)
	}
	t.Setenv(launch.AttachVariable, "")
}

func TestProfilesHaveEnginesOfTheirOwn(t *testing.T) {
	cfg := config(t)
	work := cfg
	work.Profile = "work"
	t.Cleanup(func() {
		if _, err := engine.Stop(context.Background(), work, time.Second); err != nil {
			t.Error(err)
		}
	})
	a, infoA := connect(t, cfg)
	b, infoB := connect(t, work)
	if infoA.PID == infoB.PID {
		t.Fatal("one engine serves two profiles")
	}
	statusA, errA := a.Status(t.Context())
	statusB, errB := b.Status(t.Context())
	if err := errors.Join(errA, errB); err != nil || statusA.PeerID == statusB.PeerID || statusA.Publisher == statusB.Publisher {
		t.Errorf("%+v\n%+v\n%v", statusA, statusB, err)
	}
	if _, err := engine.Stop(t.Context(), work, time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Search(t.Context(), shared.SearchQuery{}); err != nil {
		t.Errorf("the other engine was stopped too: %v", err)
	}
}

// TestAForegroundPeerWithoutABackground is what Windows has.
func TestAForegroundPeerWithoutABackground(t *testing.T) {
	cfg := config(t)
	cfg.PerCommand = true
	if _, _, err := engine.Start(t.Context(), cfg); !errors.Is(err, shared.ReasonUnimplemented) {
		t.Fatalf("start: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	pid := 0
	err := engine.RunForeground(ctx, cfg, func(s *engine.Session) {
		info, err := s.Info(t.Context())
		if err != nil {
			t.Error(err)
		}
		pid = info.PID
		cancel()
	})
	if err != nil || pid == 0 {
		t.Fatal(pid, err)
	}
	eventually(t, "the engine is gone", func() bool { return syscall.Kill(pid, 0) != nil })
}
