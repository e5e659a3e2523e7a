//go:build unix

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ggen.dev/marketplace/host/engine"
	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// built is the folder with the engine binary under test, made once.
var built string

// TestMain builds the real engine. With GGEN_TEST_CONNECT set, this binary is
// one of the processes that connect at the same time.
func TestMain(m *testing.M) {
	if home := os.Getenv("GGEN_TEST_CONNECT"); home != "" {
		os.Exit(connectAndPrint(home))
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ggen-engine")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built = dir
	path := filepath.Join(dir, binaryName("0.1.0", 1))
	if out, err := exec.Command("go", "build", "-o", path, "ggen.dev/marketplace/plugin").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build engine: %v\n%s", err, out)
		return 1
	}
	if err := writeChecksum(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func binaryName(version string, protocol int) string {
	return fmt.Sprintf("ggen-engine-marketplace_v%s_p%d_%s_%s", version, protocol, runtime.GOOS, runtime.GOARCH)
}

func writeChecksum(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path+".sha256", []byte(shared.DigestOf(data).Hex()+"  "+filepath.Base(path)+"\n"), 0o644)
}

func connectAndPrint(home string) int {
	s, err := engine.Connect(context.Background(), engine.Config{Home: home, PluginDirs: []string{os.Getenv("GGEN_TEST_PLUGINS")}, Settings: loopback(), PerCommand: os.Getenv("GGEN_TEST_PER_COMMAND") != ""})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer s.Close()
	info, err := s.Info(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(info.InstanceID)
	if os.Getenv("GGEN_TEST_STAY") != "" {
		fmt.Println(info.PID)
		select {} // until it is killed
	}
	return 0
}

func loopback() engine.Settings {
	return engine.Settings{Listen: []string{"/ip4/127.0.0.1/tcp/0"}}
}

// config is a fresh home whose engine ends with the test.
func config(t *testing.T) engine.Config {
	t.Helper()
	home, err := os.MkdirTemp("", "gg") // short: a socket lies below it
	if err != nil {
		t.Fatal(err)
	}
	cfg := engine.Config{Home: home, PluginDirs: []string{built}, Settings: loopback()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := engine.Stop(ctx, cfg, time.Second); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	return cfg
}

func connect(t *testing.T, cfg engine.Config) (*engine.Session, shared.EngineInfo) {
	t.Helper()
	s, err := engine.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatalf("info: %v", err)
	}
	return s, info
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

func TestTheSameEngineServesCommandAfterCommand(t *testing.T) {
	cfg := config(t)
	first, a := connect(t, cfg)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	_, b := connect(t, cfg)
	if a.InstanceID != b.InstanceID || a.PID == os.Getpid() {
		t.Fatalf("first %+v, then %+v", a, b)
	}
}

func TestTwentyColdCommandsStartOneEngine(t *testing.T) {
	cfg := config(t)
	const commands = 20
	outputs := make([]string, commands)
	var all sync.WaitGroup
	for i := range commands {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "GGEN_TEST_CONNECT="+cfg.Home, "GGEN_TEST_PLUGINS="+built)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("command %d: %v\n%s", i, err, out)
			}
			outputs[i] = strings.TrimSpace(string(out))
		})
	}
	all.Wait()
	for i, instance := range outputs {
		if instance == "" || instance != outputs[0] {
			t.Fatalf("command %d used engine %q, command 0 %q", i, instance, outputs[0])
		}
	}
}

func TestAKilledEngineIsReplaced(t *testing.T) {
	t.Run("between commands", func(t *testing.T) {
		cfg := config(t)
		s, a := connect(t, cfg)
		_ = s.Close()
		kill(t, a.PID, syscall.SIGKILL)
		if _, b := connect(t, cfg); a.InstanceID == b.InstanceID {
			t.Fatal("a dead engine answered")
		}
	})
	t.Run("under a session", func(t *testing.T) {
		cfg := config(t)
		s, a := connect(t, cfg)
		kill(t, a.PID, syscall.SIGKILL)
		result, err := s.Search(t.Context(), shared.SearchQuery{})
		if err != nil {
			t.Fatalf("search: %v, %+v", err, result)
		}
	})
	t.Run("one that was to stay comes back as it was, and says so", func(t *testing.T) {
		cfg := config(t)
		s, started, err := engine.Start(t.Context(), cfg)
		if err != nil || !started {
			t.Fatal(started, err)
		}
		before, err := s.Status(t.Context())
		if err != nil || !before.Staying {
			t.Fatal(before, err)
		}
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		kill(t, info.PID, syscall.SIGKILL)
		cfg.Settings = engine.Settings{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}} // another command's
		again, _ := connect(t, cfg)
		after, err := again.Status(t.Context())
		if err != nil || !after.Staying || after.PeerID != before.PeerID || !strings.Contains(after.ListenAddresses[0], "/tcp/") {
			t.Fatalf("before %+v\nafter %+v, %v", before, after, err)
		}
		if len(again.Notices()) != 1 {
			t.Fatalf("notices %v", again.Notices())
		}
	})
}

