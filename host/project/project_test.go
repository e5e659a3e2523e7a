package project

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ggen.dev/marketplace/shared"
)

func newProject(t *testing.T, manifest string) Place {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ManifestName), []byte(manifest), 0o640); err != nil {
		t.Fatal(err)
	}
	place, err := Locate(dir, "", "/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// put does what an engine does: it makes the folder and says so.
func put(t *testing.T, p Place, pkg shared.LockedPackage, requested bool) shared.InstalledPackage {
	t.Helper()
	dir := filepath.Join(p.Packages(), pkg.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte(pkg.Name), 0o644); err != nil {
		t.Fatal(err)
	}
	return shared.InstalledPackage{LockedPackage: pkg, Path: dir, Title: "T " + pkg.Name, Requested: requested}
}

func TestLocate(t *testing.T) {
	top := t.TempDir()
	project := filepath.Join(top, "project")
	inside := filepath.Join(project, "a", "b")
	installed := filepath.Join(project, ".ggen", "packages", "app")
	outside := filepath.Join(top, "outside")
	for _, dir := range []string{inside, installed, outside} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{project, installed} {
		if err := os.WriteFile(filepath.Join(dir, ManifestName), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(top, "home")
	for _, tc := range []struct {
		name, cwd, explicit, root string
		project                   bool
	}{
		{"the folder itself", project, "", project, true},
		{"a folder inside", inside, "", project, true},
		{"an installed package belongs to the project around it", installed, "", project, true},
		{"outside it is the home", outside, "", home, false},
		{"named, without a ggen.toml", outside, outside, outside, true},
		{"named relative to the working folder", top, "outside", outside, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Locate(tc.cwd, tc.explicit, home)
			if err != nil || p.Root() != tc.root || p.IsProject() != tc.project {
				t.Fatalf("%+v, %v; want %s", p, err, tc.root)
			}
			packages := filepath.Join(tc.root, ".ggen", "packages")
			if !tc.project {
				packages = filepath.Join(tc.root, "packages")
			}
			if p.Packages() != packages {
				t.Fatalf("packages go to %s, want %s", p.Packages(), packages)
			}
		})
	}
	for _, explicit := range []string{"missing", filepath.Join(project, ManifestName)} {
		if _, err := Locate(top, explicit, home); !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Errorf("Locate(%s): %v", explicit, err)
		}
	}
}

func TestRecordAndRemove(t *testing.T) {
	const manifest = "# hello\n[packs]\n"
	p := newProject(t, manifest)
	if err := p.Record([]shared.InstalledPackage{put(t, p, locked("base"), false), put(t, p, locked("app", "base"), true)}); err != nil {
		t.Fatal(err)
	}
	if kept, err := p.Save([]string{"app"}); err != nil || len(kept) > 0 {
		t.Fatal(kept, err)
	}
	list, err := p.List()
	if err != nil || len(list) != 2 || list[0].Title != "T app" || !list[0].Requested || list[1].Requested || !list[1].Present {
		t.Fatalf("%+v, %v", list, err)
	}

	t.Run("asked for once stays asked for", func(t *testing.T) {
		if err := p.Record([]shared.InstalledPackage{put(t, p, locked("app", "base"), false)}); err != nil {
			t.Fatal(err)
		}
		if list, _ := p.List(); !list[0].Requested {
			t.Fatal("app is not requested any more")
		}
	})
	t.Run("what is needed stays, and nothing is touched", func(t *testing.T) {
		if _, err := p.Remove([]string{"base"}, false); !errors.Is(err, shared.ReasonUnsatisfiable) {
			t.Fatal(err)
		}
		if _, err := p.Remove([]string{"app", "missing"}, false); !errors.Is(err, shared.ReasonNotFound) {
			t.Fatal(err)
		}
		if list, _ := p.List(); len(list) != 2 || !list[0].Present || !list[1].Present {
			t.Fatalf("%+v", list)
		}
	})
	t.Run("a folder that is gone already is no obstacle", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Join(p.Packages(), "app")); err != nil {
			t.Fatal(err)
		}
		removal, err := p.Remove([]string{"app", "app"}, false)
		if err != nil || len(removal.Removed) != 1 || !slices.Equal(removal.Unused, []string{"base"}) || len(removal.Kept) > 0 {
			t.Fatalf("%+v, %v", removal, err)
		}
		text, err := os.ReadFile(p.Manifest())
		if err != nil || string(text) != manifest {
			t.Fatalf("%q, %v", text, err)
		}
		info, err := os.Stat(p.Manifest())
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Fatalf("the permissions of ggen.toml are %v", info.Mode())
		}
	})
	t.Run("with force", func(t *testing.T) {
		if err := p.Record([]shared.InstalledPackage{put(t, p, locked("app", "base"), true)}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Remove([]string{"base"}, true); err != nil {
			t.Fatal(err)
		}
		if _, err := p.ReadLockfile(); err != nil {
			t.Fatalf("the lockfile is unreadable with a dependency missing: %v", err)
		}
	})
	t.Run("nothing temporary is left", func(t *testing.T) {
		for _, dir := range []string{p.Root(), filepath.Join(p.Root(), ".ggen"), filepath.Join(p.Root(), ".ggen", "receipts")} {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				if strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".ggen" || entry.Name() == trash {
					t.Errorf("%s is left in %s", entry.Name(), dir)
				}
			}
		}
	})
}

