package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
)

func TestInstall(t *testing.T) {
	for _, tc := range []struct {
		name   string
		put    func(t *testing.T, s plugins.Search, from string) (file, sum string)
		reason shared.Reason
		says   string
	}{
		{"with its checksum file", func(t *testing.T, _ plugins.Search, from string) (string, string) {
			return put(t, from, "1.0.0", 2, here, "a"), ""
		}, "", ""},
		{"with a sum", func(t *testing.T, _ plugins.Search, from string) (string, string) {
			path := put(t, from, "1.0.0", 2, here, "a")
			remove(t, path+".sha256")
			return path, strings.ToUpper(shared.DigestOf([]byte("a")).Hex())
		}, "", ""},
		{"for another platform", func(t *testing.T, _ plugins.Search, from string) (string, string) {
			return put(t, from, "1.0.0", 2, elsewhere, "a"), ""
		}, "", "it is for"},
		{"again", func(t *testing.T, s plugins.Search, from string) (string, string) {
			put(t, filepath.Join(s.Home, "plugins"), "1.0.0", 2, here, "a")
			return put(t, from, "1.0.0", 2, here, "a"), ""
		}, "", ""},
		{"over one that is damaged", func(t *testing.T, s plugins.Search, from string) (string, string) {
			put(t, from, "1.0.0", 2, here, "a")
			write(t, put(t, filepath.Join(s.Home, "plugins"), "1.0.0", 2, here, "a"), "damaged", 0o755)
			return filepath.Join(from, engineName("1.0.0", 2, here)), ""
		}, "", ""},
		{"over another file", func(t *testing.T, s plugins.Search, from string) (string, string) {
			put(t, filepath.Join(s.Home, "plugins"), "1.0.0", 2, here, "b")
			return put(t, from, "1.0.0", 2, here, "a"), ""
		}, shared.ReasonEngineInvalid, "plugin remove 1.0.0"},
		{"another file than ran before", func(t *testing.T, s plugins.Search, from string) (string, string) {
			path := put(t, s.Dirs[0], "1.0.0", 2, here, "b")
			choose(t, s)
			remove(t, path)
			return put(t, from, "1.0.0", 2, here, "a"), ""
		}, shared.ReasonEngineInvalid, "plugins.lock"},
		{"without a checksum", func(t *testing.T, _ plugins.Search, from string) (string, string) {
			path := put(t, from, "1.0.0", 2, here, "a")
			remove(t, path+".sha256")
			return path, ""
		}, shared.ReasonEngineInvalid, "--sha256"},
		{"with another sum", func(t *testing.T, _ plugins.Search, from string) (string, string) {
			return put(t, from, "1.0.0", 2, here, "a"), shared.DigestOf([]byte("b")).Hex()
		}, shared.ReasonEngineInvalid, string(shared.DigestOf([]byte("b")))},
		{"with a sum that is none", func(t *testing.T, _ plugins.Search, from string) (string, string) {
			return put(t, from, "1.0.0", 2, here, "a"), "c0ffee"
		}, shared.ReasonInvalidArgument, "SHA-256"},
		{"a name that is none", func(t *testing.T, _ plugins.Search, from string) (string, string) {
			write(t, filepath.Join(from, "engine"), "a", 0o755)
			return filepath.Join(from, "engine"), ""
		}, shared.ReasonInvalidArgument, "not named like an engine"},
		{"nothing", func(_ *testing.T, _ plugins.Search, from string) (string, string) {
			return filepath.Join(from, engineName("1.0.0", 2, here)), ""
		}, shared.ReasonInvalidArgument, "no such file"},
		{"a folder", func(t *testing.T, _ plugins.Search, from string) (string, string) {
			path := filepath.Join(from, engineName("1.0.0", 2, here))
			write(t, filepath.Join(path, "x"), "a", 0o755)
			return path, shared.DigestOf([]byte("b")).Hex()
		}, shared.ReasonInvalidArgument, "is not a file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := search(t)
			file, sum := tc.put(t, s, t.TempDir())
			before := listing(t, filepath.Join(s.Home, "plugins"))
			installed, err := plugins.Install(t.Context(), s, file, sum)
			after := listing(t, filepath.Join(s.Home, "plugins"))
			if tc.reason != "" {
				refused(t, err, tc.reason, tc.says)
				if before != after {
					t.Fatalf("a refused engine has changed the folder from\n%s\nto\n%s", before, after)
				}
				return
			}
			if err != nil || !strings.Contains(installed.Why, tc.says) || installed.Used != (tc.says == "") {
				t.Fatalf("installed %+v, %v", installed, err)
			}
			if read(t, installed.Path) != "a" || !strings.HasPrefix(read(t, installed.Path+".sha256"), shared.DigestOf([]byte("a")).Hex()) || strings.Count(after, "\n") != 2 {
				t.Fatalf("the folder holds\n%s", after)
			}
			if info, err := os.Stat(installed.Path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o755 {
				t.Fatalf("%v, %v", info.Mode(), err)
			}
			if tc.says == "" {
				choose(t, s)
			}
		})
	}
}

