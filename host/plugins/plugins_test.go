package plugins_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"aead.dev/minisign"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
)

const here = runtime.GOOS + "_" + runtime.GOARCH

// elsewhere is a platform that no test runs on.
const elsewhere = "plan9_mips"

func engineName(version string, protocol int, platform string) string {
	name := fmt.Sprintf("ggen-engine-marketplace_v%s_p%d_%s", version, protocol, platform)
	if strings.HasPrefix(platform, "windows_") {
		name += ".exe"
	}
	return name
}

// put writes an engine that nobody could run, and its checksum.
func put(t *testing.T, dir, version string, protocol int, platform, content string) string {
	t.Helper()
	path := filepath.Join(dir, engineName(version, protocol, platform))
	write(t, path, content, 0o755)
	write(t, path+".sha256", shared.DigestOf([]byte(content)).Hex()+"  "+filepath.Base(path)+"\n", 0o644)
	return path
}

func write(t *testing.T, path, content string, perm fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), perm), os.Chmod(path, perm)); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// search is one with a fresh home and two folders, for a host that speaks 2 and 3.
func search(t *testing.T) plugins.Search {
	t.Helper()
	root := t.TempDir()
	s := plugins.Search{
		Home: filepath.Join(root, "home"), Dirs: []string{filepath.Join(root, "first"), filepath.Join(root, "second")},
		RunDir: filepath.Join(root, "home", "run"), Oldest: 2, Newest: 3,
	}
	if err := os.MkdirAll(s.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func inProject(t *testing.T, s plugins.Search) plugins.Search {
	t.Helper()
	s.Project = t.TempDir()
	return s
}

func choose(t *testing.T, s plugins.Search) plugins.Candidate {
	t.Helper()
	c, err := plugins.Choose(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused checks an error, and all of its text, metadata included.
func refused(t *testing.T, err error, reason shared.Reason, says ...string) *shared.Error {
	t.Helper()
	e := shared.AsError(err)
	if e == nil || e.Reason != reason {
		t.Fatalf("got %v, want %s", err, reason)
	}
	for _, want := range says {
		if !strings.Contains(fmt.Sprint(e.Message, "\n", e.Hint, "\n", e.Metadata), want) {
			t.Fatalf("%q with hint %q and %v does not say %q", e.Message, e.Hint, e.Metadata, want)
		}
	}
	return e
}

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		name  string
		put   func(t *testing.T, s *plugins.Search)
		want  []string // version, and what Why says; "used" for the one that is
		error shared.Reason
	}{
		{"nothing", func(*testing.T, *plugins.Search) {}, nil, shared.ReasonEngineNotFound},
		{"the newest, not the one whose name sorts last", func(t *testing.T, s *plugins.Search) {
			put(t, s.Dirs[0], "0.9.0", 2, here, "a")
			put(t, s.Dirs[1], "0.10.0", 2, here, "b")
		}, []string{"0.10.0 used", "0.9.0 a newer one is used"}, ""},
		{"a release before its prereleases", func(t *testing.T, s *plugins.Search) {
			for _, v := range []string{"1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "0.9.9"} {
				put(t, s.Dirs[0], v, 2, here, v)
			}
		}, []string{"1.0.0 used", "1.0.0-rc.10 newer", "1.0.0-rc.2 newer", "0.9.9 newer"}, ""},
		{"equal versions in the order of the places", func(t *testing.T, s *plugins.Search) {
			put(t, filepath.Join(s.Home, "plugins"), "1.0.0", 2, here, "a")
			put(t, s.Dirs[1], "1.0.0+z", 2, here, "b")
			put(t, s.Dirs[0], "1.0.0+a", 2, here, "c")
		}, []string{"1.0.0+a used", "1.0.0+z earlier place", "1.0.0 earlier place"}, ""},
		{"the newer protocol of two in one folder", func(t *testing.T, s *plugins.Search) {
			put(t, s.Dirs[0], "1.0.0", 2, here, "a")
			put(t, s.Dirs[0], "1.0.0", 3, here, "a")
		}, []string{"1.0.0 used", "1.0.0 same version"}, ""},
		{"no protocol in common", func(t *testing.T, s *plugins.Search) {
			put(t, s.Dirs[0], "1.0.0", 1, here, "a")
			put(t, s.Dirs[0], "2.0.0", 4, here, "b")
		}, []string{"2.0.0 unknown whether it speaks ours", "1.0.0 it speaks protocol 1, and this ggen speaks 2 to 3"}, shared.ReasonEngineProtocol},
		{"a newer protocol that is known to include ours", func(t *testing.T, s *plugins.Search) {
			s.Facts = func(c plugins.Candidate) ([]int, bool) { return []int{3, c.Protocol}, true }
			put(t, s.Dirs[0], "2.0.0", 4, here, "b")
		}, []string{"2.0.0 used"}, ""},
		{"a newer protocol that is known not to", func(t *testing.T, s *plugins.Search) {
			s.Facts = func(c plugins.Candidate) ([]int, bool) { return []int{4, 5}, true }
			put(t, s.Dirs[0], "2.0.0", 5, here, "b")
			put(t, s.Dirs[0], "1.0.0", 3, here, "c")
		}, []string{"1.0.0 used", "2.0.0 it speaks the protocols [4 5]"}, ""},
		{"facts are not asked about what the name says", func(t *testing.T, s *plugins.Search) {
			s.Facts = func(c plugins.Candidate) ([]int, bool) { return nil, c.Protocol <= 3 }
			put(t, s.Dirs[0], "2.0.0", 2, here, "b")
		}, []string{"2.0.0 used"}, ""},
		{"other platforms", func(t *testing.T, s *plugins.Search) {
			put(t, s.Dirs[0], "2.0.0", 2, elsewhere, "b")
			put(t, s.Dirs[0], "1.0.0", 2, here, "c")
		}, []string{"1.0.0 used", "2.0.0 it is for plan9/mips"}, ""},
		{"a newest one that is broken is not skipped", func(t *testing.T, s *plugins.Search) {
			remove(t, put(t, s.Dirs[0], "2.0.0", 2, here, "b")+".sha256")
			put(t, s.Dirs[0], "1.0.0", 2, here, "c")
		}, []string{"2.0.0 checksum file is missing", "1.0.0 2.0.0 comes first"}, shared.ReasonEngineInvalid},
		{"an older one that is broken hurts nobody", func(t *testing.T, s *plugins.Search) {
			remove(t, put(t, s.Dirs[0], "1.0.0", 2, here, "b")+".sha256")
			put(t, s.Dirs[0], "2.0.0", 2, here, "c")
		}, []string{"2.0.0 used", "1.0.0 checksum file is missing"}, ""},
		{"a checksum that is none", func(t *testing.T, s *plugins.Search) {
			write(t, put(t, s.Dirs[0], "1.0.0", 2, here, "b")+".sha256", "c0ffee\n", 0o644)
		}, []string{"1.0.0 not in the format of sha256sum"}, shared.ReasonEngineInvalid},
		{"a checksum that is a folder", func(t *testing.T, s *plugins.Search) {
			path := put(t, s.Dirs[0], "1.0.0", 2, here, "b") + ".sha256"
			remove(t, path)
			write(t, filepath.Join(path, "x"), "", 0o644)
		}, []string{"1.0.0 it is not a file"}, shared.ReasonEngineInvalid},
		{"plugins.lock decides", func(t *testing.T, s *plugins.Search) {
			put(t, s.Dirs[0], "1.0.0", 2, here, "b")
			put(t, s.Dirs[0], "2.0.0", 2, here, "c")
			write(t, filepath.Join(s.Home, "plugins.lock"), "schema = 1\nuse = \"1.0.0\"\n", 0o644)
		}, []string{"1.0.0 used", "2.0.0 plugins.lock asks for 1.0.0"}, ""},
		{"the project's goes before the home's", func(t *testing.T, s *plugins.Search) {
			*s = inProject(t, *s)
			put(t, s.Dirs[0], "1.0.0", 2, here, "b")
			put(t, s.Dirs[0], "2.0.0", 2, here, "c")
			write(t, filepath.Join(s.Home, "plugins.lock"), "schema = 1\nuse = \"1.0.0\"\n", 0o644)
			write(t, filepath.Join(s.Project, "plugins.lock"), "schema = 1\nuse = \"2.0.0\"\n", 0o644)
		}, []string{"2.0.0 used", "1.0.0 the project's plugins.lock asks for 2.0.0"}, ""},
		{"plugins.lock asks for what is not there", func(t *testing.T, s *plugins.Search) {
			put(t, s.Dirs[0], "1.0.0", 2, here, "b")
			put(t, s.Dirs[0], "3.0.0", 2, elsewhere, "b")
			write(t, filepath.Join(s.Home, "plugins.lock"), "schema = 1\nuse = \"3.0.0\"\n", 0o644)
		}, []string{"3.0.0 it is for", "1.0.0 plugins.lock asks for 3.0.0"}, shared.ReasonEngineNotFound},
		{"a project's engine without consent", func(t *testing.T, s *plugins.Search) {
			*s = inProject(t, *s)
			put(t, filepath.Join(s.Project, ".ggen", "plugins"), "9.0.0", 2, here, "evil")
		}, []string{"9.0.0 " + plugins.ProjectVariable}, shared.ReasonEngineInvalid},
		{"a project's engine with consent", func(t *testing.T, s *plugins.Search) {
			*s = inProject(t, *s)
			t.Setenv(plugins.ProjectVariable, "1")
			put(t, filepath.Join(s.Project, ".ggen", "plugins"), "9.0.0", 2, here, "ours")
			put(t, filepath.Join(s.Home, "plugins"), "9.0.0", 2, here, "ours")
		}, []string{"9.0.0 used", "9.0.0 earlier place"}, ""},
		{"a project whose .ggen is the home", func(t *testing.T, s *plugins.Search) {
			s.Project = t.TempDir()
			s.Home = filepath.Join(s.Project, ".ggen")
			put(t, filepath.Join(s.Home, "plugins"), "1.0.0", 2, here, "a")
		}, []string{"1.0.0 used"}, ""},
		{"a project whose folder is none", func(t *testing.T, s *plugins.Search) {
			*s = inProject(t, *s)
			write(t, filepath.Join(s.Project, ".ggen", "plugins"), "", 0o644)
			put(t, s.Dirs[0], "1.0.0", 2, here, "a")
		}, []string{"1.0.0 used"}, ""},
		{"the folders of the environment", func(t *testing.T, s *plugins.Search) {
			a, b := t.TempDir(), t.TempDir()
			t.Setenv(plugins.PathVariable, string(filepath.ListSeparator)+a+string(filepath.ListSeparator)+b)
			put(t, b, "1.0.0", 2, here, "a")
			put(t, a, "1.0.0", 2, here, "a")
			put(t, s.Dirs[1], "1.0.0", 2, here, "a")
			s.Dirs = append(s.Dirs, b) // found there already
		}, []string{"1.0.0 used", "1.0.0 earlier", "1.0.0 earlier"}, ""},
		{"names that are no engine's", func(t *testing.T, s *plugins.Search) {
			for _, name := range []string{
				engineName("1.0", 2, here), engineName("01.0.0", 2, here), engineName("1.0.0", 0, here), "ggen-engine-marketplace_v1.0.0_p02_" + here,
				"ggen-engine-marketplace_v1.0.0_p2_" + here + ".bak", "x" + engineName("1.0.0", 2, here), "ggen-engine-marketplace_v1.0.0_p2_windows_amd64",
				engineName("1.0.0-"+strings.Repeat("a", 64), 2, here), "ggen-engine-marketplace_v1.0.0_p2_linux_amd64.exe",
			} {
				write(t, filepath.Join(s.Dirs[0], name), "x", 0o755)
			}
		}, nil, shared.ReasonEngineNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := search(t)
			tc.put(t, &s)
			found, err := plugins.Find(s)
			if err != nil || len(found) != len(tc.want) {
				t.Fatalf("found %+v, %v", found, err)
			}
			for i, c := range found {
				version, why, _ := strings.Cut(tc.want[i], " ")
				if c.Version != version || c.Used != (why == "used") || c.Used != (c.Why == "") || !c.Used && !strings.Contains(c.Why, why) {
					t.Errorf("%d: %s, used %v, %q; want %s", i, c.Version, c.Used, c.Why, tc.want[i])
				}
			}
			if tc.error != "" {
				_, err := plugins.Choose(t.Context(), s)
				refused(t, err, tc.error)
				return
			}
			if c := choose(t, s); c.Path != found[0].Path {
				t.Errorf("chose %s", c.Path)
			}
		})
	}
}

func TestADevelopmentEngineGoesBeforeAllAndWarns(t *testing.T) {
	s := search(t)
	put(t, s.Dirs[0], "1.0.0", 2, here, "a")
	if len(s.Warnings()) != 0 {
		t.Fatal("warned for nothing")
	}
	dev := filepath.Join(t.TempDir(), "engine")
	t.Setenv(plugins.DevVariable, dev)
	_, err := plugins.Choose(t.Context(), s)
	refused(t, err, shared.ReasonEngineInvalid, dev)
	write(t, dev, "x", 0o755)
	found, err := plugins.Find(s)
	if err != nil || len(found) != 2 || !found[0].Used || !found[0].Development() || !strings.Contains(found[1].Why, plugins.DevVariable) {
		t.Fatalf("found %+v, %v", found, err)
	}
	if c := choose(t, s); c.Path != dev || len(s.Warnings()) != 1 || !strings.Contains(s.Warnings()[0].Message, dev) {
		t.Fatalf("chose %+v, warnings %v", c, s.Warnings())
	}
	for _, change := range []func() error{
		func() error { _, err := plugins.Use(t.Context(), s, "1.0.0"); return err },
		func() error { _, err := plugins.Rollback(t.Context(), s); return err },
		func() error { _, err := plugins.Pin(t.Context(), s); return err },
	} {
		refused(t, change(), shared.ReasonInvalidArgument, plugins.DevVariable)
	}
}

// TestTheHintMakesTheMissingChecksum runs the command that the error gives.
func TestTheHintMakesTheMissingChecksum(t *testing.T) {
	if _, err := exec.LookPath("sha256sum"); err != nil {
		t.Skip("needs sha256sum")
	}
	s := search(t)
	s.Dirs[0] = filepath.Join(t.TempDir(), "it's a $(touch ran)")
	path := put(t, s.Dirs[0], "1.0.0", 2, here, "a")
	remove(t, path+".sha256")
	_, err := plugins.Choose(t.Context(), s)
	e := refused(t, err, shared.ReasonEngineInvalid, path)
	_, command, _ := strings.Cut(e.Hint, "run ")
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", command)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	choose(t, s)
	if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
		t.Fatalf("the command left %v, %v", left, err)
	}
}