func TestUnusedIsTransitive(t *testing.T) {
	p := newProject(t, "")
	if err := p.Record([]shared.InstalledPackage{
		put(t, p, locked("deep"), false), put(t, p, locked("mid", "deep"), false), put(t, p, locked("app", "mid"), true), put(t, p, locked("tool", "deep"), true),
	}); err != nil {
		t.Fatal(err)
	}
	removal, err := p.Remove([]string{"app"}, false)
	if err != nil || !slices.Equal(removal.Unused, []string{"mid"}) {
		t.Fatalf("%+v, %v: deep is still needed by tool", removal, err)
	}
	removal, err = p.Remove([]string{"tool"}, false)
	if err != nil || !slices.Equal(removal.Unused, []string{"deep"}) {
		t.Fatalf("%+v, %v", removal, err)
	}
}

func TestRecordRefusesNonsense(t *testing.T) {
	p := newProject(t, "")
	for name, change := range map[string]func(*shared.InstalledPackage){
		"a path elsewhere":    func(pkg *shared.InstalledPackage) { pkg.Path = "/etc" },
		"a name that climbs":  func(pkg *shared.InstalledPackage) { pkg.Name = "../x" },
		"no digest":           func(pkg *shared.InstalledPackage) { pkg.Digest = "" },
		"a version of spaces": func(pkg *shared.InstalledPackage) { pkg.Version = "1.0.0 " },
	} {
		t.Run(name, func(t *testing.T) {
			pkg := put(t, p, locked("app"), true)
			change(&pkg)
			if err := p.Record([]shared.InstalledPackage{pkg}); !errors.Is(err, shared.ReasonInternal) {
				t.Fatalf("err = %v", err)
			}
			if _, err := os.Stat(p.Lockfile()); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("a lockfile was written: %v", err)
			}
		})
	}
}

