package folder

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/rogpeppe/go-internal/txtar"

	"ggen.dev/marketplace/shared"
)

var update = flag.Bool("update", false, "rewrite testdata/skeleton.txtar")

// TestSkeleton compares with testdata/skeleton.txtar, which package p2p/manifest
// reads to see that an engine has nothing against it.
func TestSkeleton(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my", "tool")
	files, err := WriteSkeleton(dir, "my-tool", "package")
	if err != nil {
		t.Fatal(err)
	}
	got := &txtar.Archive{Comment: []byte("What `package new my-tool` writes, and what an engine says of it.\n")}
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		got.Files = append(got.Files, txtar.File{Name: name, Data: data})
	}
	golden := filepath.Join("testdata", "skeleton.txtar")
	want, err := txtar.ParseFile(golden)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if *update {
		if want != nil {
			got.Files = append(got.Files, slices.DeleteFunc(want.Files, func(f txtar.File) bool { return !strings.HasPrefix(f.Name, "want/") })...)
		}
		if err := os.WriteFile(golden, txtar.Format(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want.Files = slices.DeleteFunc(want.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") })
	if text := string(txtar.Format(got)); text != string(txtar.Format(want)) {
		t.Fatalf("%s is stale: run the test with -update\n%s", golden, text)
	}
	published, err := names(t, dir)
	if err != nil || strings.Join(published, " ") != "README.md package.toml templates/hello.txt.tmpl" {
		t.Fatalf("published is %q, %v", published, err)
	}
}

func TestSkeletonOfEveryKind(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir() // one that is there and empty is taken
			if _, err := WriteSkeleton(dir, "a", kind); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(dir, kind+".toml"))
			if err != nil {
				t.Fatal(err)
			}
			var document map[string]map[string]any
			if err := toml.Unmarshal(data, &document); err != nil || document[kind]["name"] != "a" || manifests[kind+".toml"] != kind {
				t.Fatalf("%v\n%s", err, data)
			}
		})
	}
	if len(Kinds()) != len(manifests) {
		t.Fatal("some kind has no skeleton")
	}
}

func TestSkeletonRefuses(t *testing.T) {
	full := t.TempDir()
	write(t, full, map[string]string{"x": "mine", "file": ""})
	for name, tc := range map[string]struct {
		dir, name, kind string
		reason          shared.Reason
		says            string
	}{
		"a folder that is not empty": {full, "a", "package", shared.ReasonInvalidArgument, "is not empty"},
		"a file in the way":          {filepath.Join(full, "file"), "a", "package", shared.ReasonStorage, "write a package to"},
		"a file above":               {filepath.Join(full, "file", "a"), "a", "package", shared.ReasonStorage, "write a package to"},
		"a name":                     {filepath.Join(full, "new"), "A b", "package", shared.ReasonInvalidArgument, "is not allowed"},
		"a kind":                     {filepath.Join(full, "new"), "a", "crate", shared.ReasonInvalidArgument, "not a kind"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := WriteSkeleton(tc.dir, tc.name, tc.kind)
			if files != nil || !errors.Is(err, tc.reason) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%q, %v", files, err)
			}
		})
	}
	if left, err := os.ReadDir(full); err != nil || len(left) != 2 {
		t.Fatalf("%v, %v", left, err)
	}
}

// TestSkeletonIsTakenAway when not all of it can be written.
func TestSkeletonIsTakenAway(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	write(t, dir, map[string]string{"mine": "x"})
	for _, name := range []string{"a/b/c", "a/d"} {
		if err := writeNew(root, name, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeNew(root, "mine", "y"); err == nil {
		t.Fatal("a file that is there was written over")
	}
	removeAll(root, []string{"a/b/c", "a/d"})
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "mine" {
		t.Fatalf("%v, %v", left, err)
	}
}
