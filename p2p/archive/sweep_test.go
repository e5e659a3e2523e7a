package archive_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p/archive"
)

// age makes a folder look as if nothing had come to it for some time.
func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestUnpackSweepsWhatOthersLeft(t *testing.T) {
	p := pack(t, file("a", "new"))
	const random, old, young = "0123456789abcdef", 61 * time.Minute, 59 * time.Minute
	for _, tc := range []struct {
		name   string
		before map[string]time.Duration // folders and their ages
		after  string
	}{
		{"abandoned ones go", map[string]time.Duration{".a.new-" + random: old, ".b.x.gone-" + random: old, ".c.old-" + random: old, "c": old}, "c pkg"},
		{"young ones stay", map[string]time.Duration{".a.new-" + random: young, ".b.gone-" + random: young}, ".a.new-" + random + " .b.gone-" + random + " pkg"},
		{"a package that was moved aside comes back", map[string]time.Duration{".a.old-" + random: young}, "a pkg"},
		{"also if its successor was abandoned", map[string]time.Duration{".a.old-" + random: young, ".a.new-" + random: old}, "a pkg"},
		{"but not while it may still come", map[string]time.Duration{".a.old-" + random: old, ".a.new-" + random: young}, ".a.new-" + random + " .a.old-" + random + " pkg"},
		{"what is not ours stays", map[string]time.Duration{
			".a.new-0123": old, "a.new-" + random: old, "..new-" + random: old, ".a.new-" + strings.ToUpper(random): old, ".a.tmp-" + random: old,
		}, "..new-" + random + " .a.new-0123 .a.new-" + strings.ToUpper(random) + " .a.tmp-" + random + " a.new-" + random + " pkg"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			parent := t.TempDir()
			for folder, by := range tc.before {
				path := filepath.Join(parent, folder)
				if err := errors.Join(os.Mkdir(path, 0o755), os.WriteFile(filepath.Join(path, "a"), []byte(folder), 0o644)); err != nil {
					t.Fatal(err)
				}
				age(t, path, by)
			}
			if err := archive.Unpack(t.Context(), open(t, p), p.Index, filepath.Join(parent, "pkg")); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(list(t, parent), " "); got != tc.after {
				t.Fatalf("there is %s, want %s", got, tc.after)
			}
			if data, err := os.ReadFile(filepath.Join(parent, "a", "a")); err == nil && string(data) != ".a.old-"+random {
				t.Fatalf("in its place is %q", data)
			}
		})
	}
}

func list(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestUnpackDoesNotSweepWhatIsInUse has an unpack that waits for its archive, for
// hours as it seems.
func TestUnpackDoesNotSweepWhatIsInUse(t *testing.T) {
	slow, quick := pack(t, file("a", "slow")), pack(t, file("a", "quick"))
	parent := t.TempDir()
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- archive.Unpack(t.Context(), r, slow.Index, filepath.Join(parent, "slow")) }()
	content, err := io.ReadAll(open(t, slow))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content[:1]); err != nil { // it reads when its folder is there and locked
		t.Fatal(err)
	}
	incoming := list(t, parent)
	if len(incoming) != 1 {
		t.Fatalf("there is %v", incoming)
	}
	age(t, filepath.Join(parent, incoming[0]), 48*time.Hour)
	if err := archive.Unpack(t.Context(), open(t, quick), quick.Index, filepath.Join(parent, "quick")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content[1:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(list(t, parent), " "); got != "quick slow" {
		t.Fatalf("there is %s", got)
	}
}