func TestStart(t *testing.T) {
	cfg := config(t)
	connect(t, cfg)
	t.Run("an engine with the same settings is kept", func(t *testing.T) {
		s, started, err := engine.Start(t.Context(), cfg)
		if err != nil || started {
			t.Fatal(started, err)
		}
		defer s.Close()
		if status, err := s.Status(t.Context()); err != nil || !status.Staying {
			t.Fatal(status, err)
		}
	})
	t.Run("one with others is replaced", func(t *testing.T) {
		cfg.Settings.DHTServer = true
		s, started, err := engine.Start(t.Context(), cfg)
		if err != nil || !started {
			t.Fatal(started, err)
		}
		_ = s.Close()
	})
	t.Run("and stopped", func(t *testing.T) {
		stopped, err := engine.Stop(t.Context(), cfg, time.Second)
		if err != nil || !stopped {
			t.Fatal(stopped, err)
		}
		if _, err := engine.Attach(t.Context(), cfg); !errors.Is(err, engine.ErrNotRunning) {
			t.Fatal(err)
		}
		if stopped, err := engine.Stop(t.Context(), cfg, time.Second); err != nil || stopped {
			t.Fatal(stopped, err)
		}
	})
}

func TestAnEngineThatCannotListenSaysSo(t *testing.T) {
	busy := config(t)
	s, _ := connect(t, busy)
	status, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	taken, _, _ := strings.Cut(status.ListenAddresses[0], "/p2p/")
	cfg := config(t)
	cfg.Settings.Listen = []string{taken}
	if _, _, err := engine.Start(t.Context(), cfg); !errors.Is(err, shared.ReasonAddressInUse) {
		t.Fatalf("got %v", err)
	}
}

func TestAProjectsEngineNeedsConsent(t *testing.T) {
	cfg := config(t)
	cfg.PluginDirs = nil
	cfg.Project = t.TempDir()
	dir := filepath.Join(cfg.Project, ".ggen", "plugins")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	evil, ran := filepath.Join(dir, binaryName("99.0.0", 1)), filepath.Join(cfg.Project, "ran")
	if err := os.WriteFile(evil, []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeChecksum(evil); err != nil {
		t.Fatal(err)
	}
	_, err := engine.Connect(t.Context(), cfg)
	if !errors.Is(err, shared.ReasonEngineInvalid) || !strings.Contains(err.Error(), plugins.ProjectVariable) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(ran); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("a program of the project was run")
	}
}

