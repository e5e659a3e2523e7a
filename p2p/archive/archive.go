// Package archive turns a package folder into one canonical file and back. The
// canonical archive is a tar of regular files and empty folders, sorted by path,
// with modes 0644 or 0755, no times and no owners: the same tree gives the same
// bytes, and so the same digest, everywhere. Paths are kept byte for byte; two
// that differ only in case or in Unicode composition are refused, never merged.
// An [Index] lists the archive's chunks and files by digest, so that any part of
// it can be verified alone; all other bytes of an archive follow from its index.
//
// Both directions treat their input as hostile: only regular files and folders
// pass, paths are checked by name ([CheckPath]), and everything is bounded
// ([Limits]). What a manifest says is for package manifest; where blobs live is
// for package store; which files an author leaves out is decided by the host. What
// looks like a secret is refused when a package is made, and not when one is
// unpacked: then it is public already.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

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

// Packed is a finished canonical archive in a temporary file. It is not safe for
// concurrent use.
type Packed struct {
	Index   *Index
	Skipped []string // folders that were left out: version control and ggen's own state
	Tamed   []string // files that are executable where they come from, and not here
	file    *os.File
}

// Path is the temporary file's; move it away to keep it.
func (p *Packed) Path() string { return p.file.Name() }

// ReadFile returns a file's content; it must be in the index and have at
// most so many bytes.
func (p *Packed) ReadFile(name string, most int64) ([]byte, error) {
	f, ok := p.Index.File(name)
	if !ok {
		return nil, notInPackage(name)
	}
	return readPart(p.file, name, f.Offset, f.Size, most)
}

// ReadStart returns the first bytes of a file, at most so many; it must be in the index.
func (p *Packed) ReadStart(name string, most int64) ([]byte, error) {
	f, ok := p.Index.File(name)
	if !ok {
		return nil, notInPackage(name)
	}
	return readPart(p.file, name, f.Offset, min(f.Size, most), most)
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

// Pack reads a tar stream from an untrusted sender, in any order, and writes the
// canonical archive to a temporary file in scratch, which holds the content
// twice while it works. Errors: INVALID_PACKAGE with metadata path (or without,
// for a stream that is no tar or ends early), LIMIT_EXCEEDED, STORAGE_FULL,
// STORAGE, the reader's own.
func Pack(ctx context.Context, r io.Reader, scratch string, limits Limits, modes Modes) (*Packed, error) {
	return pack(ctx, r, scratch, newTree(limits), modes)
}

// Modes decides which files of a package are executable. It may read them; names
// are the paths of all files, sorted. That way the digest does not depend on a
// system's idea of modes. nil takes over the modes of the stream.
type Modes func(names []string, read func(name string, most int64) ([]byte, error)) (executable func(name string) bool)

// maxProblems bounds what is said about one package.
const maxProblems = 100

// Inspect is a [Pack] that goes on after a file that cannot be part of a package:
// it returns an INVALID_PACKAGE error for each, with metadata path, and the archive
// of the others and of the files with secrets in their content, to look at and not
// to publish. packed is nil if nothing is left. More than 100 problems, and those of
// the package as a whole, are an error as with Pack.
func Inspect(ctx context.Context, r io.Reader, scratch string, limits Limits, modes Modes) (packed *Packed, problems []*shared.Error, err error) {
	tree := newTree(limits)
	tree.inspecting = true
	packed, err = pack(ctx, r, scratch, tree, modes)
	return packed, tree.problems, err
}

// pack fills tree and writes its archive, if there is anything in it.
func pack(ctx context.Context, r io.Reader, scratch string, tree *tree, modes Modes) (_ *Packed, err error) {
	spool, err := os.CreateTemp(scratch, "spool-*")
	if err != nil {
		return nil, storage(scratch, err)
	}
	defer func() { err = errors.Join(err, spool.Close(), os.Remove(spool.Name())) }()
	if err := tree.read(ctx, r, spool); err != nil || len(tree.nodes) == 0 {
		return nil, err
	}
	nodes := tree.sorted()
	var tamed []string
	if modes != nil {
		tamed = applyModes(nodes, spool, modes)
	}
	size, err := archiveSize(nodes)
	if err != nil {
		return nil, err
	}
	if size > tree.limits.Bytes {
		return nil, shared.NewError(shared.ReasonLimitExceeded, "the package's archive has %d bytes; %d are allowed", size, tree.limits.Bytes).
			WithHint("leave out what can be generated, or split the package").
			With("limit", fmt.Sprint(tree.limits.Bytes)).With("value", fmt.Sprint(size))
	}
	out, err := os.CreateTemp(scratch, "archive-*")
	if err != nil {
		return nil, storage(scratch, err)
	}
	packed := &Packed{file: out, Tamed: tamed}
	for name := range tree.skipped {
		packed.Skipped = append(packed.Skipped, name)
	}
	slices.Sort(packed.Skipped)
	packed.Index, err = writeArchive(ctx, out, nodes, func(n *node) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(spool, n.spool, n.size)), nil
	})
	if err != nil {
		return nil, errors.Join(storage(scratch, err), packed.Close())
	}
	return packed, nil
}

// applyModes makes files executable, or not, and returns those that are not any more.
func applyModes(nodes []*node, spool io.ReaderAt, modes Modes) (tamed []string) {
	var names []string
	files := map[string]*node{}
	for _, n := range nodes {
		if !n.dir {
			names = append(names, n.path)
			files[n.path] = n
		}
	}
	executable := modes(names, func(name string, most int64) ([]byte, error) {
		n, ok := files[name]
		if !ok {
			return nil, notInPackage(name)
		}
		return readPart(spool, name, n.spool, n.size, most)
	})
	for _, name := range names {
		n, is := files[name], executable(name)
		if n.executable && !is {
			tamed = append(tamed, name)
		}
		n.executable = is
	}
	return tamed
}

// readPart reads a file of the package that lies in a larger one.
func readPart(r io.ReaderAt, name string, offset, size, most int64) ([]byte, error) {
	if size > most {
		return nil, shared.NewError(shared.ReasonLimitExceeded, "%s has %d bytes; %d are allowed", name, size, most)
	}
	data := make([]byte, size)
	_, err := r.ReadAt(data, offset)
	return data, err
}

func notInPackage(name string) error { return fmt.Errorf("%s is not in the package", name) }
