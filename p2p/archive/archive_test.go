package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// item is one header and content of a tar stream under test.
type item struct {
	header  tar.Header
	content string
}

func file(name, content string) item {
	return item{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content}
}

func folder(name string) item {
	return item{header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
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
	p, err := archive.Pack(context.Background(), stream(t, items...), t.TempDir(), archive.Limits{}, nil)
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
		{"device name with a raised digit", []item{file("COM\u00b9", "")}, "Windows"},
		{"device name with a space", []item{file("a/con .txt", "")}, "Windows"},
		{"ends in a dot", []item{file("a.", "")}, "Windows"},
		{"ends in a space", []item{file("a /b", "")}, "Windows"},
		{"wildcard", []item{file("a*", "")}, "character"},
		{"line separator", []item{file("a\u2028b", "")}, "character"},
		{"folder and file", []item{file("a/b", ""), file("a", "")}, "folder too"},
		{"short name of git's folder", []item{file("x/GIT~1/config", "")}, "git"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			scratch := t.TempDir()
			_, err := archive.Pack(t.Context(), stream(t, tc.items...), scratch, archive.Limits{}, nil)
			if !errors.Is(err, shared.ReasonInvalidPackage) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %q", err, tc.says)
			}
			if len(tc.items) > 0 && shared.AsError(err).Metadata["path"] == "" {
				t.Fatal("no path in the metadata")
			}
			isEmpty(t, scratch)
		})
	}
}

// isEmpty fails the test if something is in a folder.
func isEmpty(t testing.TB, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Fatalf("%s holds %v, %v", dir, left, err)
	}
}

func TestPackOfABrokenStream(t *testing.T) {
	whole, err := io.ReadAll(stream(t, file("a", strings.Repeat("x", 5000)), file("b", "y")))
	if err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	broken := shared.NewError(shared.ReasonEngineFailed, "the other side hung up")
	for _, tc := range []struct {
		name string
		ctx  context.Context
		r    io.Reader
		want shared.Reason
	}{
		{"it ends in a header", t.Context(), bytes.NewReader(whole[:300]), shared.ReasonInvalidPackage},
		{"it ends in a file", t.Context(), bytes.NewReader(whole[:2000]), shared.ReasonInvalidPackage},
		{"it ends between two files", t.Context(), bytes.NewReader(whole[:512+5120]), shared.ReasonInvalidPackage},
		{"it ends in the padding", t.Context(), bytes.NewReader(whole[:512+5001]), shared.ReasonInvalidPackage},
		{"half an end mark", t.Context(), bytes.NewReader(whole[:len(whole)-512]), shared.ReasonInvalidPackage},
		{"it is no tar", t.Context(), strings.NewReader(strings.Repeat("no", 1000)), shared.ReasonInvalidPackage},
		{"the sender fails in a file", t.Context(), io.MultiReader(bytes.NewReader(whole[:2000]), iotest.ErrReader(broken)), shared.ReasonEngineFailed},
		{"the sender fails between two", t.Context(), io.MultiReader(bytes.NewReader(whole[:512+5120]), iotest.ErrReader(broken)), shared.ReasonEngineFailed},
		{"the caller gives up", canceled, bytes.NewReader(whole), shared.ReasonCanceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			scratch := t.TempDir()
			_, err := archive.Pack(tc.ctx, tc.r, scratch, archive.Limits{}, nil)
			if err == nil || shared.AsError(err).Reason != tc.want {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
			isEmpty(t, scratch)
		})
	}
}

