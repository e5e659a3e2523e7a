//go:build linux

package engine_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ggen.dev/marketplace/host/engine"
	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
)

// next is the folder with a real engine of another version, and broken one with an
// engine that starts and has no marketplace worth its name.
var (
	next   = sync.OnceValues(func() (string, error) { return buildEngine("next", "0.2.0", 1, "") })
	broken = sync.OnceValues(func() (string, error) { return buildEngine("broken", "0.3.0", 1, "ggen_faults") })
)

// tarOf is a package as a tar stream.
func tarOf(t *testing.T, name, version string, size int) *bytes.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for path, text := range map[string]string{
		"package.toml": fmt.Sprintf("[package]\nname = %q\nversion = %q\ndescription = \"a load\"\n", name, version),
		"data.bin":     strings.Repeat(version+" ", size/len(version)),
	} {
		if err := w.WriteHeader(&tar.Header{Name: path, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(buf.Bytes())
}

// slowly reads as from a slow disk: a piece, and the next one a moment later.
type slowly struct {
	*bytes.Reader
	pause time.Duration
}

// Read implements io.Reader.
func (s slowly) Read(p []byte) (int, error) {
	<-time.After(s.pause)
	return s.Reader.Read(p[:min(len(p), 64<<10)])
}

func use(ctx context.Context, cfg engine.Config, version string) (bool, error) {
	change, err := plugins.Use(ctx, cfg.Search(), version)
	if err != nil {
		return false, err
	}
	return engine.Swap(ctx, cfg, change.Former)
}

// TestSwapsUnderLoad goes back and forth between two versions while everything
// that commands do goes on: no call may fail, nothing that was acknowledged may be
// lost.
func TestSwapsUnderLoad(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.PluginDirs = append(cfg.PluginDirs, folder(t, next))
	first, _ := connect(t, cfg)
	if _, err := first.Publish(t.Context(), shared.PublishRequest{RequestID: "a"}, tarOf(t, "wanted", "1.0.0", 100), nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load, ctx := errgroup.WithContext(ctx)
	var searches, installs, publishes atomic.Int64
	repeat := func(name string, count *atomic.Int64, work func(i int64) error) {
		load.Go(func() error {
			for ctx.Err() == nil {
				if err := work(count.Load()); err != nil {
					return fmt.Errorf("%s %d: %w", name, count.Load(), err)
				}
				count.Add(1)
			}
			return nil
		})
	}
	// As commands do: each connects. The work begun is finished, so not ctx.
	command := func(work func(*engine.Session) error) error {
		s, err := engine.Connect(t.Context(), cfg)
		if err != nil {
			return err
		}
		return errors.Join(work(s), s.Close())
	}
	repeat("search of a command", &searches, func(int64) error {
		return command(func(s *engine.Session) error {
			found, err := s.Search(t.Context(), shared.SearchQuery{Text: "wanted"})
			if err == nil && found.Total == 0 {
				err = errors.New("what was published is not found")
			}
			return err
		})
	})
	var kept atomic.Int64
	repeat("search of a long session", &kept, func(int64) error {
		_, err := first.Search(t.Context(), shared.SearchQuery{})
		return err
	})
	root := t.TempDir()
	repeat("install", &installs, func(i int64) error {
		return command(func(s *engine.Session) error {
			_, err := s.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "wanted"}}, Root: filepath.Join(root, fmt.Sprint(i%8)), Trust: true}, nil)
			return err
		})
	})
	repeat("publish", &publishes, func(i int64) error {
		return command(func(s *engine.Session) error {
			pause := 20 * time.Millisecond // 300 ms in all
			if i == 0 {
				pause = 200 * time.Millisecond // 3 s
			}
			tree := slowly{tarOf(t, "load", fmt.Sprintf("1.0.%d", i), 900<<10), pause}
			_, err := s.Publish(t.Context(), shared.PublishRequest{RequestID: fmt.Sprint("load", i)}, tree, nil)
			return err
		})
	})
	for i := range 20 {
		wanted := []string{"0.1.0", "0.2.0"}[(i+1)%2]
		// A session that comes back meanwhile may be faster: then this swaps nothing.
		if _, err := use(t.Context(), cfg, wanted); err != nil {
			t.Errorf("swap %d: %v", i, err)
			break
		}
		if runs := version(t, cfg); runs != wanted {
			t.Errorf("swap %d: engine %s runs, and not %s", i, runs, wanted)
		}
	}
	stop()
	if err := load.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d and %d searches, %d installs, %d publishes", searches.Load(), kept.Load(), installs.Load(), publishes.Load())
	details, err := first.Describe(t.Context(), shared.Ref{Name: "load"})
	if err != nil || len(details.Versions) != int(publishes.Load()) {
		t.Errorf("%d versions are there, %d were published, %v", len(details.Versions), publishes.Load(), err)
	}
}

