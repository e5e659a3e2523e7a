package archive

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// ChunkSize is the size of every chunk but the last, in bytes. Smaller chunks
// resume and spread better, larger ones need a shorter index: at 256 KiB the
// digests are 0.01 % of the content, and a chunk takes 100 ms at 20 Mbit/s.
const ChunkSize = 256 << 10

// MaxIndexSize bounds an index, in bytes: 10,000 files with long paths.
const MaxIndexSize = 8 << 20

// Index describes a canonical archive. Its bytes are addressed by digest in the
// signed release, so whoever has a verified index can verify every chunk and file.
type Index struct {
	Format    int             `json:"v"` // 1
	Digest    shared.Digest   `json:"digest"`
	Size      int64           `json:"size"`
	ChunkSize int64           `json:"chunk_size"`
	Chunks    []shared.Digest `json:"chunks"`
	Files     []File          `json:"files"` // sorted by path
}

// File is a file, or an empty folder, in an archive.
type File struct {
	Path       string        `json:"path"`
	Dir        bool          `json:"dir,omitempty"`
	Executable bool          `json:"executable,omitempty"`
	Size       int64         `json:"size,omitempty"`
	Offset     int64         `json:"offset"` // of the content in the archive
	Digest     shared.Digest `json:"digest,omitempty"`
}

// File finds a file by path.
func (ix *Index) File(name string) (File, bool) {
	i, found := slices.BinarySearchFunc(ix.Files, name, func(f File, name string) int { return strings.Compare(f.Path, name) })
	if !found || ix.Files[i].Dir {
		return File{}, false
	}
	return ix.Files[i], true
}

// Marshal gives the bytes that are addressed; equal indexes give equal bytes.
func (ix *Index) Marshal() ([]byte, error) { return json.Marshal(ix) }

// ParseIndex reads and validates an index. Errors: INTEGRITY, since an index
// that passed its digest and is still wrong was made wrong.
func ParseIndex(data []byte, limits Limits) (*Index, error) {
	limits = limits.orDefault()
	if len(data) > MaxIndexSize {
		return nil, badIndex("it has %d bytes; %d are allowed", len(data), MaxIndexSize)
	}
	var ix Index
	if err := json.Unmarshal(data, &ix); err != nil {
		return nil, badIndex("%v", err)
	}
	if err := ix.check(limits); err != nil {
		return nil, err
	}
	return &ix, nil
}

func (ix *Index) check(limits Limits) error {
	switch {
	case ix.Format != 1:
		return badIndex("format %d is not known", ix.Format)
	case ix.ChunkSize != ChunkSize:
		return badIndex("chunks of %d bytes", ix.ChunkSize)
	case ix.Size <= 0 || ix.Size > limits.Bytes:
		return badIndex("the archive has %d bytes; %d are allowed", ix.Size, limits.Bytes)
	case int64(len(ix.Chunks)) != (ix.Size+ChunkSize-1)/ChunkSize:
		return badIndex("%d chunks for %d bytes", len(ix.Chunks), ix.Size)
	case len(ix.Files) == 0 || len(ix.Files) > limits.Files:
		return badIndex("%d files; 1 to %d are allowed", len(ix.Files), limits.Files)
	}
	for _, digest := range append([]shared.Digest{ix.Digest}, ix.Chunks...) {
		if _, err := shared.ParseDigest(string(digest)); err != nil {
			return badIndex("%v", err)
		}
	}
	return ix.checkFiles()
}

func (ix *Index) checkFiles() error {
	folded := map[string]bool{}
	var end int64
	for i, f := range ix.Files {
		if err := CheckPath(f.Path); err != nil {
			return badIndex("%v", err)
		}
		if i > 0 && ix.Files[i-1].Path >= f.Path {
			return badIndex("%q is out of order", f.Path)
		}
		if folded[foldPath(f.Path)] {
			return badIndex("%q differs from another only in case", f.Path)
		}
		folded[foldPath(f.Path)] = true
		if f.Size < 0 || f.Offset < end || f.Offset > ix.Size || f.Size > ix.Size-f.Offset {
			return badIndex("%q lies outside of the archive", f.Path)
		}
		end = f.Offset + f.Size
		if f.Dir {
			if f.Size != 0 || f.Executable || f.Digest != "" {
				return badIndex("the folder %q has content", f.Path)
			}
			continue
		}
		if _, err := shared.ParseDigest(string(f.Digest)); err != nil {
			return badIndex("%q: %v", f.Path, err)
		}
	}
	return nil
}

func badIndex(format string, args ...any) error {
	return shared.NewError(shared.ReasonIntegrity, "the package's index is wrong: %s", fmt.Sprintf(format, args...)).
		WithHint("its publisher made it so; nobody can install this release")
}