func TestPackGivesUpWithItsCallerWhileItWrites(t *testing.T) {
	whole, err := io.ReadAll(stream(t, oddTree()...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	last := len(whole) - 512
	r := io.MultiReader(bytes.NewReader(whole[:last]), readerFunc(func(p []byte) (int, error) {
		cancel()
		return copy(p, whole[last:]), nil
	}))
	scratch := t.TempDir()
	if _, err := archive.Pack(ctx, r, scratch, archive.Limits{}, nil); err == nil || shared.AsError(err).Reason != shared.ReasonCanceled {
		t.Fatalf("got %v", err)
	}
	isEmpty(t, scratch)
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
			_, err := archive.Pack(t.Context(), stream(t, tc.items...), t.TempDir(), tc.limits, nil)
			if !errors.Is(err, shared.ReasonLimitExceeded) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestVersionControlIsLeftOut(t *testing.T) {
	p := pack(t, file("a", "x"), file(".git/config", "secret"), file(".ggen/packages/b", "y"), file("sub/.GIT", "gitdir: elsewhere"),
		file("sub/.gitignore", "z"), file("sub/.ggen/c", "kept, it is not ours"))
	var paths []string
	for _, f := range p.Index.Files {
		paths = append(paths, f.Path)
	}
	if got := strings.Join(paths, " "); got != "a sub/.ggen/c sub/.gitignore" {
		t.Fatalf("files %s", got)
	}
	if got := strings.Join(p.Skipped, " "); got != ".ggen .git sub/.GIT" {
		t.Fatalf("skipped %s", got)
	}
}

// sparseGit is a tar with a file of almost only a hole below .git, which is left
// out, and a file behind it. archive/tar reads the form and cannot write it.
func sparseGit(t testing.TB, size string) io.Reader {
	t.Helper()
	// archive/tar refuses to write these records: it gets other names of equal length.
	names := strings.NewReplacer("VND.sparse", "GNU.sparse")
	hole := file(".git/hole", "0\n"+strings.Repeat("\x00", 510)) // the map of the data: there is none
	hole.header.PAXRecords = map[string]string{"VND.sparse.major": "1", "VND.sparse.minor": "0", "VND.sparse.realsize": size}
	data, err := io.ReadAll(stream(t, hole, file("a", "content")))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReader(names.Replace(string(data)))
}

func TestAHoleThatIsLeftOut(t *testing.T) {
	p, err := archive.Pack(t.Context(), sparseGit(t, "9000000000000000000"), t.TempDir(), archive.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if len(p.Index.Files) != 1 || len(p.Skipped) != 1 {
		t.Fatalf("files %v, skipped %v", p.Index.Files, p.Skipped)
	}
}

func TestReadFile(t *testing.T) {
	p := pack(t, file("a", "content"), item{header: tar.Header{Name: "d/", Typeflag: tar.TypeDir}})
	if data, err := p.ReadFile("a", 7); err != nil || string(data) != "content" {
		t.Fatalf("%q, %v", data, err)
	}
	if _, err := p.ReadFile("a", 6); !errors.Is(err, shared.ReasonLimitExceeded) {
		t.Fatalf("over the limit: %v", err)
	}
	for most, want := range map[int64]string{0: "", 6: "conten", 7: "content", 8: "content"} {
		if data, err := p.ReadStart("a", most); err != nil || string(data) != want {
			t.Fatalf("the first %d bytes are %q, %v", most, data, err)
		}
	}
	for _, name := range []string{"b", "d"} {
		if _, err := p.ReadFile(name, 7); err == nil {
			t.Fatalf("%s was read", name)
		}
		if _, err := p.ReadStart(name, 7); err == nil {
			t.Fatalf("the start of %s was read", name)
		}
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

// TestModesOfTheManifest: what is executable does not depend on the system that the
// package comes from.
func TestModesOfTheManifest(t *testing.T) {
	script, plain := file("bin/run", "#!/bin/sh\n"), file("bin/tool", "x")
	script.header.Mode, plain.header.Mode = 0o755, 0o644
	stray := file("stray.sh", "y")
	stray.header.Mode = 0o700
	modes := func(names []string, read func(string, int64) ([]byte, error)) func(string) bool {
		if want := []string{"bin/run", "bin/tool", "list", "stray.sh"}; !slices.Equal(names, want) {
			t.Errorf("names %v", names)
		}
		data, err := read("list", 100)
		if err != nil {
			t.Error(err)
		}
		if _, err := read("list", 3); !errors.Is(err, shared.ReasonLimitExceeded) {
			t.Errorf("got %v", err)
		}
		if _, err := read("bin", 100); err == nil {
			t.Error("a folder is read")
		}
		return func(name string) bool { return slices.Contains(strings.Fields(string(data)), name) }
	}
	p, err := archive.Pack(t.Context(), stream(t, script, plain, stray, file("list", "bin/run bin/tool")), t.TempDir(), archive.Limits{}, modes)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if !slices.Equal(p.Tamed, []string{"stray.sh"}) {
		t.Errorf("tamed %v", p.Tamed)
	}
	for _, f := range p.Index.Files {
		if f.Executable != strings.HasPrefix(f.Path, "bin/") || f.Dir {
			t.Errorf("%s: executable %v", f.Path, f.Executable)
		}
	}
}