func version(t *testing.T, cfg engine.Config) string {
	t.Helper()
	s, err := engine.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return info.Version
}

func TestASwapKeepsSettingsAndContent(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.PluginDirs = append(cfg.PluginDirs, folder(t, next))
	if _, err := plugins.Use(t.Context(), cfg.Search(), "0.1.0"); err != nil {
		t.Fatal(err)
	}
	s, _, err := engine.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	before, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := cfg // a command with other settings changes nothing
	other.Settings = engine.Settings{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}}
	if swapped, err := use(t.Context(), other, "0.2.0"); err != nil || !swapped {
		t.Fatal(swapped, err)
	}
	after, err := s.Status(t.Context())
	if err != nil || after.Version != "0.2.0" || !after.Staying || after.PeerID != before.PeerID || after.Publisher != before.Publisher || !strings.Contains(after.ListenAddresses[0], "/tcp/") {
		t.Fatalf("before %+v\nafter %+v, %v", before, after, err)
	}
}

// TestASwapThatFailsGoesBack for each way in which the new engine can be no good.
func TestASwapThatFailsGoesBack(t *testing.T) {
	bad := folder(t, broken)
	for name, fault := range map[string]string{"it answers garbage": "garbage", "it dies": "panic", "it ends": "exit"} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			cfg.PluginDirs = append(cfg.PluginDirs, bad)
			if _, err := plugins.Use(t.Context(), cfg.Search(), "0.1.0"); err != nil {
				t.Fatal(err)
			}
			s, _ := connect(t, cfg)
			if _, err := s.Publish(t.Context(), shared.PublishRequest{RequestID: "a"}, tarOf(t, "kept", "1.0.0", 100), nil); err != nil {
				t.Fatal(err)
			}
			t.Setenv("GGEN_FAULT", fault)
			_, err := use(t.Context(), cfg, "0.3.0")
			if err == nil || !strings.Contains(err.Error(), "0.3.0") {
				t.Fatalf("got %v", err)
			}
			t.Log(err)
			if found, err := s.Search(t.Context(), shared.SearchQuery{Text: "kept"}); err != nil || found.Total != 1 {
				t.Errorf("after: %+v, %v", found, err)
			}
			t.Setenv("GGEN_FAULT", "")
			if v := version(t, cfg); v != "0.1.0" {
				t.Errorf("engine %s runs", v)
			}
			if c, err := plugins.Choose(t.Context(), cfg.Search()); err != nil || c.Version != "0.1.0" {
				t.Errorf("plugins.lock chooses %s, %v", c.Version, err)
			}
		})
	}
}

func TestASwapWithoutARunningEngineTriesTheNewOne(t *testing.T) {
	cfg := config(t)
	cfg.PluginDirs = append(cfg.PluginDirs, folder(t, next))
	swapped, err := use(t.Context(), cfg, "0.1.0")
	if err != nil || swapped {
		t.Fatal(swapped, err)
	}
	if v := version(t, cfg); v != "0.1.0" {
		t.Errorf("engine %s runs", v)
	}
	if _, err := os.Stat(filepath.Join(cfg.Home, "plugins.lock")); err != nil {
		t.Error(err)
	}
}
