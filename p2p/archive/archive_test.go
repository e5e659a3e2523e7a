package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/shared"
)

// item is one header and content of a tar stream under test.
type item struct {
	header  tar.Header
	content string
}

func file(name, content string) item {
	return item{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content}
}

func stream(t testing.TB, items ...item) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, it := range items {
		h := it.header
		h.Size = int64(len(it.content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, it.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func pack(t testing.TB, items ...item) *archive.Packed {
	t.Helper()
	p, err := archive.Pack(context.Background(), stream(t, items...), t.TempDir(), archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// oddTree is a tree with everything that is unusual and allowed.
func oddTree() []item {
	script := file("scripts/run.sh", "#!/bin/sh\n")
	script.header.Mode = 0o755
	script.header.Uid, script.header.Uname = 1000, "somebody"
	return []item{
		file("package.toml", "[package]\n"),
		file("empty.txt", ""),
		file("ünïcode/日本語.txt", "text"),
		file("spaces in name.txt", "x"),
		file(strings.Repeat("d/", 60)+"deep.txt", "deep"),
		file(strings.Repeat("n", 150)+".txt", "long"),
		script,
		{header: tar.Header{Name: "empty-folder/", Typeflag: tar.TypeDir, Mode: 0o700}},
		{header: tar.Header{Name: "scripts/", Typeflag: tar.TypeDir, Mode: 0o700}},
	}
}

// TestGoldenDigest pins the canonical form: a change here makes every published
// package a different one.
func TestGoldenDigest(t *testing.T) {
	const want = "sha256:a5ae7a086f4c0e19b559b0d5dc1026f38dadd81bf2176731b8c2004a9548da7d"
	if got := pack(t, oddTree()...).Index.Digest; got != want {
		t.Fatalf("digest %s, want %s", got, want)
	}
}

func TestOrderTimesAndOwnersDoNotMatter(t *testing.T) {
	items := oddTree()
	want := pack(t, items...).Index
	slices.Reverse(items)
	for i := range items {
		items[i].header.Uid, items[i].header.Gname = i, "group"
		items[i].header.Name = "./" + items[i].header.Name
	}
	if diff := cmp.Diff(want, pack(t, items...).Index); diff != "" {
		t.Fatal(diff)
	}
}

func TestPackRefuses(t *testing.T) {
	special := func(flag byte) item {
		return item{header: tar.Header{Name: "x", Typeflag: flag, Linkname: "y"}}
	}
	for _, tc := range []struct {
		name  string
		items []item
		says  string
	}{
		{"nothing", nil, "no files"},
		{"symbolic link", []item{special(tar.TypeSymlink)}, "symbolic link"},
		{"hard link", []item{special(tar.TypeLink)}, "hard link"},
		{"device", []item{special(tar.TypeChar)}, "device"},
		{"named pipe", []item{special(tar.TypeFifo)}, "named pipe"},
		{"absolute path", []item{file("/etc/passwd", "")}, "not relative"},
		{"path upwards", []item{file("a/../../b", "")}, `".."`},
		{"backslash", []item{file(`a\b`, "")}, "character"},
		{"control character", []item{file("a\x1b[2J", "")}, "character"},
		{"bidirectional override", []item{file("a\u202eb", "")}, "character"},
		{"not UTF-8", []item{file("a\xff", "")}, "UTF-8"},
		{"too long a path", []item{file(strings.Repeat("p", archive.MaxPath+1), "")}, "240"},
		{"twice", []item{file("a", "1"), file("a", "2")}, "twice"},
		{"differs in case", []item{file("Read.md", ""), file("README.md", ""), file("readme.md", "")}, "upper and lower case"},
		{"differs in composition", []item{file("\u00e9", ""), file("e\u0301", "")}, "how a letter is written"},
		{"folder differs in case", []item{file("a/x", ""), file("A/y", "")}, "upper and lower case"},
		{"file and folder", []item{file("a", ""), file("a/b", "")}, "folder too"},
		{"device name of Windows", []item{file("aux.txt", "")}, "Windows"},
		{"ends in a dot", []item{file("a.", "")}, "Windows"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			scratch := t.TempDir()
			_, err := archive.Pack(t.Context(), stream(t, tc.items...), scratch, archive.Limits{})
			if !errors.Is(err, shared.ReasonInvalidPackage) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %q", err, tc.says)
			}
			if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
				t.Fatalf("it left %v, %v", left, err)
			}
		})
	}
}

func TestPackIsBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		limits archive.Limits
		items  []item
	}{
		"files":   {archive.Limits{Files: 2}, []item{file("a", ""), file("b", ""), file("c", "")}},
		"bytes":   {archive.Limits{Bytes: 100}, []item{file("a", strings.Repeat("x", 101))}},
		"archive": {archive.Limits{Bytes: 2000}, []item{file("a", strings.Repeat("x", 1000))}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := archive.Pack(t.Context(), stream(t, tc.items...), t.TempDir(), tc.limits)
			if !errors.Is(err, shared.ReasonLimitExceeded) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestVersionControlIsLeftOut(t *testing.T) {
	p := pack(t, file("a", "x"), file(".git/config", "secret"), file(".ggen/packages/b", "y"))
	if len(p.Index.Files) != 1 || strings.Join(p.Skipped, " ") != ".ggen .git" {
		t.Fatalf("files %v, skipped %v", p.Index.Files, p.Skipped)
	}
}

func open(t testing.TB, p *archive.Packed) *os.File {
	t.Helper()
	f, err := os.Open(p.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestUnpack(t *testing.T) {
	p := pack(t, oddTree()...)
	dest := filepath.Join(t.TempDir(), "parent", "pkg")
	if err := archive.Unpack(t.Context(), open(t, p), p.Index, dest); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T) {
		t.Helper()
		diff, err := archive.Compare(t.Context(), dest, p.Index)
		if err != nil || !diff.Empty() {
			t.Fatalf("%+v, %v", diff, err)
		}
		if digest, err := archive.DigestDir(t.Context(), dest); err != nil || digest != p.Index.Digest {
			t.Fatalf("the folder's digest is %s, not %s, %v", digest, p.Index.Digest, err)
		}
		if left, err := os.ReadDir(filepath.Dir(dest)); err != nil || len(left) != 1 {
			t.Fatalf("beside it lies %v, %v", left, err)
		}
	}
	check(t)
	t.Run("over an older one", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(dest, "extra"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := archive.Unpack(t.Context(), open(t, p), p.Index, dest); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
	t.Run("a damaged archive changes nothing", func(t *testing.T) {
		data, err := io.ReadAll(open(t, p))
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, 100, 513, len(data) / 2, len(data) - 1} {
			damaged := bytes.Clone(data)
			damaged[at] ^= 1
			if err := archive.Unpack(t.Context(), bytes.NewReader(damaged), p.Index, dest); !errors.Is(err, shared.ReasonIntegrity) {
				t.Errorf("bit at %d: %v", at, err)
			}
			check(t)
		}
		for _, end := range []int{0, 600, len(data) - 1024, len(data) - 1} {
			if err := archive.Unpack(t.Context(), bytes.NewReader(data[:end]), p.Index, dest); !errors.Is(err, shared.ReasonIntegrity) {
				t.Errorf("cut at %d: %v", end, err)
			}
			check(t)
		}
		if err := archive.Unpack(t.Context(), io.MultiReader(bytes.NewReader(data), strings.NewReader("more")), p.Index, dest); !errors.Is(err, shared.ReasonIntegrity) {
			t.Errorf("longer: %v", err)
		}
		check(t)
	})
}

func TestCompare(t *testing.T) {
	p := pack(t, file("a", "1"), file("b", "2"), file("dir/c", "3"))
	dest := filepath.Join(t.TempDir(), "pkg")
	if err := archive.Unpack(t.Context(), open(t, p), p.Index, dest); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dest, "a"), []byte("x"), 0o644),
		os.Remove(filepath.Join(dest, "b")),
		os.Chmod(filepath.Join(dest, "dir", "c"), 0o755),
		os.WriteFile(filepath.Join(dest, "dir", "new"), nil, 0o644),
	); err != nil {
		t.Fatal(err)
	}
	got, err := archive.Compare(t.Context(), dest, p.Index)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(archive.Diff{Modified: []string{"a", "dir/c"}, Missing: []string{"b"}, Extra: []string{"dir/new"}}, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestIndexOfALargeFile(t *testing.T) {
	p := pack(t, file("big", strings.Repeat("0123456789abcdef", archive.ChunkSize/8)))
	if len(p.Index.Chunks) != 3 {
		t.Fatalf("%d chunks for %d bytes", len(p.Index.Chunks), p.Index.Size)
	}
	data, err := p.Index.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := archive.ParseIndex(data, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Index, again); diff != "" {
		t.Fatal(diff)
	}
	if _, err := archive.ParseIndex(data, archive.Limits{Bytes: 1000}); !errors.Is(err, shared.ReasonIntegrity) {
		t.Fatalf("over the installer's limit: %v", err)
	}
}

// TestAnyTreeComesBack: what was packed is what is unpacked.
func TestAnyTreeComesBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,6}(/[a-z]{1,6}){0,2}\.txt`), 1, 12, rapid.ID[string]).Draw(rt, "names")
		var items []item
		for _, name := range names {
			it := file(name, rapid.StringN(0, 200, 800).Draw(rt, "content"))
			if rapid.Bool().Draw(rt, "executable") {
				it.header.Mode = 0o755
			}
			items = append(items, it)
		}
		p := pack(t, items...)
		shuffled := rapid.Permutation(items).Draw(rt, "order")
		if again := pack(t, shuffled...); again.Index.Digest != p.Index.Digest {
			rt.Fatalf("the order of the input changes the digest")
		}
		dest := filepath.Join(t.TempDir(), "pkg")
		if err := archive.Unpack(t.Context(), open(t, p), p.Index, dest); err != nil {
			rt.Fatal(err)
		}
		if diff, err := archive.Compare(t.Context(), dest, p.Index); err != nil || !diff.Empty() {
			rt.Fatalf("%+v, %v", diff, err)
		}
	})
}

func FuzzPack(f *testing.F) {
	seed, err := io.ReadAll(stream(f, oddTree()...))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("not a tar"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := archive.Pack(t.Context(), bytes.NewReader(data), t.TempDir(), archive.Limits{Files: 100, Bytes: 1 << 20})
		if err != nil {
			return
		}
		defer func() { _ = p.Close() }()
		dest := filepath.Join(t.TempDir(), "pkg")
		if err := archive.Unpack(t.Context(), open(t, p), p.Index, dest); err != nil {
			t.Fatalf("packed and does not unpack: %v", err)
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	p := pack(f, oddTree()...)
	data, err := p.Index.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"v":1,"size":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ix, err := archive.ParseIndex(data, archive.Limits{})
		if err != nil {
			return
		}
		for _, file := range ix.Files {
			if archive.CheckPath(file.Path) != nil || file.Offset+file.Size > ix.Size {
				t.Fatalf("accepted %+v", file)
			}
		}
	})
}

func FuzzUnpack(f *testing.F) {
	p := pack(f, oddTree()...)
	data, err := io.ReadAll(open(f, p))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		err := archive.Unpack(t.Context(), bytes.NewReader(data), p.Index, filepath.Join(parent, "pkg"))
		left, readErr := os.ReadDir(parent)
		if readErr != nil || (err != nil) != (len(left) == 0) {
			t.Fatalf("%v left %v, %v", err, left, readErr)
		}
	})
}

// BenchmarkDigestDir compares the canonical digest of a folder with what hashing
// the same bytes costs at the least.
func BenchmarkDigestDir(b *testing.B) {
	dir := b.TempDir()
	for i := range 300 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%03d", i)), bytes.Repeat([]byte{byte(i)}, 64<<10), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(300 * 64 << 10)
	for b.Loop() {
		if _, err := archive.DigestDir(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
	}
}
