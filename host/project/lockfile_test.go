package project

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/shared"
)

func locked(name string, needs ...string) shared.LockedPackage {
	return shared.LockedPackage{
		Name: name, Version: "1.0.0", Publisher: shared.PublisherID(strings.Repeat("ab", 32)),
		Digest: shared.DigestOf([]byte(name)), Dependencies: needs,
	}
}

func genLocked(t *rapid.T) shared.LockedPackage {
	name := rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,20}`)
	return shared.LockedPackage{
		Name:         name.Draw(t, "name"),
		Version:      rapid.StringMatching(`(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]?)\.(0|[1-9])(-[a-z]{1,5}\.[1-9])?(\+[a-z0-9]{1,5})?`).Draw(t, "version"),
		Publisher:    shared.PublisherID(rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "publisher")),
		Digest:       shared.Digest("sha256:" + rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "digest")),
		Dependencies: slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(name, 0, 4).Draw(t, "needs")))),
	}
}

// TestLockfileReadsWhatItWrites, in whatever order packages arrive.
func TestLockfileReadsWhatItWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		packages := rapid.SliceOfNDistinct(rapid.Custom(genLocked), 0, 8, func(p shared.LockedPackage) string { return p.Name }).Draw(t, "packages")
		var one, other Lockfile
		for _, pkg := range packages {
			one = one.With(pkg)
		}
		for _, pkg := range slices.Backward(packages) {
			other = other.With(pkg).With(pkg)
		}
		text, err := one.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := other.Bytes(); err != nil || string(again) != string(text) {
			t.Fatalf("the order of arrival shows: %v\n%s\n%s", err, text, again)
		}
		read, err := ParseLockfile("ggen.lock", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for i := range read.Packages {
			if !slices.Equal(read.Packages[i].Dependencies, one.Packages[i].Dependencies) {
				t.Fatalf("dependencies: %v", read.Packages[i])
			}
			read.Packages[i].Dependencies, one.Packages[i].Dependencies = nil, nil
		}
		if diff := cmp.Diff(one.Packages, read.Packages, cmp.Transformer("empty", func(p []shared.LockedPackage) string { return fmt.Sprint(p) })); diff != "" {
			t.Fatal(diff)
		}
		for _, pkg := range packages {
			one = one.Without(pkg.Name)
		}
		if len(one.Packages) != 0 {
			t.Fatalf("left: %v", one.Packages)
		}
	})
}

func TestParseLockfileRefuses(t *testing.T) {
	good, err := Lockfile{}.With(locked("app", "base")).With(locked("base")).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		old, new string
		message  string
		line     int
	}{
		{"what is not TOML", `version = 1`, `version 1`, "", 2},
		{"another format version", `version = 1`, `version = 2`, "newer than this ggen", 2},
		{"no format version", `version = 1`, ``, "version = 1", 1},
		{"an unknown key", `name = "base"`, `name = "base"` + "\n" + `evil = 1`, "unknown key", 15},
		{"a name that is a path", `name = "base"`, `name = "../base"`, "name:", 14},
		{"a version that is a range", `version = "1.0.0"`, `version = "1.x"`, "version:", 6},
		{"a version with escapes", `version = "1.0.0"`, `version = "1.0.0\u001b[31m"`, "version:", 6},
		{"a publisher that is shortened", strings.Repeat("ab", 32), "abababab", "publisher:", 7},
		{"a digest of another kind", `digest = "sha256:`, `digest = "md5:`, "digest:", 8},
		{"a dependency that is a path", `  "base",`, `  "/etc",`, "dependencies:", 9},
		{"a package that occurs twice", `name = "base"`, `name = "app"`, "occurs twice", 14},
		{"the marks of a merge", "[[package]]", "<<<<<<< HEAD\n[[package]]", "a merge has left its markers", 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(string(good), tc.old, tc.new, 1)
			if text == string(good) {
				t.Fatalf("%q is not in the file", tc.old)
			}
			_, err := ParseLockfile("dir/ggen.lock", []byte(text))
			var e *shared.Error
			if !errors.As(err, &e) || e.Reason != shared.ReasonLockfile || e.Hint == "" {
				t.Fatalf("err = %v", err)
			}
			if !strings.HasPrefix(e.Message, fmt.Sprintf("dir/ggen.lock:%d:", tc.line)) || !strings.Contains(e.Message, tc.message) || e.Metadata["line"] != itoa(tc.line) {
				t.Fatalf("%q (line %s), want line %d and %q\n%s", e.Message, e.Metadata["line"], tc.line, tc.message, text)
			}
		})
	}
}

func TestLockfileWritesOnlyWhatItReads(t *testing.T) {
	bad := locked("app")
	bad.Version = "1.0.0\"\nevil = true"
	if _, err := (Lockfile{}).With(bad).Bytes(); !errors.Is(err, shared.ReasonLockfile) {
		t.Fatalf("err = %v", err)
	}
}

func TestLockfileGraph(t *testing.T) {
	l := Lockfile{}.With(locked("app", "base", "log")).With(locked("tool", "log")).With(locked("base")).With(locked("log")).With(locked("self", "self"))
	for _, tc := range []struct {
		name    string
		removed []string
		want    []string
	}{
		{"log", nil, []string{"app", "tool"}},
		{"log", []string{"app", "log"}, []string{"tool"}},
		{"log", []string{"app", "tool"}, nil},
		{"app", nil, nil},
		{"self", nil, nil},
	} {
		if got := l.NeededBy(tc.name, tc.removed); !slices.Equal(got, tc.want) {
			t.Errorf("NeededBy(%s, %v) = %v, want %v", tc.name, tc.removed, got, tc.want)
		}
	}
	if got := l.Roots(); !slices.Equal(got, []string{"app", "self", "tool"}) {
		t.Errorf("Roots = %v", got)
	}
}

func FuzzParseLockfile(f *testing.F) {
	good, err := Lockfile{}.With(locked("app", "base")).With(locked("base")).Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("version = 1\npackage = [{name = \"a\"}]"))
	f.Add([]byte("version = 1\n[[package]]\nname = '''\n[[package]]'''\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLockfile("ggen.lock", data)
		if err != nil {
			if !errors.Is(err, shared.ReasonLockfile) {
				t.Fatalf("reason: %v", err)
			}
			return
		}
		text, err := l.Bytes()
		if err != nil {
			t.Fatalf("was read and cannot be written: %v", err)
		}
		again, err := ParseLockfile("ggen.lock", text)
		if err != nil || len(again.Packages) != len(l.Packages) {
			t.Fatalf("does not survive: %v\n%s", err, text)
		}
	})
}
