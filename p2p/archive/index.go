package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// ParseIndex reads and validates an index: afterwards its paths can stand side
// by side on every system, and its sizes and offsets are those of the canonical
// archive of its files. Its digests are well formed; whether they are true, those
// who hold content find out. Errors: INTEGRITY, since an index that passed its
// digest and is still wrong was made wrong.
func ParseIndex(data []byte, limits Limits) (*Index, error) {
	limits = limits.orDefault()
	if len(data) > MaxIndexSize {
		return nil, badIndex("it has %d bytes; %d are allowed", len(data), MaxIndexSize)
	}
	ix := &Index{}
	if err := ix.decode(data, limits); err != nil {
		return nil, badIndex("%v", err)
	}
	if err := ix.check(limits); err != nil {
		return nil, err
	}
	return ix, nil
}

// decode reads an object's keys one by one, and the lists element by element: eight
// megabytes of empty elements would become a gigabyte.
func (ix *Index) decode(data []byte, limits Limits) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := open(decoder, '{'); err != nil {
		return err
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return err
		}
		switch key {
		case "v":
			err = decoder.Decode(&ix.Format)
		case "digest":
			err = decoder.Decode(&ix.Digest)
		case "size":
			err = decoder.Decode(&ix.Size)
		case "chunk_size":
			err = decoder.Decode(&ix.ChunkSize)
		case "chunks":
			ix.Chunks, err = list[shared.Digest](decoder, int((limits.Bytes+ChunkSize-1)/ChunkSize))
		case "files":
			ix.Files, err = list[File](decoder, limits.Files)
		default: // of a later version
			err = decoder.Decode(new(json.RawMessage))
		}
		if err != nil {
			return fmt.Errorf("%v: %w", key, err)
		}
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

func open(decoder *json.Decoder, bracket json.Delim) error {
	if begin, err := decoder.Token(); err != nil || begin != bracket {
		return fmt.Errorf("there is no %s", bracket)
	}
	return nil
}

// list decodes an array of at most so many elements, and no more than these.
func list[T any](decoder *json.Decoder, most int) (all []T, err error) {
	if err := open(decoder, '['); err != nil {
		return nil, err
	}
	for decoder.More() {
		if len(all) == most {
			return nil, fmt.Errorf("there are more than %d", most)
		}
		var one T
		if err := decoder.Decode(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	_, err = decoder.Token() // the closing bracket
	return all, err
}

func (ix *Index) chunkCount() int { return int((ix.Size + ChunkSize - 1) / ChunkSize) }

func (ix *Index) checkTotals(limits Limits) error {
	switch {
	case ix.Format != 1:
		return badIndex("format %d is not known", ix.Format)
	case ix.ChunkSize != ChunkSize:
		return badIndex("chunks of %d bytes", ix.ChunkSize)
	case ix.Size <= 0 || ix.Size > limits.Bytes:
		return badIndex("the archive has %d bytes; %d are allowed", ix.Size, limits.Bytes)
	}
	return nil
}

func (ix *Index) check(limits Limits) error {
	if err := ix.checkTotals(limits); err != nil {
		return err
	}
	if len(ix.Chunks) != ix.chunkCount() {
		return badIndex("%d chunks for %d bytes", len(ix.Chunks), ix.Size)
	}
	for _, digest := range append([]shared.Digest{ix.Digest}, ix.Chunks...) {
		if _, err := shared.ParseDigest(string(digest)); err != nil {
			return badIndex("%v", err)
		}
	}
	if err := ix.checkPaths(limits); err != nil {
		return err
	}
	return ix.checkLayout()
}

// checkPaths holds the paths to the rules by which Pack takes them.
func (ix *Index) checkPaths(limits Limits) error {
	if len(ix.Files) == 0 {
		return badIndex("there are no files")
	}
	t := newTree(limits)
	for i, f := range ix.Files {
		if i > 0 && ix.Files[i-1].Path >= f.Path {
			return badIndex("%q is out of order", f.Path)
		}
		if folder := excluded(f.Path); folder != "" {
			return badIndex("%q does not belong to a package", folder)
		}
		if err := t.place(f.node()); err != nil {
			return badIndex("%v", err)
		}
	}
	if len(t.sorted()) != len(ix.Files) {
		return badIndex("a folder is listed that is not empty")
	}
	return nil
}

// checkLayout holds sizes and offsets to the canonical form.
func (ix *Index) checkLayout() error {
	var h headers
	var end int64
	for _, f := range ix.Files {
		if f.Dir && (f.Size != 0 || f.Executable || f.Digest != "") {
			return badIndex("the folder %q has content", f.Path)
		}
		if f.Size < 0 || f.Size > ix.Size-end {
			return badIndex("%q has %d bytes in an archive of %d", f.Path, f.Size, ix.Size)
		}
		if _, err := shared.ParseDigest(string(f.Digest)); err != nil && !f.Dir {
			return badIndex("%q: %v", f.Path, err)
		}
		header, err := h.length(f.node())
		if err != nil {
			return badIndex("%v", err)
		}
		begin := end + header
		if f.Offset != begin {
			return badIndex("%q begins at %d, not at %d", f.Path, begin, f.Offset)
		}
		end = begin + f.Size + padding(f.Size)
	}
	if end+endSize != ix.Size {
		return badIndex("its files make an archive of %d bytes, not of %d", end+endSize, ix.Size)
	}
	return nil
}

func (f File) node() *node {
	return &node{path: f.Path, dir: f.Dir, executable: f.Executable, size: f.Size}
}

func badIndex(format string, args ...any) error {
	return shared.NewError(shared.ReasonIntegrity, "the package's index is wrong: %s", fmt.Sprintf(format, args...)).
		WithHint("its publisher made it so; nobody can install this release")
}