// listing names the files of a folder with their content.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, entry := range entries {
		fmt.Fprintf(&b, "%s %q\n", entry.Name(), read(t, filepath.Join(dir, entry.Name())))
	}
	return b.String()
}

func TestWhatAnInstallReplacesCanBeRolledBackTo(t *testing.T) {
	s := search(t)
	for _, version := range []string{"1.0.0", "1.1.0"} {
		if _, err := plugins.Install(t.Context(), s, put(t, t.TempDir(), version, 2, here, version), ""); err != nil {
			t.Fatal(err)
		}
	}
	back, err := plugins.Rollback(t.Context(), s)
	if err != nil || back.Old.Version != "1.1.0" || back.New.Version != "1.0.0" {
		t.Fatalf("%+v, %v", back, err)
	}
	if c := choose(t, s); c.Version != "1.0.0" {
		t.Fatalf("chose %s", c.Version)
	}
	_, err = plugins.Rollback(t.Context(), s)
	refused(t, err, shared.ReasonNotFound, "plugin use")
}

func TestUse(t *testing.T) {
	s := search(t)
	for _, version := range []string{"1.0.0", "2.0.0", "3.0.0"} {
		put(t, s.Dirs[0], version, 2, here, version)
	}
	put(t, s.Dirs[0], "4.0.0", 1, here, "a")
	put(t, s.Dirs[0], "5.0.0", 2, elsewhere, "a")
	write(t, put(t, s.Dirs[0], "0.1.0", 2, here, "a"), "b", 0o755)
	use := func(t *testing.T, version, old string) plugins.Change {
		t.Helper()
		done, err := plugins.Use(t.Context(), s, version)
		if err != nil || done.Old.Version != old || done.New.Version != strings.TrimPrefix(version, "v") || choose(t, s).Version != done.New.Version {
			t.Fatalf("%+v, %v", done, err)
		}
		return done
	}
	use(t, "1.0.0", "3.0.0")
	use(t, "v1.0.0", "1.0.0")
	done := use(t, "2.0.0", "1.0.0")
	if done.Former.Use != "1.0.0" || !slices.Equal(done.Former.Previous, []string{"3.0.0"}) {
		t.Fatalf("former %+v", done.Former)
	}
	lock := read(t, filepath.Join(s.Home, "plugins.lock"))
	if !strings.Contains(lock, "use = \"2.0.0\"\nprevious = [\"3.0.0\", \"1.0.0\"]\n") {
		t.Fatalf("plugins.lock is\n%s", lock)
	}
	t.Run("what cannot be used changes nothing", func(t *testing.T) {
		for version, want := range map[string]struct {
			reason shared.Reason
			says   string
		}{
			"0.1.0": {shared.ReasonEngineInvalid, "not what its checksum says"},
			"4.0.0": {shared.ReasonEngineProtocol, "protocol 1"},
			"5.0.0": {shared.ReasonEngineNotFound, "plugin install"},
			"6.0.0": {shared.ReasonEngineNotFound, "plugin install"},
			"new":   {shared.ReasonInvalidArgument, "not a version"},
		} {
			_, err := plugins.Use(t.Context(), s, version)
			refused(t, err, want.reason, want.says)
		}
		if now := read(t, filepath.Join(s.Home, "plugins.lock")); now != lock {
			t.Fatalf("plugins.lock is\n%s", now)
		}
	})
	t.Run("a former choice comes back", func(t *testing.T) {
		if err := plugins.Restore(t.Context(), s, done.Former); err != nil || choose(t, s).Version != "1.0.0" {
			t.Fatal(err)
		}
		use(t, "2.0.0", "1.0.0")
	})
	t.Run("back step by step", func(t *testing.T) {
		for _, want := range []string{"1.0.0", "3.0.0"} {
			if back, err := plugins.Rollback(t.Context(), s); err != nil || back.New.Version != want {
				t.Fatalf("%+v, %v", back, err)
			}
		}
	})
	t.Run("at most ten are remembered", func(t *testing.T) {
		for i := range 20 {
			now := choose(t, s).Version
			use(t, []string{"1.0.0", "2.0.0"}[i%2], now)
		}
		if lock := read(t, filepath.Join(s.Home, "plugins.lock")); strings.Count(strings.SplitN(lock, "[[", 2)[0], ".0.0\"") != 11 {
			t.Fatalf("plugins.lock is\n%s", lock)
		}
	})
	t.Run("one that is yet to be asked for its protocols", func(t *testing.T) {
		path := put(t, s.Dirs[0], "9.0.0", 9, here, "a")
		done, err := plugins.Use(t.Context(), s, "9.0.0")
		if err != nil || done.New.Path != path {
			t.Fatalf("%+v, %v", done, err)
		}
		if err := plugins.Check(t.Context(), s, done.New); err != nil { // as before it is asked
			t.Fatal(err)
		}
		_, err = plugins.Choose(t.Context(), s)
		refused(t, err, shared.ReasonEngineProtocol, "unknown")
		knowing := s
		knowing.Facts = func(c plugins.Candidate) ([]int, bool) { return []int{3, 9}, c.Digest == done.New.Digest }
		if c := choose(t, knowing); c.Path != path {
			t.Fatalf("chose %+v", c)
		}
		if err := plugins.Restore(t.Context(), s, done.Former); err != nil {
			t.Fatal(err)
		}
		found, err := plugins.Find(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range found { // plugins.lock allows one version to run, if only to be asked
			if err := plugins.Check(t.Context(), s, c); (err == nil) != (c.Used || c.Version == done.Old.Version) {
				t.Errorf("%s: %v", c.Version, err)
			}
		}
	})
	t.Run("a project decides for itself", func(t *testing.T) {
		p := inProject(t, s)
		write(t, filepath.Join(p.Project, "plugins.lock"), "schema = 1\nuse = \"1.0.0\"\n", 0o644)
		_, err := plugins.Use(t.Context(), p, "2.0.0")
		refused(t, err, shared.ReasonLockfile, "pin --remove")
	})
}

func TestPin(t *testing.T) {
	s := inProject(t, search(t))
	put(t, s.Dirs[0], "1.0.0", 2, here, "a")
	put(t, s.Dirs[1], "1.0.0", 2, here, "not looked at")
	put(t, s.Dirs[1], "1.0.0", 2, elsewhere, "b")
	put(t, s.Dirs[1], "0.9.0", 2, here, "c")
	remove(t, put(t, s.Dirs[1], "1.0.0", 2, "windows_arm64", "d")+".sha256")
	platforms := []string{here, elsewhere}
	slices.Sort(platforms)
	pinned, err := plugins.Pin(t.Context(), s)
	if err != nil || pinned.Version != "1.0.0" || pinned.File != filepath.Join(s.Project, "plugins.lock") || !slices.Equal(pinned.Platforms, platforms) {
		t.Fatalf("%+v, %v", pinned, err)
	}
	lock := read(t, pinned.File)
	if again, err := plugins.Pin(t.Context(), s); err != nil || again.Version != "1.0.0" || read(t, pinned.File) != lock {
		t.Fatalf("%+v, %v, plugins.lock is\n%s", again, err, read(t, pinned.File))
	}
	t.Run("a newer one is not used", func(t *testing.T) {
		put(t, s.Dirs[0], "2.0.0", 2, here, "a")
		if c := choose(t, s); c.Version != "1.0.0" {
			t.Fatalf("chose %s", c.Version)
		}
	})
	t.Run("the other platform's file is held to it", func(t *testing.T) {
		put(t, s.Dirs[1], "1.0.0", 2, elsewhere, "evil")
		_, err := plugins.Pin(t.Context(), s)
		refused(t, err, shared.ReasonEngineInvalid, "plugins.lock")
		write(t, put(t, s.Dirs[1], "1.0.0", 2, elsewhere, "b"), "evil", 0o755)
		_, err = plugins.Pin(t.Context(), s)
		refused(t, err, shared.ReasonEngineInvalid, "not what its checksum says")
	})
	t.Run("until it is unpinned", func(t *testing.T) {
		free, err := plugins.Unpin(t.Context(), s)
		if err != nil || free.Version != "1.0.0" || choose(t, s).Version != "2.0.0" {
			t.Fatalf("%+v, %v", free, err)
		}
		if want := strings.ReplaceAll(lock, "use = \"1.0.0\"\n", ""); read(t, free.File) != want {
			t.Fatalf("plugins.lock is\n%s\nwant\n%s", read(t, free.File), want)
		}
		if free, err := plugins.Unpin(t.Context(), s); err != nil || free.Version != "" {
			t.Fatalf("%+v, %v", free, err)
		}
	})
	t.Run("outside of a project the home's", func(t *testing.T) {
		s.Project = ""
		if pinned, err := plugins.Pin(t.Context(), s); err != nil || pinned.File != filepath.Join(s.Home, "plugins.lock") || pinned.Version != "2.0.0" {
			t.Fatalf("%+v, %v", pinned, err)
		}
	})
}

func TestAProjectsLockCannotLeadElsewhere(t *testing.T) {
	s := inProject(t, search(t))
	put(t, s.Dirs[0], "1.0.0", 2, here, "a")
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, "schema = 1\n", 0o644)
	if err := os.Symlink(outside, filepath.Join(s.Project, "plugins.lock")); err != nil {
		t.Skip(err)
	}
	_, err := plugins.Pin(t.Context(), s)
	refused(t, err, shared.ReasonStorage, "plugins.lock")
	if read(t, outside) != "schema = 1\n" {
		t.Fatal("a file outside of the project was written")
	}
}

