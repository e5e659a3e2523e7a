package p2p_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// openSmall opens a peer that keeps little.
func openSmall(t *testing.T, home string, bounds p2p.CacheConfig, bootstrap ...string) *p2p.Engine {
	t.Helper()
	e, err := p2p.Open(t.Context(), p2p.Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}, Bootstrap: bootstrap, Cache: bounds})
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

func installInto(t *testing.T, e *p2p.Engine, root, name string) shared.InstalledPackage {
	t.Helper()
	knows(t, e, name)
	receipt, err := e.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: name}}, Root: root, Trust: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return receipt.Packages[0]
}

func cacheStats(t *testing.T, e *p2p.Engine) shared.CacheStats {
	t.Helper()
	stats, err := e.CacheStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

func TestWhatStaysOnDisk(t *testing.T) {
	a := open(t, t.TempDir())
	for _, name := range []string{"installed", "pinned", "old", "new"} {
		large(t, a, name)
	}
	const room = 7 << 20 // for two packages
	home := t.TempDir()
	b := openSmall(t, home, p2p.CacheConfig{Size: room}, address(t, a))
	connected(t, b, 1)
	root := t.TempDir()
	installInto(t, b, root, "installed")
	knows(t, b, "pinned", "old", "new")
	pin, err := b.PinContent(t.Context(), shared.PinRequest{Packages: []shared.Ref{{Name: "pinned"}}}, nil)
	if err != nil || pin.Fetched < 3<<20 {
		t.Fatalf("%+v, %v", pin, err)
	}
	for _, name := range []string{"old", "new"} {
		gone := t.TempDir()
		installInto(t, b, gone, name)
		if err := os.RemoveAll(filepath.Join(gone, name)); err != nil {
			t.Fatal(err)
		}
		// The one was wanted an hour before the other.
		if name == "old" {
			age(t, home, time.Hour)
		}
	}
	stats := cacheStats(t, b)
	if stats.Installed.Packages != 1 || stats.Pinned.Packages != 1 || stats.Other.Packages != 2 || stats.Limit != room {
		t.Fatalf("%+v", stats)
	}
	// A third one is too much: what nobody has wanted for longest goes, and nothing else.
	large(t, a, "third")
	gone := t.TempDir()
	installInto(t, b, gone, "third")
	if err := os.RemoveAll(filepath.Join(gone, "third")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.UnpinContent(t.Context(), shared.Ref{Name: "old"}); !errors.Is(err, shared.ReasonNotFound) {
		t.Fatal(err)
	}
	installInto(t, b, root, "installed") // which asks for a sweep
	eventually(t, "the oldest goes", func() bool { return cacheStats(t, b).Other.Packages == 2 })
	offline := func(name string) error {
		gone := t.TempDir()
		_, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: name}}, Root: gone, Trust: true, Offline: true}, nil)
		return errors.Join(err, os.RemoveAll(filepath.Join(gone, name)))
	}
	for _, name := range []string{"installed", "pinned", "new", "third"} {
		if err := offline(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := offline("old"); !errors.Is(err, shared.ReasonOffline) {
		t.Errorf("the oldest: %v", err)
	}

	t.Run("clean names what stays, and removes the rest", func(t *testing.T) {
		refs := []shared.Ref{{Name: "installed"}, {Name: "pinned"}}
		receipt, err := b.CleanCache(t.Context(), shared.CleanRequest{Packages: refs})
		if err != nil || receipt.Bytes != 0 || len(receipt.Diagnostics) != 2 ||
			!strings.Contains(receipt.Diagnostics[0].Message, "installed on this machine") || !strings.Contains(receipt.Diagnostics[1].Message, "pinned") {
			t.Fatalf("%+v, %v", receipt, err)
		}
		dry, err := b.CleanCache(t.Context(), shared.CleanRequest{DryRun: true})
		if err != nil || len(dry.Packages) == 0 {
			t.Fatalf("%+v, %v", dry, err)
		}
		if young, err := b.CleanCache(t.Context(), shared.CleanRequest{Unused: time.Minute}); err != nil || young.Bytes != 0 {
			t.Fatalf("%+v, %v", young, err)
		}
		wet, err := b.CleanCache(t.Context(), shared.CleanRequest{})
		if err != nil || wet.Bytes != dry.Bytes || cacheStats(t, b).Other.Bytes != 0 {
			t.Fatalf("%+v, %v", wet, err)
		}
	})
	t.Run("verify drops what is damaged, and it is fetched again", func(t *testing.T) {
		damage(t, home, 1<<20)
		report, err := b.VerifyCache(t.Context(), nil)
		if err != nil || len(report.Damaged) != 2 || report.Damaged[0].Name == "" || report.Damaged[0].Own {
			t.Fatalf("%+v, %v", report, err)
		}
		if again, err := b.VerifyCache(t.Context(), nil); err != nil || len(again.Damaged) != 0 {
			t.Fatalf("%+v, %v", again, err)
		}
		if got := installInto(t, b, t.TempDir(), "pinned"); got.Fetched == 0 {
			t.Error("nothing was fetched")
		}
	})
	t.Run("what is unpinned may go", func(t *testing.T) {
		if released, err := b.UnpinContent(t.Context(), shared.Ref{Name: "pinned", Constraint: "^1"}); err != nil || len(released) != 1 {
			t.Fatalf("%+v, %v", released, err)
		}
		if stats := cacheStats(t, b); len(stats.Pins) != 0 || stats.Pinned.Packages != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

// age makes everything that a home holds older.
func age(t *testing.T, home string, by time.Duration) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "content", "blobs", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, info.ModTime().Add(-by), info.ModTime().Add(-by)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatNobodyWantsForAWeekGoes(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "other", "1.0.0")
	home := t.TempDir()
	b := openSmall(t, home, p2p.CacheConfig{Lifetime: time.Hour}, address(t, a))
	connected(t, b, 1)
	publish(t, b, "own", "1.0.0")
	gone := t.TempDir()
	installInto(t, b, gone, "other")
	if err := os.RemoveAll(filepath.Join(gone, "other")); err != nil {
		t.Fatal(err)
	}
	age(t, home, 2*time.Hour)
	publish(t, a, "another", "1.0.0")
	installInto(t, b, t.TempDir(), "another") // which asks for a sweep
	eventually(t, "it goes", func() bool { return cacheStats(t, b).Other.Packages == 0 })
	if stats := cacheStats(t, b); stats.Published.Packages != 1 || stats.Installed.Packages != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestProvidersAreRemembered(t *testing.T) {
	a := open(t, t.TempDir())
	b := open(t, t.TempDir(), address(t, a))
	connected(t, b, 1)
	publish(t, a, "wanted", "1.0.0")
	installInto(t, b, t.TempDir(), "wanted")
	if _, err := b.CleanCache(t.Context(), shared.CleanRequest{}); err != nil {
		t.Fatal(err)
	}
	hits := func() (n int64) {
		for _, tier := range cacheStats(t, b).Tiers[:2] {
			n += tier.Hits
		}
		return n
	}
	before := hits()
	installInto(t, b, t.TempDir(), "wanted")
	if hits() == before {
		t.Error("nothing was found in memory")
	}
}