func TestAChangedFileIsRefused(t *testing.T) {
	s := search(t)
	path := put(t, s.Dirs[0], "1.0.0", 2, here, "good")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	choose(t, s)
	mismatch := func(t *testing.T) {
		t.Helper()
		_, err := plugins.Choose(t.Context(), s)
		e := refused(t, err, shared.ReasonEngineInvalid, "not what its checksum says")
		if e.Metadata["found"] != string(shared.DigestOf([]byte("evil"))) || e.Metadata["expected"] != string(shared.DigestOf([]byte("good"))) {
			t.Fatalf("metadata %v", e.Metadata)
		}
	}
	restore := func() {
		write(t, path, "good", 0o755)
		choose(t, s)
	}
	t.Run("by another time", func(t *testing.T) {
		write(t, path, "evil", 0o755)
		later := info.ModTime().Add(time.Hour)
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
		mismatch(t)
		mismatch(t) // a failure is not remembered as a success
	})
	restore()
	t.Run("by another file with the same size and time", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			t.Skip("no inodes")
		}
		write(t, path+".new", "evil", 0o755)
		if now, err := os.Stat(path); err != nil {
			t.Fatal(err)
		} else if err := errors.Join(os.Chtimes(path+".new", now.ModTime(), now.ModTime()), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
		mismatch(t)
	})
	restore()
	t.Run("whatever the cache holds", func(t *testing.T) {
		for _, cache := range []string{"", "{", `{"x":1}`, "null", strings.Repeat("[", 1<<20)} {
			write(t, filepath.Join(s.RunDir, "verified.json"), cache, 0o600)
			choose(t, s)
		}
	})
	t.Run("verify looks even where nothing shows", func(t *testing.T) {
		choose(t, s)
		now, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, "evil", 0o755) // in place
		if err := os.Chtimes(path, now.ModTime(), now.ModTime()); err != nil {
			t.Fatal(err)
		}
		choose(t, s) // shows that the cache is used
		verdicts, err := plugins.Verify(s)
		if err != nil || len(verdicts) != 1 || verdicts[0].OK || verdicts[0].Found != shared.DigestOf([]byte("evil")) {
			t.Fatalf("%+v, %v", verdicts, err)
		}
	})
}

