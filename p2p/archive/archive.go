// Package archive turns a package folder into one canonical file and back. The
// canonical archive is a tar of regular files and empty folders, sorted by path,
// with modes 0644 or 0755, no times and no owners: the same tree gives the same
// bytes, and so the same digest, everywhere. An [Index] lists its chunks and
// files by digest, so that any part of it can be verified alone.
//
// Both directions treat their input as hostile: only regular files and folders
// pass, paths are checked by name ([CheckPath]), and everything is bounded
// ([Limits]). What a manifest says is for package manifest; where blobs live is
// for package store.
package archive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"ggen.dev/marketplace/shared"
)

// Limits bound what a package may hold. The zero value of a field means the
// default.
type Limits struct {
	Files int   // files and folders; default 10,000
	Bytes int64 // of the canonical archive; default 256 MiB
}

// DefaultLimits are the limits of the network: peers refuse packages beyond them.
func DefaultLimits() Limits { return Limits{Files: 10_000, Bytes: 256 << 20} }

func (l Limits) orDefault() Limits {
	if l.Files <= 0 {
		l.Files = DefaultLimits().Files
	}
	if l.Bytes <= 0 {
		l.Bytes = DefaultLimits().Bytes
	}
	return l
}

// ignored are the folders at the top of a tree that never belong to a package:
// version control and ggen's own state.
var ignored = []string{".git", ".ggen"}

// Packed is a finished canonical archive in a temporary file.
type Packed struct {
	Index   *Index
	Skipped []string // top folders that were left out
	file    *os.File
}

// Path is the temporary file's; move it away to keep it.
func (p *Packed) Path() string { return p.file.Name() }

// ReadFile returns a file's content; it must be in the index and at most max bytes.
func (p *Packed) ReadFile(name string, most int64) ([]byte, error) {
	f, ok := p.Index.File(name)
	if !ok {
		return nil, fmt.Errorf("%s is not in the package", name)
	}
	if f.Size > most {
		return nil, shared.NewError(shared.ReasonLimitExceeded, "%s has %d bytes; %d are allowed", name, f.Size, most)
	}
	data := make([]byte, f.Size)
	_, err := p.file.ReadAt(data, f.Offset)
	return data, err
}

// Close removes the temporary file unless it was moved. It is idempotent.
func (p *Packed) Close() error {
	err := p.file.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if removeErr := os.Remove(p.file.Name()); !errors.Is(removeErr, os.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}

// node is a file or folder while the archive is made.
type node struct {
	path       string
	dir        bool
	executable bool
	size       int64
	spool      int64 // where the content lies in the spool file
}

// Pack reads a tar stream from an untrusted sender, in any order, and writes the
// canonical archive to a temporary file in scratch. Errors: INVALID_PACKAGE with
// metadata path, LIMIT_EXCEEDED, STORAGE_FULL, the reader's own.
func Pack(ctx context.Context, r io.Reader, scratch string, limits Limits) (_ *Packed, err error) {
	limits = limits.orDefault()
	spool, err := os.CreateTemp(scratch, "spool-*")
	if err != nil {
		return nil, diskError(scratch, err)
	}
	defer func() { err = errors.Join(err, spool.Close(), os.Remove(spool.Name())) }()
	tree := &tree{limits: limits, spool: spool, folded: map[string]string{}, nodes: map[string]*node{}, skipped: map[string]bool{}}
	if err := tree.read(ctx, r); err != nil {
		return nil, err
	}
	out, err := os.CreateTemp(scratch, "archive-*")
	if err != nil {
		return nil, diskError(scratch, err)
	}
	packed := &Packed{file: out}
	for top := range tree.skipped {
		packed.Skipped = append(packed.Skipped, top)
	}
	slices.Sort(packed.Skipped)
	packed.Index, err = writeCanonical(ctx, out, tree.sorted(), func(n *node) (io.Reader, error) {
		return io.NewSectionReader(spool, n.spool, n.size), nil
	})
	if err == nil && packed.Index.Size > limits.Bytes {
		err = shared.NewError(shared.ReasonLimitExceeded, "the package's archive has %d bytes; %d are allowed", packed.Index.Size, limits.Bytes)
	}
	if err != nil {
		return nil, errors.Join(diskError(scratch, err), packed.Close())
	}
	return packed, nil
}

// tree collects what a tar stream holds.
type tree struct {
	limits  Limits
	spool   *os.File
	bytes   int64
	nodes   map[string]*node
	folded  map[string]string // case-folded path → path
	skipped map[string]bool
}

func (t *tree) read(ctx context.Context, r io.Reader) error {
	for tr := tar.NewReader(r); ; {
		if err := ctx.Err(); err != nil {
			return shared.AsError(err)
		}
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var typed *shared.Error
			if errors.As(err, &typed) {
				return err
			}
			return shared.NewError(shared.ReasonInvalidPackage, "read the package's files: %w", err)
		}
		if err := t.add(header, tr); err != nil {
			return err
		}
	}
	if len(t.nodes) == 0 {
		return shared.NewError(shared.ReasonInvalidPackage, "the package holds no files")
	}
	return nil
}