func TestRemove(t *testing.T) {
	s := search(t)
	home := filepath.Join(s.Home, "plugins")
	for _, version := range []string{"1.0.0", "2.0.0", "3.0.0"} {
		put(t, home, version, 2, here, version)
		put(t, home, version, 2, elsewhere, version)
	}
	write(t, filepath.Join(home, engineName("1.0.0", 2, here)+".minisig"), "x", 0o644)
	put(t, s.Dirs[0], "0.9.0", 2, here, "a")
	if _, err := plugins.Use(t.Context(), s, "2.0.0"); err != nil {
		t.Fatal(err)
	}
	if _, err := plugins.Use(t.Context(), s, "3.0.0"); err != nil {
		t.Fatal(err)
	}
	for version, reason := range map[string]shared.Reason{
		"3.0.0": shared.ReasonInvalidArgument, "0.9.0": shared.ReasonNotFound, "8.0.0": shared.ReasonNotFound, "../x": shared.ReasonInvalidArgument,
	} {
		_, err := plugins.Remove(t.Context(), s, version)
		refused(t, err, reason)
	}
	for _, version := range []string{"1.0.0", "2.0.0"} {
		if removed, err := plugins.Remove(t.Context(), s, version); err != nil || len(removed) != 2 {
			t.Fatalf("%v, %v", removed, err)
		}
	}
	if left := listing(t, home); strings.Count(left, "\nggen-")+1 != 4 || strings.Contains(left, "v1.") || strings.Contains(left, "v2.") {
		t.Fatalf("left\n%s", left)
	}
	if lock := read(t, filepath.Join(s.Home, "plugins.lock")); !strings.Contains(lock, "previous = [\"3.0.0\"]") {
		t.Fatalf("plugins.lock is\n%s", lock)
	}
}