func TestAnotherFileOfAKnownVersionIsRefused(t *testing.T) {
	s := search(t)
	put(t, s.Dirs[0], "1.0.0", 2, here, "good")
	choose(t, s)
	lock := read(t, filepath.Join(s.Home, "plugins.lock"))
	want := fmt.Sprintf("# ggen writes this file: which engine is used, and what each version's files are.\nschema = 1\n\n[[engine]]\nversion = \"1.0.0\"\nprotocol = 2\n\n[engine.digests]\n%s = %q\n", here, shared.DigestOf([]byte("good")))
	if lock != want {
		t.Fatalf("plugins.lock is\n%s\nwant\n%s", lock, want)
	}
	t.Run("even with a matching checksum", func(t *testing.T) {
		put(t, s.Dirs[0], "1.0.0", 2, here, "evil")
		_, err := plugins.Choose(t.Context(), s)
		e := refused(t, err, shared.ReasonEngineInvalid, "plugins.lock", "delete the [[engine]] entry of 1.0.0")
		if e.Metadata["found"] != string(shared.DigestOf([]byte("evil"))) || e.Metadata["expected"] != string(shared.DigestOf([]byte("good"))) {
			t.Fatalf("metadata %v", e.Metadata)
		}
	})
	t.Run("even in an earlier place", func(t *testing.T) {
		put(t, s.Dirs[0], "1.0.0", 2, here, "good")
		other := s
		other.Dirs = []string{t.TempDir(), s.Dirs[0]}
		put(t, other.Dirs[0], "1.0.0", 2, here, "evil")
		_, err := plugins.Choose(t.Context(), other)
		refused(t, err, shared.ReasonEngineInvalid, "plugins.lock")
	})
	t.Run("even when only its name differs", func(t *testing.T) {
		other := s
		other.Dirs = []string{t.TempDir()}
		put(t, other.Dirs[0], "1.0.0", 3, here, "good")
		_, err := plugins.Choose(t.Context(), other)
		refused(t, err, shared.ReasonEngineInvalid, "protocol")
	})
	t.Run("and when only the project knows it", func(t *testing.T) {
		fresh := inProject(t, search(t))
		write(t, filepath.Join(fresh.Project, "plugins.lock"), lock, 0o644)
		put(t, fresh.Dirs[0], "1.0.0", 2, here, "evil")
		_, err := plugins.Choose(t.Context(), fresh)
		refused(t, err, shared.ReasonEngineInvalid, filepath.Join(fresh.Project, "plugins.lock"))
		put(t, fresh.Dirs[0], "1.0.0", 2, here, "good")
		choose(t, fresh)
	})
	t.Run("but not because of another platform's digest", func(t *testing.T) {
		fresh := search(t)
		write(t, filepath.Join(fresh.Home, "plugins.lock"), strings.ReplaceAll(lock, here, elsewhere), 0o644)
		put(t, fresh.Dirs[0], "1.0.0", 2, here, "other")
		choose(t, fresh)
		if text := read(t, filepath.Join(fresh.Home, "plugins.lock")); !strings.Contains(text, here) || !strings.Contains(text, elsewhere) {
			t.Fatalf("plugins.lock is\n%s", text)
		}
	})
}