func (t *tree) add(header *tar.Header, content io.Reader) error {
	name := strings.TrimSuffix(strings.TrimPrefix(header.Name, "./"), "/")
	if name == "" || name == "." {
		return nil // the folder itself
	}
	if top, _, _ := strings.Cut(name, "/"); slices.Contains(ignored, top) {
		t.skipped[top] = true
		return nil
	}
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeDir:
	case tar.TypeSymlink:
		return refuse(name, "it is a symbolic link (to %q)", header.Linkname).
			WithHint("packages hold regular files only: put a copy of the file in its place, or leave it out")
	default:
		return refuse(name, "it is neither a regular file nor a folder (%s)", typeName(header.Typeflag))
	}
	if err := CheckPath(name); err != nil {
		return err
	}
	n := &node{path: name, dir: header.Typeflag == tar.TypeDir, executable: header.Mode&0o111 != 0, size: header.Size, spool: t.bytes}
	if n.dir {
		n.executable, n.size = false, 0
	}
	if err := t.place(n); err != nil {
		return err
	}
	if n.size > t.limits.Bytes-t.bytes {
		return shared.NewError(shared.ReasonLimitExceeded, "the package has more than %d bytes (at %s)", t.limits.Bytes, name).
			WithHint("leave out what can be generated, or split the package").With("path", name)
	}
	if n.dir {
		return nil
	}
	written, err := io.Copy(t.spool, content)
	t.bytes += written
	if err != nil {
		return diskError(t.spool.Name(), fmt.Errorf("read %s: %w", name, err))
	}
	return nil
}

// place files a node under its path, with its folders, and refuses whatever some
// file system could not hold beside what is there.
func (t *tree) place(n *node) error {
	if existing, twice := t.nodes[n.path]; twice {
		if existing.dir && n.dir {
			return nil
		}
		return refuse(n.path, "it occurs twice")
	}
	for dir := path.Dir(n.path); dir != "."; dir = path.Dir(dir) {
		if parent, ok := t.nodes[dir]; ok && !parent.dir {
			return refuse(n.path, "%s is a file, and a folder too", dir)
		}
		if err := t.fold(dir); err != nil {
			return err
		}
		if _, ok := t.nodes[dir]; !ok {
			t.nodes[dir] = &node{path: dir, dir: true}
		}
	}
	if err := t.fold(n.path); err != nil {
		return err
	}
	t.nodes[n.path] = n
	if len(t.nodes) > t.limits.Files {
		return shared.NewError(shared.ReasonLimitExceeded, "the package has more than %d files and folders", t.limits.Files)
	}
	return nil
}

func (t *tree) fold(name string) error {
	folded := foldPath(name)
	if other, ok := t.folded[folded]; ok && other != name {
		return refuse(name, "it differs from %s only in upper and lower case or in how a letter is written", other).
			WithHint("such names are one file on macOS and Windows: rename one")
	}
	t.folded[folded] = name
	return nil
}

