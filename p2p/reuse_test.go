package p2p_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// tree is a package's files beside its manifest, by path.
type tree map[string]string

func (t tree) with(path, content string) tree {
	t = maps.Clone(t)
	t[path] = content
	return t
}

func (t tree) without(path string) tree {
	t = maps.Clone(t)
	delete(t, path)
	return t
}

// changed is how many bytes of content are in t and not in old.
func (t tree) changed(old tree) (bytes int64) {
	held := map[string]bool{}
	for _, content := range old {
		held[content] = true
	}
	for _, content := range t {
		if !held[content] {
			bytes += int64(len(content))
		}
	}
	return bytes
}

func release(t *testing.T, e *p2p.Engine, name, version string, of tree) shared.PublishReceipt {
	t.Helper()
	pairs := []string{"package.toml", manifest(name, version)}
	for _, path := range slices.Sorted(maps.Keys(of)) {
		pairs = append(pairs, path, of[path])
	}
	receipt, err := e.Publish(t.Context(), shared.PublishRequest{}, files(t, pairs...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// get installs a version and returns what was fetched.
func get(t *testing.T, e *p2p.Engine, name, version, root string) shared.InstalledPackage {
	t.Helper()
	eventually(t, "it knows "+version, func() bool {
		d, err := e.Describe(t.Context(), shared.Ref{Name: name})
		return err == nil && d.Version == version
	})
	receipt, err := e.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: name, Constraint: version}}, Root: root, Trust: true, Force: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return receipt.Packages[0]
}

func random(r *rand.Rand, size int) string {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return string(data)
}

func sample(r *rand.Rand) tree {
	all := tree{}
	for i := range 120 {
		all[fmt.Sprintf("templates/%03d.tmpl", i)] = random(r, 1+r.IntN(12<<10))
	}
	for i := range 3 {
		all[fmt.Sprintf("ontology/%d.ttl", i)] = random(r, 700<<10)
	}
	return all
}

const slack = 4 << 10 // the manifest, and headers between changed files

func TestANewVersionFetchesWhatHasChanged(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	base := sample(r)
	author := open(t, t.TempDir())
	for i, tc := range []struct {
		name string
		next tree
		most int64 // bytes
	}{
		{"nothing but the version", base, slack},
		{"a small file", base.with("templates/050.tmpl", random(r, 5000)), 5000 + slack},
		{"small files here and there", base.with("templates/003.tmpl", random(r, 5000)).with("templates/060.tmpl", random(r, 3000)).with("templates/117.tmpl", "x"), 8001 + slack},
		{"a large file", base.with("ontology/1.ttl", random(r, 700<<10)), 700<<10 + slack},
		{"a file moves", base.without("ontology/1.ttl").with("other/place.ttl", base["ontology/1.ttl"]), slack},
		{"a file goes", base.without("ontology/0.ttl"), slack},
		{"a file comes first of all", base.with("a.txt", random(r, 10)), slack},
		{"a file comes twice", base.with("copy.ttl", base["ontology/0.ttl"]), slack},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := fmt.Sprintf("case-%d", i)
			user := open(t, t.TempDir(), address(t, author))
			root := t.TempDir()
			release(t, author, name, "1.0.0", base)
			get(t, user, name, "1.0.0", root)
			want := release(t, author, name, "1.1.0", tc.next)
			got := get(t, user, name, "1.1.0", root)
			if got.Digest != want.Digest {
				t.Fatalf("%s is installed, not %s", got.Digest, want.Digest)
			}
			if got.Fetched > tc.most {
				t.Errorf("%d bytes were fetched of %d, of which %d have changed", got.Fetched, want.Size, tc.next.changed(base))
			}
		})
	}
}

