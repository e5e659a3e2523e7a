package archive_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/shared"
)

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
		for _, end := range []int{0, 600, 8 * 512, len(data) - 1024, len(data) - 1} {
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

// content gives the bytes of a packed archive.
func content(t testing.TB, p *archive.Packed) []byte {
	t.Helper()
	data, err := io.ReadAll(open(t, p))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestUnpackAnywhereCut: wherever a copy ends, it is damaged, and the engine may
// drop it; a disk that cannot be read is something else.
func TestUnpackAnywhereCut(t *testing.T) {
	p := pack(t, file("a", strings.Repeat("x", 5000)), file("b", "y"))
	data := content(t, p)
	parent := t.TempDir()
	for end := range data {
		if end%128 > 1 { // both sides of each border, and some in between
			continue
		}
		err := archive.Unpack(t.Context(), bytes.NewReader(data[:end]), p.Index, filepath.Join(parent, "pkg"))
		if !errors.Is(err, shared.ReasonIntegrity) {
			t.Fatalf("cut at %d: %v", end, err)
		}
	}
	for end := 0; end < len(data); end += 512 {
		r := io.MultiReader(bytes.NewReader(data[:end]), iotest.ErrReader(errors.New("input/output error")))
		if err := archive.Unpack(t.Context(), r, p.Index, filepath.Join(parent, "pkg")); !errors.Is(err, shared.ReasonStorage) {
			t.Fatalf("unreadable at %d: %v", end, err)
		}
	}
	isEmpty(t, parent)
}

// TestUnpackRefusesAnotherForm: an archive with the right files in a form of its
// own has a digest that no folder on disk could have.
func TestUnpackRefusesAnotherForm(t *testing.T) {
	p := pack(t, file("a", "one"), file("b", "two"))
	for name, change := range map[string]func(header []byte){
		"time":       func(h []byte) { h[146] = '1' },
		"owner":      func(h []byte) { copy(h[265:], "root") },
		"mode":       func(h []byte) { copy(h[100:], "0004755") },
		"link":       func(h []byte) { h[156] = '2'; copy(h[157:], "/etc/passwd") },
		"other name": func(h []byte) { h[0] = 'z' },
	} {
		t.Run(name, func(t *testing.T) {
			data := content(t, p)
			change(data[:512])
			sealHeader(data[:512])
			ix := *p.Index
			ix.Digest = shared.DigestOf(data)
			ix.Chunks = []shared.Digest{ix.Digest}
			parent := t.TempDir()
			if err := archive.Unpack(t.Context(), bytes.NewReader(data), &ix, filepath.Join(parent, "pkg")); !errors.Is(err, shared.ReasonIntegrity) {
				t.Fatalf("got %v", err)
			}
			isEmpty(t, parent)
		})
	}
	t.Run("padding", func(t *testing.T) {
		data := content(t, p)
		data[512+100] = 1
		ix := *p.Index
		ix.Digest = shared.DigestOf(data)
		ix.Chunks = []shared.Digest{ix.Digest}
		if err := archive.Unpack(t.Context(), bytes.NewReader(data), &ix, filepath.Join(t.TempDir(), "pkg")); !errors.Is(err, shared.ReasonIntegrity) {
			t.Fatalf("got %v", err)
		}
	})
}

// sealHeader makes a tar header's checksum right again.
func sealHeader(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// TestUnpackRefusesALyingIndex: each digest counts by itself.
func TestUnpackRefusesALyingIndex(t *testing.T) {
	p := pack(t, file("a", "one"), file("b", "two"))
	for name, change := range map[string]func(*archive.Index){
		"of a file":      func(ix *archive.Index) { ix.Files = slices.Clone(ix.Files); ix.Files[0].Digest = ix.Files[1].Digest },
		"of the archive": func(ix *archive.Index) { ix.Digest = ix.Files[0].Digest },
	} {
		t.Run(name, func(t *testing.T) {
			ix := *p.Index
			change(&ix)
			parent := t.TempDir()
			if err := archive.Unpack(t.Context(), open(t, p), &ix, filepath.Join(parent, "pkg")); !errors.Is(err, shared.ReasonIntegrity) {
				t.Fatalf("got %v", err)
			}
			isEmpty(t, parent)
		})
	}
	t.Run("and so do its paths", func(t *testing.T) {
		const text = "[core]\nfsmonitor = touch /tmp/x\n"
		data, err := io.ReadAll(stream(t, file(".git/config", text)))
		if err != nil {
			t.Fatal(err)
		}
		digest := shared.DigestOf(data)
		ix := &archive.Index{
			Format: 1, Digest: digest, Size: int64(len(data)), ChunkSize: archive.ChunkSize, Chunks: []shared.Digest{digest},
			Files: []archive.File{{Path: ".git/config", Size: int64(len(text)), Offset: 512, Digest: shared.DigestOf([]byte(text))}},
		}
		parent := t.TempDir()
		if err := archive.Unpack(t.Context(), bytes.NewReader(data), ix, filepath.Join(parent, "pkg")); !errors.Is(err, shared.ReasonIntegrity) {
			t.Fatalf("got %v", err)
		}
		isEmpty(t, parent)
	})
}

func TestUnpackGivesUpWithItsCaller(t *testing.T) {
	p := pack(t, oddTree()...)
	ctx, cancel := context.WithCancel(t.Context())
	parent := t.TempDir()
	r := io.MultiReader(bytes.NewReader(content(t, p)[:1024]), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }), open(t, p))
	if err := archive.Unpack(ctx, r, p.Index, filepath.Join(parent, "pkg")); !errors.Is(err, shared.ReasonCanceled) {
		t.Fatalf("got %v", err)
	}
	isEmpty(t, parent)
}

type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestExecutableIsWhatTheIndexSays(t *testing.T) {
	script := file("run", "#!/bin/sh\n")
	script.header.Mode = 0o711
	p := pack(t, script, file("text", "#!/bin/sh\n"))
	dest := filepath.Join(t.TempDir(), "pkg")
	if err := archive.Unpack(t.Context(), open(t, p), p.Index, dest); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"run": true, "text": false} {
		info, err := os.Stat(filepath.Join(dest, name))
		if err != nil || info.Mode().Perm()&0o111 != 0 != want {
			t.Fatalf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestUnpackAfterACrash(t *testing.T) {
	p := pack(t, file("a", "new"))
	const random = "0123456789abcdef"
	setUp := func(t *testing.T, folders ...string) (parent string) {
		parent = t.TempDir()
		for _, folder := range folders {
			if err := errors.Join(os.Mkdir(filepath.Join(parent, folder), 0o755),
				os.WriteFile(filepath.Join(parent, folder, "a"), []byte("in "+folder), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		return parent
	}
	names := func(t *testing.T, parent string) string {
		entries, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return strings.Join(all, " ")
	}
	t.Run("leftovers of this package go, all others stay", func(t *testing.T) {
		parent := setUp(t, "pkg", ".pkg.new-"+random, ".pkg.old-"+random, ".pkg.gone-"+random,
			".pkg.new-01", ".pkg.x.new-"+random, "pkg.new-"+random)
		if err := archive.Unpack(t.Context(), open(t, p), p.Index, filepath.Join(parent, "pkg")); err != nil {
			t.Fatal(err)
		}
		if got, want := names(t, parent), ".pkg.new-01 .pkg.x.new-"+random+" pkg pkg.new-"+random; got != want {
			t.Fatalf("there is %s, want %s", got, want)
		}
	})
	t.Run("what was moved aside comes back", func(t *testing.T) {
		parent := setUp(t, ".pkg.old-"+random)
		err := archive.Unpack(t.Context(), strings.NewReader("damaged"), p.Index, filepath.Join(parent, "pkg"))
		if !errors.Is(err, shared.ReasonIntegrity) {
			t.Fatalf("got %v", err)
		}
		if data, err := os.ReadFile(filepath.Join(parent, "pkg", "a")); err != nil || string(data) != "in .pkg.old-"+random || names(t, parent) != "pkg" {
			t.Fatalf("%q in %s, %v", data, names(t, parent), err)
		}
	})
}

// TestUnpackWithoutALock: callers must not, and if they do nothing gets mixed.
func TestUnpackWithoutALock(t *testing.T) {
	var packages []*archive.Packed
	for v := range 2 {
		var items []item
		for i := range 20 {
			items = append(items, file(fmt.Sprintf("d%d/f%d-%d", i%3, i, v*(i%2)), fmt.Sprint("version ", v)))
		}
		packages = append(packages, pack(t, items...))
	}
	dest := filepath.Join(t.TempDir(), "pkg")
	if err := archive.Unpack(t.Context(), open(t, packages[0]), packages[0].Index, dest); err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		var group sync.WaitGroup
		for i := range 4 {
			p, r := packages[i%2], open(t, packages[i%2])
			group.Go(func() {
				err := archive.Unpack(t.Context(), r, p.Index, dest)
				if err != nil && !errors.Is(err, shared.ReasonStorage) {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		group.Wait()
		digest, err := archive.DigestDir(t.Context(), dest)
		if err != nil || digest != packages[0].Index.Digest && digest != packages[1].Index.Digest {
			t.Fatalf("round %d: the folder is %s, %v", round, digest, err)
		}
	}
}

// TestAnyTreeComesBack: what was packed is what is unpacked, in whatever order it came.
func TestAnyTreeComesBack(t *testing.T) {
	part := rapid.StringMatching(`[a-zé日 ]{0,5}[a-zéß]`)
	rapid.Check(t, func(rt *rapid.T) {
		// Folders end in .d and files in .f, so that no name is both.
		names := rapid.SliceOfNDistinct(rapid.Custom(func(rt *rapid.T) string {
			var name strings.Builder
			for range rapid.IntRange(0, 3).Draw(rt, "depth") {
				name.WriteString(part.Draw(rt, "folder") + ".d/")
			}
			return name.String() + part.Draw(rt, "file") + ".f"
		}).Filter(func(name string) bool { return archive.CheckPath(name) == nil }), 1, 12, strings.ToLower).Draw(rt, "names")
		var items []item
		for i, name := range names {
			it := file(name, rapid.StringN(0, 200, 800).Draw(rt, "content"))
			if rapid.IntRange(0, 9).Draw(rt, "large") == 0 {
				it.content = string(binary.BigEndian.AppendUint64(make([]byte, rapid.IntRange(200_000, 600_000).Draw(rt, "size")), uint64(i)))
			}
			if rapid.Bool().Draw(rt, "executable") {
				it.header.Mode = 0o755
			}
			items = append(items, it)
		}
		if rapid.Bool().Draw(rt, "empty folder") {
			items = append(items, folder("empty.d/in.d"))
		}
		p := pack(t, items...)
		shuffled := rapid.Permutation(items).Draw(rt, "order")
		if again := pack(t, shuffled...); again.Index.Digest != p.Index.Digest {
			rt.Fatalf("the order of the input changes the digest")
		}
		data := content(t, p)
		for i, want := range p.Index.Chunks {
			if got := shared.DigestOf(data[i*archive.ChunkSize : min(len(data), (i+1)*archive.ChunkSize)]); got != want {
				rt.Fatalf("chunk %d is %s, not %s", i, got, want)
			}
		}
		marshalled, err := p.Index.Marshal()
		if err != nil {
			rt.Fatal(err)
		}
		ix, err := archive.ParseIndex(marshalled, archive.Limits{})
		if err != nil {
			rt.Fatal(err)
		}
		dest := filepath.Join(t.TempDir(), "pkg")
		if err := archive.Unpack(t.Context(), bytes.NewReader(data), ix, dest); err != nil {
			rt.Fatal(err)
		}
		if diff, err := archive.Compare(t.Context(), dest, ix); err != nil || !diff.Empty() {
			rt.Fatalf("%+v, %v", diff, err)
		}
		if digest, err := archive.DigestDir(t.Context(), dest); err != nil || digest != ix.Digest {
			rt.Fatalf("the folder is %s, not %s, %v", digest, ix.Digest, err)
		}
	})
}

// TestRealPackages runs over the collection of public packages where it is there.
func TestRealPackages(t *testing.T) {
	collection := filepath.Join("..", "..", "..", "shared", "packages")
	folders, err := os.ReadDir(collection)
	if err != nil {
		t.Skip("the collection of real packages is not beside this checkout")
	}
	for _, entry := range folders {
		t.Run(entry.Name(), func(t *testing.T) {
			p := pack(t, tree(t, filepath.Join(collection, entry.Name()))...)
			dest := filepath.Join(t.TempDir(), entry.Name())
			if err := archive.Unpack(t.Context(), open(t, p), p.Index, dest); err != nil {
				t.Fatal(err)
			}
			if digest, err := archive.DigestDir(t.Context(), dest); err != nil || digest != p.Index.Digest {
				t.Fatalf("the folder is %s, not %s, %v", digest, p.Index.Digest, err)
			}
			t.Logf("%d files, %d bytes", len(p.Index.Files), p.Index.Size)
		})
	}
}

// tree reads a folder as a host does.
func tree(t testing.TB, dir string) []item {
	t.Helper()
	var items []item
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		it := file(filepath.ToSlash(rel), string(data))
		it.header.Mode = int64(info.Mode().Perm())
		items = append(items, it)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}