func TestLinksLeadNowhere(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret.toml")
	if err := os.WriteFile(secret, []byte("a = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("a linked .ggen", func(t *testing.T) {
		p := newProject(t, "")
		if err := os.Symlink(outside, filepath.Join(p.Root(), ".ggen")); err != nil {
			t.Skip(err)
		}
		if err := p.Prepare(); !errors.Is(err, shared.ReasonModified) {
			t.Fatalf("err = %v", err)
		}
		if _, err := p.Lock(t.Context(), nil); err == nil {
			t.Fatal("a lock was taken outside of the project")
		}
	})
	t.Run("a linked ggen.toml is not edited", func(t *testing.T) {
		p := newProject(t, "")
		if err := errors.Join(os.Remove(p.Manifest()), os.Symlink(secret, p.Manifest())); err != nil {
			t.Skip(err)
		}
		if _, err := p.Save([]string{"app"}); !errors.Is(err, shared.ReasonInvalidManifest) {
			t.Fatalf("err = %v", err)
		}
		if err := p.Record([]shared.InstalledPackage{put(t, p, locked("app"), true)}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Remove([]string{"app"}, false); err != nil {
			t.Fatalf("a removal fails over a link that it does not need: %v", err)
		}
		if text, err := os.ReadFile(secret); err != nil || string(text) != "a = 1\n" {
			t.Fatalf("the file behind the link is %q, %v", text, err)
		}
	})
	t.Run("a linked lockfile", func(t *testing.T) {
		p := newProject(t, "")
		if err := os.Symlink(secret, p.Lockfile()); err != nil {
			t.Skip(err)
		}
		if _, err := p.ReadLockfile(); err == nil {
			t.Fatal("it was read")
		}
	})
}

func TestSaveNeedsAProject(t *testing.T) {
	home, err := Locate(t.TempDir(), "", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := home.CheckSave(); !errors.Is(err, shared.ReasonInvalidArgument) {
		t.Fatalf("err = %v", err)
	}
	broken := newProject(t, "a = \n")
	_, err = broken.Save([]string{"app"})
	var e *shared.Error
	if !errors.As(err, &e) || e.Reason != shared.ReasonInvalidManifest || e.Metadata["line"] != "1" {
		t.Fatalf("err = %v", err)
	}
}

// TestDamagedReceiptsOnlyLookBad: lists live by ggen.lock.
func TestDamagedReceiptsOnlyLookBad(t *testing.T) {
	p := newProject(t, "")
	if err := p.Record([]shared.InstalledPackage{put(t, p, locked("app"), true)}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.Root(), filepath.FromSlash(p.receiptFile("app")))
	for _, content := range []string{"", "{", `{"format":1,"name":"other"}`, strings.Repeat("x", maxReceipt+1)} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		list, err := p.List()
		if err != nil || len(list) != 1 || list[0].Title != "" || !list[0].Requested {
			t.Fatalf("%+v, %v", list, err)
		}
	}
}

// TestLockHelper is one of the processes of TestProcessesLoseNothing.
func TestLockHelper(t *testing.T) {
	dir, name := os.Getenv("TEST_PROJECT"), os.Getenv("TEST_NAME")
	if dir == "" {
		t.Skip("only as a child of another test")
	}
	p, err := Locate(dir, dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		unlock, err := p.Lock(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		pkg := fmt.Sprintf("%s-%d", name, i)
		if err := p.Record([]shared.InstalledPackage{put(t, p, locked(pkg), true)}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Save([]string{pkg}); err != nil {
			t.Fatal(err)
		}
		unlock()
	}
}

func TestProcessesLoseNothing(t *testing.T) {
	p := newProject(t, "# start\n")
	var children []*exec.Cmd
	for i := range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLockHelper$")
		cmd.Env = append(os.Environ(), "TEST_PROJECT="+p.Root(), fmt.Sprintf("TEST_NAME=p%d", i))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, cmd)
	}
	for _, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	lock, err := p.ReadLockfile()
	if err != nil || len(lock.Packages) != 40 {
		t.Fatalf("%d entries, want 40: %v", len(lock.Packages), err)
	}
	text, err := os.ReadFile(p.Manifest())
	if err != nil || strings.Count(string(text), "path = ") != 40 {
		t.Fatalf("%v\n%s", err, text)
	}
}

func TestLockWaits(t *testing.T) {
	p := newProject(t, "")
	unlock, err := p.Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = p.Lock(ctx, cancel) // the notice comes, and then the caller gives up
	if !errors.Is(err, shared.ReasonCanceled) {
		t.Fatalf("err = %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := p.Lock(short, nil); !errors.Is(err, shared.ReasonDeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
	unlock()
	again, err := p.Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// TestALockLeavesNothing that was not there before it, as when an install fails.
func TestALockLeavesNothing(t *testing.T) {
	p := newProject(t, "")
	before, err := os.ReadDir(p.Root())
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := p.Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.Packages()); err != nil {
		t.Errorf("nothing can be installed: %v", err)
	}
	unlock()
	if after, err := os.ReadDir(p.Root()); err != nil || len(after) != len(before) {
		t.Errorf("before %v, after %v, %v", before, after, err)
	}
	unlock, err = p.Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, p, locked("stays"), true)
	if err := os.Symlink("nowhere/at-all", filepath.Join(p.Root(), dotDir, "other.lock")); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := os.Rename(filepath.Join(p.Root(), dotDir, "other.lock"), filepath.Join(p.Root(), dotDir, lockName)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Lock(t.Context(), nil); !errors.Is(err, shared.ReasonStorage) {
		t.Errorf("a link to nowhere is a lock: %v", err)
	}
	if _, err := os.Stat(filepath.Join(p.Packages(), "stays")); err != nil {
		t.Error(err)
	}
}

func TestSettings(t *testing.T) {
	yes, no := true, false
	minute := time.Minute
	got := Merge(Given{Listen: []string{"/flag"}}, Given{Listen: []string{"/env"}, DHTServer: &no}, Given{Bootstrap: []string{"/file"}, DHTServer: &yes, IdleStop: &minute})
	if got.Listen[0] != "/flag" || got.Bootstrap[0] != "/file" || got.DHTServer || got.IdleStop != minute {
		t.Fatalf("%+v", got)
	}
	for _, tc := range []struct {
		name string
		s    Settings
		ok   bool
	}{
		{"nothing", Settings{}, true},
		{"addresses", Settings{Listen: []string{"/ip4/127.0.0.1/tcp/0"}}, true},
		{"no address", Settings{Listen: []string{"localhost:1"}}, false},
		{"a control character", Settings{Bootstrap: []string{"/ip4/\x1b"}}, false},
		{"too long", Settings{Bootstrap: []string{"/" + strings.Repeat("x", maxAddressLen)}}, false},
		{"too many", Settings{Bootstrap: slices.Repeat([]string{"/a"}, maxAddresses+1)}, false},
	} {
		if err := tc.s.Check(); (err == nil) != tc.ok || err != nil && !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for _, text := range []string{"[marketplace]\nlisten = 1", "[marketplace]\ntrust_polcy = \"allow-list\"", "[marketplace]\nmemory_limit = 5", "[marketplace]\nidle_stop = \"soon\"", "[marketplace]\nidle_stop = \"-1m\"", "[marketplace]\nmemory_limit = \"1MiB\"", "[marketplace]\nmemory_limit = \"lots\"", "x ="} {
		if _, err := ParseSettings("config.toml", []byte(text)); !errors.Is(err, shared.ReasonInvalidArgument) || strings.Contains(err.Error(), "*string") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"[location]\nlatitude = 48.1", "[location]\nregion = \"eu\"", "[location]\nlatitude = 91\nlongitude = 0", "[location]\nlatitude = nan\nlongitude = 0",
		"[location]\nlatitude = 1\nlongitude = 2\nregion = \"Große\"", "location = 1",
	} {
		if _, err := ParseSettings("config.toml", []byte(text)); !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Errorf("%q: %v", text, err)
		}
		if g, err := ParseSettings("ggen.toml", []byte(text)); err != nil || g.Location != nil {
			t.Errorf("a project's %q: %+v, %v", text, g.Location, err)
		}
	}
	g, err := ParseSettings("config.toml", []byte("[location]\nlatitude = 48.137\nlongitude = -11.575\nregion = \"eu-central\""))
	if err != nil || Merge(Given{}, g).Location == nil || Merge(Given{}, g).Location.String() != "48,-12,eu-central" {
		t.Errorf("%+v, %v", g.Location, err)
	}
	if g, err := FromFile(filepath.Join(t.TempDir(), "none"), false); err != nil || g.Listen != nil {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := FromFile(t.TempDir(), true); !errors.Is(err, shared.ReasonInvalidArgument) {
		t.Errorf("a folder: %v", err)
	}
	if home, err := Home("rel", "/base", func(string) string { return "/env" }); err != nil || home != filepath.Clean("/base/rel") {
		t.Errorf("%s, %v", home, err)
	}
}

func TestALinkInThePlaceOfThePackagesIsRefused(t *testing.T) {
	for _, link := range []string{".ggen", filepath.Join(".ggen", "packages")} {
		t.Run(link, func(t *testing.T) {
			dir := t.TempDir()
			precious := filepath.Join(dir, "src", "packages", "pk", "work.txt")
			if err := errors.Join(os.MkdirAll(filepath.Dir(precious), 0o755), os.WriteFile(precious, []byte("mine"), 0o644),
				os.WriteFile(filepath.Join(dir, ManifestName), nil, 0o644), os.MkdirAll(filepath.Dir(filepath.Join(dir, link)), 0o755),
				os.Symlink(filepath.Join(dir, "src"), filepath.Join(dir, link))); err != nil {
				t.Fatal(err)
			}
			place, err := Locate(dir, "", t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if err := place.Prepare(); !errors.Is(err, shared.ReasonModified) {
				t.Fatalf("got %v", err)
			}
			if _, err := os.Stat(precious); err != nil {
				t.Fatal(err)
			}
		})
	}
}
