package archive_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/shared"
)

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

// TestGoldenIndex pins the bytes that releases sign.
func TestGoldenIndex(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "index.golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := pack(t, oddTree()...).Index.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSuffix(string(want), "\n"), string(got)); diff != "" {
		t.Fatal(diff)
	}
}

func TestParseIndexRefuses(t *testing.T) {
	p := pack(t, file("a", strings.Repeat("x", 5000)), file("b", "y"), folder("c"))
	digest := p.Index.Digest
	for _, tc := range []struct {
		name   string
		change func(*archive.Index)
		says   string
	}{
		{"another format", func(ix *archive.Index) { ix.Format = 2 }, "format 2"},
		{"other chunks", func(ix *archive.Index) { ix.ChunkSize *= 2 }, "chunks of"},
		{"no size", func(ix *archive.Index) { ix.Size = 0 }, "0 bytes"},
		{"a size of its own", func(ix *archive.Index) { ix.Size += 512 }, "make an archive of"},
		{"more than the limit", func(ix *archive.Index) { ix.Size = 1 << 40 }, "allowed"},
		{"too few chunks", func(ix *archive.Index) { ix.Chunks = nil }, "chunks"},
		{"too many chunks", func(ix *archive.Index) { ix.Chunks = append(ix.Chunks, digest) }, "2 chunks for 8192 bytes"},
		{"a chunk without digest", func(ix *archive.Index) { ix.Chunks[0] = "x" }, "not a digest"},
		{"no digest", func(ix *archive.Index) { ix.Digest = "" }, "not a digest"},
		{"no files", func(ix *archive.Index) { ix.Files = []archive.File{} }, "no files"},
		{"a file without digest", func(ix *archive.Index) { ix.Files[0].Digest = "" }, "not a digest"},
		{"out of order", func(ix *archive.Index) { ix.Files[0], ix.Files[1] = ix.Files[1], ix.Files[0] }, "order"},
		{"twice", func(ix *archive.Index) { ix.Files[1].Path = "a" }, "order"},
		{"a path upwards", func(ix *archive.Index) { ix.Files[0].Path = "../a" }, `".."`},
		{"an absolute path", func(ix *archive.Index) { ix.Files[0].Path = "/a" }, "not relative"},
		{"a file that is a folder too", func(ix *archive.Index) { ix.Files[1].Path = "a/b" }, "folder too"},
		{"a folder that is a file too", func(ix *archive.Index) { ix.Files[1].Path = "c"; ix.Files[2].Path = "c/d" }, "folder too"},
		{"files that differ in case", func(ix *archive.Index) { ix.Files[0].Path = "B" }, "upper and lower case"},
		{"folders that differ in case", func(ix *archive.Index) { ix.Files[0].Path = "B/x"; ix.Files[1].Path = "b/y" }, "upper and lower case"},
		{"git's folder", func(ix *archive.Index) { ix.Files[0].Path = ".git/config" }, ".git"},
		{"git's folder inside", func(ix *archive.Index) { ix.Files[0].Path = "a/.Git/config" }, ".Git"},
		{"ggen's folder", func(ix *archive.Index) { ix.Files[0].Path = ".ggen/x" }, ".ggen"},
		{"another offset", func(ix *archive.Index) { ix.Files[0].Offset++ }, "begins at"},
		{"a negative size", func(ix *archive.Index) { ix.Files[0].Size = -1 }, "-1 bytes"},
		{"a huge size", func(ix *archive.Index) { ix.Files[0].Size = 1<<63 - 1 }, "in an archive of"},
		{"another size", func(ix *archive.Index) { ix.Files[1].Size += 512 }, "begins at"},
		{"a folder with a size", func(ix *archive.Index) { ix.Files[2].Size = 1 }, "has content"},
		{"a folder with a digest", func(ix *archive.Index) { ix.Files[2].Digest = digest }, "has content"},
		{"a folder that runs", func(ix *archive.Index) { ix.Files[2].Executable = true }, "has content"},
		{"a folder that is not empty", func(ix *archive.Index) { ix.Files[1].Path = "c"; ix.Files[1].Dir = true; ix.Files[2].Path = "c/d" }, "not empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data, err := p.Index.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			var ix archive.Index
			if err := json.Unmarshal(data, &ix); err != nil {
				t.Fatal(err)
			}
			tc.change(&ix)
			if data, err = ix.Marshal(); err != nil {
				t.Fatal(err)
			}
			if _, err := archive.ParseIndex(data, archive.Limits{}); !errors.Is(err, shared.ReasonIntegrity) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %q", err, tc.says)
			}
		})
	}
	for name, text := range map[string]string{"nothing": "", "no object": "[]", "no lists": `{"v":1,"chunk_size":262144,"size":2048}`} {
		t.Run(name, func(t *testing.T) {
			if _, err := archive.ParseIndex([]byte(text), archive.Limits{}); !errors.Is(err, shared.ReasonIntegrity) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestParseIndexIsBounded: eight megabytes of empty elements were once decoded to
// the end before anybody counted them.
func TestParseIndexIsBounded(t *testing.T) {
	digest := shared.DigestOf(nil)
	head := `{"v":1,"chunk_size":262144,"size":2048,"digest":"` + string(digest) + `","chunks":["` + string(digest) + `"`
	for name, text := range map[string]string{
		"files":  head + `],"files":[{}` + strings.Repeat(",{}", 2_500_000) + `]}`,
		"chunks": head + strings.Repeat(`,""`, 2_500_000) + `],"files":[]}`,
		"bytes":  head + `],"files":[]` + strings.Repeat(" ", archive.MaxIndexSize) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := archive.ParseIndex([]byte(text), archive.Limits{})
			runtime.ReadMemStats(&after)
			if !errors.Is(err, shared.ReasonIntegrity) {
				t.Fatalf("got %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 6*archive.MaxIndexSize {
				t.Fatalf("it took %d MiB", used>>20)
			}
		})
	}
}
