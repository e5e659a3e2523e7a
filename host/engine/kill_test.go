//go:build linux

package engine_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ggen.dev/marketplace/host/engine"
	"ggen.dev/marketplace/shared"
)

// TestAHostThatIsKilledLeavesNothingStale kills commands at any moment of their
// start; whatever they left, the next command works with one engine.
func TestAHostThatIsKilledLeavesNothingStale(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for range 25 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "GGEN_TEST_CONNECT="+cfg.Home, "GGEN_TEST_PLUGINS="+built, "GGEN_TEST_STAY=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(random.IntN(60)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if random.IntN(3) == 0 {
			if _, err := engine.Stop(t.Context(), cfg, time.Second); err != nil {
				t.Fatalf("seed %d: stop: %v", seed, err)
			}
		}
	}
	s, info := connect(t, cfg)
	for _, notice := range s.Notices() {
		t.Errorf("seed %d: %s", seed, notice.Message)
	}
	again, second := connect(t, cfg)
	_ = again.Close()
	if info.InstanceID != second.InstanceID {
		t.Errorf("seed %d: two engines", seed)
	}
}

// TestNobodyElseCanPrepareTheSocket: whoever owns the folder of the socket could
// put one of their own there.
func TestNobodyElseCanPrepareTheSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make folders of other users")
	}
	for name, prepare := range map[string]func(run string) error{
		"a folder of another user": func(run string) error {
			if err := os.MkdirAll(run, 0o700); err != nil {
				return err
			}
			return os.Chown(run, 65534, 65534)
		},
		"a link to elsewhere": func(run string) error { return os.Symlink(t.TempDir(), run) },
	} {
		t.Run(name, func(t *testing.T) {
			home, err := os.MkdirTemp("", "gg")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(home) })
			if err := prepare(filepath.Join(home, "run")); err != nil {
				t.Fatal(err)
			}
			_, err = engine.Connect(t.Context(), engine.Config{Home: home, PluginDirs: []string{built}, Settings: loopback()})
			if shared.AsError(err) == nil || shared.AsError(err).Reason != shared.ReasonStorage {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// dying kills an engine when part of a package was read, once.
type dying struct {
	io.ReadSeeker
	t    *testing.T
	pid  int
	left int // bytes until it dies; negative: it is dead
}

// Read implements io.Reader.
func (d *dying) Read(p []byte) (int, error) {
	n, err := d.ReadSeeker.Read(p)
	if d.left >= 0 {
		if d.left -= n; d.left < 0 {
			kill(d.t, d.pid, syscall.SIGKILL)
		}
	}
	return n, err
}

// TestAPublishIsExecutedOnce although its engine is killed before, during and
// after the work: the session repeats it on the next engine, with its request ID.
func TestAPublishIsExecutedOnce(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	const size = 2 << 20
	tree := func(i int) io.ReadSeeker { return tarOf(t, fmt.Sprintf("once%d", i), "1.0.0", size) }
	for i, left := range []int{0, size / 2, size} {
		s, info := connect(t, cfg)
		before := logSize(t, s, i)
		receipt, err := s.Publish(t.Context(), shared.PublishRequest{RequestID: fmt.Sprint("r", i)}, &dying{tree(i), t, info.PID, left}, nil)
		if err != nil {
			t.Fatalf("killed after %d bytes: %v", left, err)
		}
		if after := logSize(t, s, i+1); receipt.LogSize != before+1 || after != before+1 {
			t.Errorf("killed after %d bytes: the log grew from %d to %d, and the receipt says %d", left, before, after, receipt.LogSize)
		}
		again, err := s.Publish(t.Context(), shared.PublishRequest{RequestID: fmt.Sprint("r", i)}, tree(i), nil)
		if err != nil || again.LogSize != receipt.LogSize || again.Digest != receipt.Digest {
			t.Errorf("the same request again: %+v, %v", again, err)
		}
		_ = s.Close()
		if _, err := engine.Stop(t.Context(), cfg, time.Second); err != nil { // gives the restart budget back
			t.Fatal(err)
		}
	}
}

// logSize is the number of releases that are there.
func logSize(t *testing.T, s *engine.Session, want int) int64 {
	t.Helper()
	found, err := s.Search(t.Context(), shared.SearchQuery{})
	if err != nil || found.Total != want {
		t.Errorf("%d packages, want %d, %v", found.Total, want, err)
	}
	return int64(found.Total)
}