func TestAnEngineForOneCommandDoesNotOutliveAKilledHost(t *testing.T) {
	cfg := config(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "GGEN_TEST_CONNECT="+cfg.Home, "GGEN_TEST_PLUGINS="+built, "GGEN_TEST_STAY=1", "GGEN_TEST_PER_COMMAND=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var instance string
	var pid int
	if _, err := fmt.Fscan(out, &instance, &pid); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, "the engine has noticed", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

func TestAnIdleEngineStopsByItself(t *testing.T) {
	cfg := config(t)
	cfg.Settings.IdleStop = 2 * time.Second // longer than a busy machine takes to connect
	s, info := connect(t, cfg)
	if _, err := s.Info(t.Context()); err != nil {
		t.Fatalf("it stopped under a connection: %v", err)
	}
	_ = s.Close()
	// Looking at the process, since asking the engine would keep it alive.
	eventually(t, "the idle engine is gone", func() bool { return errors.Is(syscall.Kill(info.PID, 0), syscall.ESRCH) })
	if _, err := engine.Attach(t.Context(), cfg); !errors.Is(err, engine.ErrNotRunning) {
		t.Fatal(err)
	}
	if _, left := launch.ReadState(filepath.Join(cfg.Home, "run")); left {
		t.Fatal("it left its state behind")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

func TestBinariesThatAreNoEngine(t *testing.T) {
	script := func(t *testing.T, dir, name, body string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(body), mode); err != nil {
			t.Fatal(err)
		}
		if err := writeChecksum(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name   string
		put    func(t *testing.T, dir string)
		reason shared.Reason
		says   string
	}{
		{"none", func(*testing.T, string) {}, shared.ReasonEngineNotFound, "no marketplace engine"},
		{"no program", func(t *testing.T, dir string) { script(t, dir, binaryName("0.1.0", 1), "\x00\x01", 0o755) }, shared.ReasonEngineInvalid, "start the engine"},
		{"prints garbage", func(t *testing.T, dir string) {
			script(t, dir, binaryName("0.1.0", 1), "#!/bin/sh\necho hello; sleep 60\n", 0o755)
		}, shared.ReasonEngineFailed, "does not answer like an engine"},
		{"ends at once", func(t *testing.T, dir string) {
			script(t, dir, binaryName("0.1.0", 1), "#!/bin/sh\necho bad luck >&2; exit 3\n", 0o755)
		}, shared.ReasonEngineFailed, "ended without an answer"},
		{"foreign protocol", func(t *testing.T, dir string) { script(t, dir, binaryName("0.1.0", 7), "x", 0o755) }, shared.ReasonEngineProtocol, "protocol 7"},
		{"changed after its checksum was made", func(t *testing.T, dir string) {
			script(t, dir, binaryName("0.1.0", 1), "#!/bin/sh\n", 0o755)
			if err := os.WriteFile(filepath.Join(dir, binaryName("0.1.0", 1)), []byte("#!/bin/sh\nevil\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, shared.ReasonEngineInvalid, "not what its checksum says"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := config(t)
			dir := t.TempDir()
			cfg.PluginDirs = []string{dir}
			tc.put(t, dir)
			_, err := engine.Connect(t.Context(), cfg)
			if !errors.Is(err, tc.reason) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %s with %q", err, tc.reason, tc.says)
			}
		})
	}
}

func TestARunFolderThatIsOpenToOthersIsRefused(t *testing.T) {
	cfg := config(t)
	run := filepath.Join(cfg.Home, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(run, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Connect(t.Context(), cfg); !errors.Is(err, shared.ReasonStorage) || !strings.Contains(err.Error(), "open to others") {
		t.Fatalf("got %v", err)
	}
	if err := os.Chmod(run, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestALongHomeHasAShortSocket(t *testing.T) {
	cfg := config(t)
	cfg.Home = filepath.Join(cfg.Home, strings.Repeat("long", 40))
	t.Cleanup(func() {
		if _, err := engine.Stop(context.Background(), cfg, time.Second); err != nil {
			t.Error(err)
		}
	})
	if _, info := connect(t, cfg); info.PID == 0 {
		t.Fatal(info)
	}
}

func TestAnotherUserCannotConnect(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	cfg := config(t)
	connect(t, cfg)
	state, ok := launch.ReadState(filepath.Join(cfg.Home, "run"))
	if !ok {
		t.Fatal("no state")
	}
	// Even with the folders wide open the engine looks at who is calling.
	for _, dir := range []string{cfg.Home, filepath.Join(cfg.Home, "run")} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := os.Chmod(filepath.Join(cfg.Home, "run"), 0o700); err != nil {
			t.Fatal(err)
		}
	}()
	if err := os.Chmod(state.Address, 0o777); err != nil {
		t.Fatal(err)
	}
	// Sends an HTTP/2 preface as nobody; an engine that takes it answers with settings.
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `command -v python3 >/dev/null || exit 77
python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
s.connect(sys.argv[1])
try:
    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0,0,0,4,0,0,0,0,0]))
    print(len(s.recv(100)))
except (ConnectionResetError, BrokenPipeError):
    print(0)
' "$0"`, state.Address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 77 {
		t.Skip("needs python3 to speak as another user")
	}
	if err != nil || strings.TrimSpace(string(out)) != "0" {
		t.Fatalf("another user was answered: %s, %v", out, err)
	}
}

func TestAnEngineOfItsOwnForOneCommand(t *testing.T) {
	cfg := config(t)
	cfg.PerCommand = true
	s, a := connect(t, cfg)
	if _, err := s.Search(t.Context(), shared.SearchQuery{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(a.PID, 0); !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("the engine %d outlives its command: %v", a.PID, err)
	}
	if _, b := connect(t, cfg); a.InstanceID == b.InstanceID {
		t.Fatal("two commands shared an engine")
	}
}
