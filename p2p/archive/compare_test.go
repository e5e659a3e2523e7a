package archive_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/shared"
)

// unpacked gives a folder with the package's files.
func unpacked(t testing.TB, p *archive.Packed) (dest string) {
	t.Helper()
	dest = filepath.Join(t.TempDir(), "pkg")
	if err := archive.Unpack(t.Context(), open(t, p), p.Index, dest); err != nil {
		t.Fatal(err)
	}
	return dest
}

func TestCompare(t *testing.T) {
	p := pack(t, file("a", "1"), file("b", "2"), file("dir/c", "3"), folder("empty"), file("run/x", "4"), file("zero", ""))
	for _, tc := range []struct {
		name   string
		change func(dest string) error
		want   archive.Diff
	}{
		{"nothing", func(string) error { return nil }, archive.Diff{}},
		{"content", func(d string) error { return os.WriteFile(filepath.Join(d, "a"), []byte("x"), 0o644) }, archive.Diff{Modified: []string{"a"}}},
		{"size", func(d string) error { return os.WriteFile(filepath.Join(d, "a"), []byte("11"), 0o644) }, archive.Diff{Modified: []string{"a"}}},
		{"made executable", func(d string) error { return os.Chmod(filepath.Join(d, "dir", "c"), 0o755) }, archive.Diff{Modified: []string{"dir/c"}}},
		{"removed", func(d string) error { return os.Remove(filepath.Join(d, "b")) }, archive.Diff{Missing: []string{"b"}}},
		{"the last of its folder removed", func(d string) error { return os.Remove(filepath.Join(d, "run", "x")) }, archive.Diff{Missing: []string{"run/x"}}},
		{"added", func(d string) error { return os.WriteFile(filepath.Join(d, "dir", "new"), nil, 0o644) }, archive.Diff{Extra: []string{"dir/new"}}},
		{"an empty folder added", func(d string) error { return os.Mkdir(filepath.Join(d, "z"), 0o755) }, archive.Diff{Extra: []string{"z"}}},
		{"an empty folder removed", func(d string) error { return os.Remove(filepath.Join(d, "empty")) }, archive.Diff{Missing: []string{"empty"}}},
		{"an empty folder filled", func(d string) error { return os.WriteFile(filepath.Join(d, "empty", "y"), nil, 0o644) }, archive.Diff{Extra: []string{"empty/y"}}},
		{"a link in place of a file", func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "a")), os.Symlink("b", filepath.Join(d, "a")))
		}, archive.Diff{Modified: []string{"a"}}},
		{"a link in place of an empty file", func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "zero")), os.Symlink(os.DevNull, filepath.Join(d, "zero")))
		}, archive.Diff{Modified: []string{"zero"}}},
		{"a link added", func(d string) error { return os.Symlink("/etc", filepath.Join(d, "etc")) }, archive.Diff{Extra: []string{"etc"}}},
		{"a folder in place of a file", func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "a")), os.Mkdir(filepath.Join(d, "a"), 0o755))
		}, archive.Diff{Modified: []string{"a"}}},
		{"a file in place of an empty folder", func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "empty")), os.WriteFile(filepath.Join(d, "empty"), nil, 0o644))
		}, archive.Diff{Modified: []string{"empty"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dest := unpacked(t, p)
			if err := tc.change(dest); err != nil {
				t.Fatal(err)
			}
			got, err := archive.Compare(t.Context(), dest, p.Index)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
	t.Run("there is no such folder", func(t *testing.T) {
		if _, err := archive.Compare(t.Context(), filepath.Join(t.TempDir(), "none"), p.Index); !errors.Is(err, shared.ReasonStorage) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := archive.Compare(ctx, unpacked(t, p), p.Index); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestDigestDirRefuses(t *testing.T) {
	t.Run("a link", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Symlink("x", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.DigestDir(t.Context(), dir); !errors.Is(err, shared.ReasonInvalidPackage) || shared.AsError(err).Metadata["path"] != "link" {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("more than a package may hold", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "large")
		if err := errors.Join(os.WriteFile(name, nil, 0o644), os.Truncate(name, archive.DefaultLimits().Bytes+1)); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.DigestDir(t.Context(), filepath.Dir(name)); !errors.Is(err, shared.ReasonLimitExceeded) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := archive.DigestDir(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestADifferenceIsAnotherDigest: Compare finds nothing exactly when the digest is right.
func TestADifferenceIsAnotherDigest(t *testing.T) {
	p := pack(t, file("a", "1"), file("d/b", "2"), file("d/e/c", "3"), folder("empty"))
	paths := []string{"a", "d", "d/b", "d/e", "d/e/c", "empty", "new", "empty/new"}
	rapid.Check(t, func(rt *rapid.T) {
		dest := unpacked(t, p)
		for range rapid.IntRange(0, 4).Draw(rt, "changes") {
			name := filepath.Join(dest, filepath.FromSlash(rapid.SampledFrom(paths).Draw(rt, "path")))
			// A change that is impossible after the earlier ones is none.
			switch rapid.IntRange(0, 4).Draw(rt, "change") {
			case 0:
				_ = os.RemoveAll(name)
			case 1:
				_ = os.Mkdir(name, 0o755)
			case 2:
				_ = os.WriteFile(name, []byte(fmt.Sprint(rapid.IntRange(1, 3).Draw(rt, "content"))), 0o644)
			case 3:
				_ = os.Chmod(name, 0o755)
			case 4:
				_ = os.Chmod(name, 0o744)
			}
		}
		diff, err := archive.Compare(t.Context(), dest, p.Index)
		if err != nil {
			rt.Fatal(err)
		}
		digest, err := archive.DigestDir(t.Context(), dest)
		if err != nil {
			rt.Fatal(err)
		}
		if diff.Empty() != (digest == p.Index.Digest) {
			rt.Fatalf("the digest is right: %v, and the difference is %+v", digest == p.Index.Digest, diff)
		}
	})
}