// sorted lists the files and the folders that are empty, by path.
func (t *tree) sorted() []*node {
	occupied := map[string]bool{}
	for name := range t.nodes {
		occupied[path.Dir(name)] = true
	}
	var nodes []*node
	for name, n := range t.nodes {
		if !n.dir || !occupied[name] {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *node) int { return strings.Compare(a.path, b.path) })
	return nodes
}

// writeCanonical writes the archive and describes it. open gives a file's content.
func writeCanonical(ctx context.Context, out io.Writer, nodes []*node, open func(*node) (io.Reader, error)) (*Index, error) {
	chunks := newChunker()
	counted := &counter{w: io.MultiWriter(out, chunks)}
	tw := tar.NewWriter(counted)
	index := &Index{Format: 1, ChunkSize: ChunkSize}
	for _, n := range nodes {
		if err := ctx.Err(); err != nil {
			return nil, shared.AsError(err)
		}
		if err := tw.WriteHeader(canonicalHeader(n)); err != nil {
			return nil, fmt.Errorf("archive %s: %w", n.path, err)
		}
		entry := File{Path: n.path, Size: n.size, Executable: n.executable, Dir: n.dir, Offset: counted.n}
		if !n.dir {
			content, err := open(n)
			if err != nil {
				return nil, err
			}
			sum := sha256.New()
			copied, err := io.Copy(tw, io.TeeReader(content, sum))
			if err != nil {
				return nil, fmt.Errorf("archive %s: %w", n.path, err)
			}
			if copied != n.size {
				return nil, shared.NewError(shared.ReasonInvalidPackage, "%s changed while it was read", n.path).With("path", n.path)
			}
			entry.Digest = shared.DigestFromSum([sha256.Size]byte(sum.Sum(nil)))
		}
		index.Files = append(index.Files, entry)
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("end the archive: %w", err)
	}
	index.Size = counted.n
	index.Digest, index.Chunks = chunks.finish()
	return index, nil
}

// canonicalHeader says of a file what every machine agrees on. Names that USTAR
// cannot hold get a PAX record, which archive/tar writes without times.
func canonicalHeader(n *node) *tar.Header {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: n.path, Size: n.size, Mode: 0o644}
	switch {
	case n.dir:
		header.Typeflag, header.Name, header.Mode = tar.TypeDir, n.path+"/", 0o755
	case n.executable:
		header.Mode = 0o755
	}
	return header
}

// counter counts what passes.
type counter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// chunker digests a stream as a whole and in chunks.
type chunker struct {
	whole, part hash.Hash
	filled      int64
	chunks      []shared.Digest
}

func newChunker() *chunker { return &chunker{whole: sha256.New(), part: sha256.New()} }

// Write implements io.Writer; it never fails.
func (c *chunker) Write(p []byte) (int, error) {
	total := len(p)
	c.whole.Write(p)
	for len(p) > 0 {
		take := min(int64(len(p)), ChunkSize-c.filled)
		c.part.Write(p[:take])
		p, c.filled = p[take:], c.filled+take
		if c.filled == ChunkSize {
			c.cut()
		}
	}
	return total, nil
}

func (c *chunker) cut() {
	c.chunks = append(c.chunks, shared.DigestFromSum([sha256.Size]byte(c.part.Sum(nil))))
	c.part.Reset()
	c.filled = 0
}

func (c *chunker) finish() (whole shared.Digest, chunks []shared.Digest) {
	if c.filled > 0 {
		c.cut()
	}
	return shared.DigestFromSum([sha256.Size]byte(c.whole.Sum(nil))), c.chunks
}

// diskError gives a full disk its reason and leaves other errors as they are.
func diskError(where string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return shared.NewError(shared.ReasonStorageFull, "the disk is full: %w", err).
			WithHint("free some space where %s is, and try again; nothing was changed", where)
	}
	return err
}
