package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/conformance"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// TestMain lets this binary be the engine that the tests start: the real main.
func TestMain(m *testing.M) {
	if os.Getenv("GGEN_TEST_ENGINE") != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestContract runs one table on the engine in this process, behind a gRPC pair,
// and in a process of its own.
func TestContract(t *testing.T) {
	t.Run("in process", func(t *testing.T) {
		conformance.Run(t, func(t *testing.T) shared.Marketplace { return inProcess(t) })
	})
	t.Run("behind gRPC", func(t *testing.T) {
		conformance.Run(t, func(t *testing.T) shared.Marketplace { return behindGRPC(t, inProcess(t)) })
	})
	t.Run("in a process of its own", func(t *testing.T) {
		conformance.Run(t, func(t *testing.T) shared.Marketplace { return spawned(t) })
	})
}

func inProcess(t *testing.T) *p2p.Engine {
	t.Helper()
	e, err := p2p.Open(t.Context(), p2p.Config{Home: t.TempDir(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Version: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// shortDir is a folder whose path leaves room for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func behindGRPC(t *testing.T, impl shared.Marketplace) *rpc.Client {
	t.Helper()
	socket := filepath.Join(shortDir(t), "s")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	life := newLife(0, true, func(bool) error { return nil })
	server := grpc.NewServer(append(append(rpc.ServerOptions(func(string, any, []byte) {}), life.serverOptions()...), peerCredentials()...)...)
	rpc.Register(server, impl, life)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	client, conn, err := rpc.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return client
}

func spawned(t *testing.T) *rpc.Client {
	t.Helper()
	home := shortDir(t)
	runDir := filepath.Join(home, "run")
	if err := os.Mkdir(runDir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, os.Args[0], "serve", "-home", home, "-run", runDir, "-listen", "/ip4/127.0.0.1/tcp/0")
	cmd.Env = append(os.Environ(), "GGEN_TEST_ENGINE=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	log, err := os.Create(filepath.Join(home, "engine.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // interrupted
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("engine's log:\n%s", text)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	answer, err := launch.ParseAnswer(line)
	if err != nil || answer.Error != nil {
		t.Fatalf("%s: %v", line, err)
	}
	client, conn, err := rpc.Dial(answer.State.Network, answer.State.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// panicking is a marketplace with a bug.
type panicking struct{ shared.Marketplace }

// Info implements shared.Marketplace.
func (panicking) Info(context.Context) (shared.EngineInfo, error) { panic("bug") }

// Watch implements shared.Marketplace.
func (panicking) Watch(context.Context, shared.WatchQuery, func(shared.Event) error) error {
	panic(fmt.Errorf("bug"))
}

func TestAPanicInAHandlerIsAnErrorOfThatCall(t *testing.T) {
	client := behindGRPC(t, panicking{inProcess(t)})
	if _, err := client.Info(t.Context()); shared.AsError(err).Reason != shared.ReasonInternal {
		t.Fatalf("info: %v", err)
	}
	if err := client.Watch(t.Context(), shared.WatchQuery{}, nil); shared.AsError(err).Reason != shared.ReasonInternal {
		t.Fatalf("watch: %v", err)
	}
	if _, err := client.Status(t.Context()); err != nil {
		t.Fatalf("the engine did not survive: %v", err)
	}
}