// TestOneOfTwoFilesWins has commands see two files of one version for the first time.
func TestOneOfTwoFilesWins(t *testing.T) {
	a := search(t)
	b := a
	a.Dirs, b.Dirs = a.Dirs[:1], a.Dirs[1:]
	put(t, a.Dirs[0], "1.0.0", 2, here, "a")
	put(t, b.Dirs[0], "1.0.0", 2, here, "b")
	var all sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		all.Go(func() { _, errs[i] = plugins.Choose(t.Context(), []plugins.Search{a, b}[i%2]) })
	}
	all.Wait()
	won := read(t, filepath.Join(a.Home, "plugins.lock"))
	for i, err := range errs {
		if mine := strings.Contains(won, shared.DigestOf([]byte{"ab"[i%2]}).Hex()); mine != (err == nil) {
			t.Errorf("command %d: %v, plugins.lock is\n%s", i, err, won)
		}
	}
}

func TestSignatures(t *testing.T) {
	ours, oursPrivate, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, strange, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(t *testing.T, key minisign.PrivateKey, content string) string {
		t.Helper()
		r := minisign.NewReader(strings.NewReader(content))
		if _, err := fmt.Fprint(&strings.Builder{}, readAll(t, r)); err != nil {
			t.Fatal(err)
		}
		return string(r.Sign(key))
	}
	for _, tc := range []struct {
		name      string
		pinned    bool
		signature string
		state     string
		says      string // of the refusal; empty if it is used
	}{
		{"no keys, no signature", false, "", "none", ""},
		{"no keys, any signature", false, "nonsense", "unchecked", ""},
		{"no signature", true, "", "missing", ".minisig"},
		{"ours", true, sign(t, oursPrivate, "engine"), "by a pinned key", ""},
		{"ours, of another file", true, sign(t, oursPrivate, "other"), "by a pinned key", "not made for this file"},
		{"a stranger's", true, sign(t, strange, "engine"), "by an unknown key", "is not pinned"},
		{"nonsense", true, "nonsense", "unreadable", "cannot be used"},
		{"of the old kind", true, string(minisign.Sign(oursPrivate, []byte("engine"))), "unreadable", "before version 0.10"},
		{"too large", true, strings.Repeat("x", 1<<20), "unreadable", "more than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := search(t)
			path := put(t, s.Dirs[0], "1.0.0", 2, here, "engine")
			if tc.pinned {
				text, err := ours.MarshalText()
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(s.Home, "plugin-keys", "ours.pub"), string(text)+"\n", 0o644)
			}
			if tc.signature != "" {
				write(t, path+".minisig", tc.signature, 0o644)
			}
			found, err := plugins.Find(s)
			if err != nil || len(found) != 1 || found[0].Signature != tc.state {
				t.Fatalf("found %+v, %v", found, err)
			}
			_, err = plugins.Choose(t.Context(), s)
			installed, installErr := plugins.Install(t.Context(), s, path, "")
			verdicts, verifyErr := plugins.Verify(s)
			if verifyErr != nil || len(verdicts) == 0 || verdicts[0].OK != (tc.says == "") {
				t.Fatalf("verdicts %+v, %v", verdicts, verifyErr)
			}
			if tc.says == "" {
				if err != nil || installErr != nil || installed.Signature != tc.state {
					t.Fatalf("choose: %v, install: %+v, %v", err, installed, installErr)
				}
				return
			}
			refused(t, err, shared.ReasonEngineInvalid, tc.says)
			refused(t, installErr, shared.ReasonEngineInvalid, tc.says)
			if left, err := os.ReadDir(filepath.Join(s.Home, "plugins")); err == nil && len(left) > 0 {
				t.Fatalf("it left %v", left)
			}
		})
	}
	t.Run("a file that was verified before the key was pinned", func(t *testing.T) {
		s := search(t)
		put(t, s.Dirs[0], "1.0.0", 2, here, "engine")
		choose(t, s)
		write(t, filepath.Join(s.Home, "plugin-keys", "ours.pub"), ours.String(), 0o644)
		_, err := plugins.Choose(t.Context(), s)
		refused(t, err, shared.ReasonEngineInvalid, "signature")
	})
	t.Run("a key that is none", func(t *testing.T) {
		s := search(t)
		put(t, s.Dirs[0], "1.0.0", 2, here, "engine")
		write(t, filepath.Join(s.Home, "plugin-keys", "ours.pub"), "nonsense", 0o644)
		_, err := plugins.Choose(t.Context(), s)
		refused(t, err, shared.ReasonEngineInvalid, "ours.pub")
	})
}

func readAll(t *testing.T, r *minisign.Reader) string {
	t.Helper()
	var b strings.Builder
	buffer := make([]byte, 512)
	for {
		n, err := r.Read(buffer)
		b.Write(buffer[:n])
		if err != nil {
			return b.String()
		}
	}
}