// TestVersionsInARow changes, moves and removes files at random, many times.
func TestVersionsInARow(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	author := open(t, t.TempDir())
	user := open(t, t.TempDir(), address(t, author))
	root := t.TempDir()
	now := sample(r)
	release(t, author, "moving", "1.0.0", now)
	get(t, user, "moving", "1.0.0", root)
	for minor := range 15 {
		next := maps.Clone(now)
		for range 1 + r.IntN(6) {
			paths := slices.Sorted(maps.Keys(next))
			path := paths[r.IntN(len(paths))]
			switch r.IntN(4) {
			case 0:
				delete(next, path)
			case 1:
				next[path] = random(r, r.IntN(300<<10))
			case 2:
				next[fmt.Sprintf("%c/%d", 'a'+rune(r.IntN(26)), r.Uint32())] = next[path]
			case 3:
				next[path] = strings.Repeat(next[path], 1+r.IntN(2)) + "!"
			}
		}
		version := fmt.Sprintf("1.%d.0", minor+1)
		want := release(t, author, "moving", version, next)
		got := get(t, user, "moving", version, root)
		// At both ends of each run of changed files there may be a piece of a chunk that is fetched as well.
		if most := next.changed(now) + slack + 20*256<<10; got.Digest != want.Digest || got.Fetched > most {
			t.Fatalf("%s: %d bytes were fetched of %d, of which %d have changed", version, got.Fetched, want.Size, next.changed(now))
		}
		now = next
	}
}

// TestWhoLiesAboutAChangedFileIsFoundOut has the only peer that is left send a wrong piece
// between files that are here.
func TestWhoLiesAboutAChangedFileIsFoundOut(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	base := sample(r)
	author := open(t, t.TempDir())
	liarHome := t.TempDir()
	liar := open(t, liarHome, address(t, author))
	user := open(t, t.TempDir(), address(t, liar))
	release(t, author, "told", "1.0.0", base)
	root := t.TempDir()
	get(t, user, "told", "1.0.0", root)
	release(t, author, "told", "1.1.0", base.with("templates/050.tmpl", "the truth"))
	get(t, liar, "told", "1.1.0", t.TempDir())
	eventually(t, "the user knows 1.1.0", func() bool {
		d, err := user.Describe(t.Context(), shared.Ref{Name: "told"})
		return err == nil && d.Version == "1.1.0"
	})
	if err := author.Close(); err != nil {
		t.Fatal(err)
	}
	replaceInBlobs(t, liarHome, "the truth", "a lie, so")
	_, err := user.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "told", Constraint: "1.1.0"}}, Root: root, Trust: true, Force: true}, nil)
	if !errors.Is(err, shared.ReasonIntegrity) {
		t.Errorf("it ends with %v", err)
	}
	if !p2p.Banned(t, user, p2p.HostOf(liar).ID().String()) {
		t.Error("the liar is not banned")
	}
}

func replaceInBlobs(t *testing.T, home, old, with string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(home, "content", "blobs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), old) {
			return err
		}
		return os.WriteFile(path, []byte(strings.ReplaceAll(string(data), old, with)), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRealVersions publishes folders as consecutive versions of a package and tells what
// each of them costs somebody who has the one before. GGEN_TEST_VERSIONS names them,
// separated by commas.
func TestRealVersions(t *testing.T) {
	folders := os.Getenv("GGEN_TEST_VERSIONS")
	if folders == "" {
		t.Skip("GGEN_TEST_VERSIONS names no folders")
	}
	author := open(t, t.TempDir())
	user := open(t, t.TempDir(), address(t, author))
	root := t.TempDir()
	var before tree
	for i, folder := range strings.Split(folders, ",") {
		version, now := fmt.Sprintf("1.%d.0", i), tree{}
		err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(folder, path)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			now[filepath.ToSlash(name)] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		receipt := release(t, author, "real", version, now)
		got := get(t, user, "real", version, root)
		t.Logf("| %s | %d | %d | %d | %d |", filepath.Base(folder), len(now), receipt.Size, now.changed(before), got.Fetched)
		before = now
	}
}