// TestTwoGgensChangeTheEnginesInTurn loses nothing that either has written.
func TestTwoGgensChangeTheEnginesInTurn(t *testing.T) {
	s := search(t)
	var all sync.WaitGroup
	for i := range 12 {
		version := fmt.Sprintf("1.%d.0", i)
		file := put(t, t.TempDir(), version, 2, here, version)
		all.Go(func() {
			if _, err := plugins.Install(t.Context(), s, file, ""); err != nil {
				t.Errorf("install: %v", err)
			}
			found, err := plugins.Find(s)
			if err != nil {
				t.Errorf("find: %v", err)
			}
			for _, c := range found {
				if err := plugins.Check(t.Context(), s, c); err != nil {
					t.Errorf("check: %v", err)
				}
			}
		})
	}
	all.Wait()
	if lock := read(t, filepath.Join(s.Home, "plugins.lock")); strings.Count(lock, "[[engine]]") != 12 {
		t.Fatalf("plugins.lock is\n%s", lock)
	}
}

func TestWaitingForAnotherGgenEndsWithTheContext(t *testing.T) {
	s := search(t)
	put(t, s.Dirs[0], "1.0.0", 2, here, "a")
	lock := flock.New(filepath.Join(s.Home, "plugins.flock"))
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer func() { _ = lock.Unlock() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := plugins.Choose(ctx, s)
	refused(t, err, shared.ReasonCanceled)
	if _, err := plugins.Find(s); err != nil {
		t.Fatalf("reading waits too: %v", err)
	}
}
