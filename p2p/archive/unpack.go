package archive

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"ggen.dev/marketplace/shared"
)

// Unpack writes the archive's files to the folder dest, which appears whole or
// not at all: everything goes to a hidden sibling first, and a rename puts it in
// place. An existing dest is moved aside, and removed when the new one stands;
// what a crash left of an earlier call for the same dest is put back or removed,
// and so is, after an hour, what it left of a call for another dest beside it.
//
// Every byte is verified: contents by the digests of the index, and everything
// between them by what the index says must stand there, so that no foreign tar
// is ever interpreted. A file is executable only if the index says so.
//
// Callers lock dest, so that nobody else unpacks to it at the same time. Where
// they do not, one of the two fails and the other one's files stand, unmixed.
//
// Errors: INTEGRITY, STORAGE_FULL, STORAGE, the reader's own, the context's.
func Unpack(ctx context.Context, r io.Reader, ix *Index, dest string) (err error) {
	parent, name := filepath.Dir(dest), filepath.Base(dest)
	if err := ix.check(Limits{Files: math.MaxInt, Bytes: math.MaxInt64}); err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return storage(parent, err)
	}
	root, err := os.OpenRoot(parent)
	if err != nil {
		return storage(parent, err)
	}
	defer func() { err = errors.Join(err, storage(parent, root.Close())) }()
	place := &place{root: root, name: name}
	left, err := leftovers(root)
	if err == nil {
		err = place.recover(left[name])
	}
	if err != nil {
		return storage(parent, fmt.Errorf("clear what an interrupted install of %s left: %w", name, err))
	}
	delete(left, name)
	sweep(root, left)
	temporary := place.hidden(incoming)
	defer func() { err = errors.Join(err, storage(parent, place.remove(temporary))) }()
	if err := root.Mkdir(temporary, 0o755); err != nil {
		return storage(parent, err)
	}
	if unlock, err := lockFolder(root, temporary); err == nil { // some file systems have no locks
		defer unlock()
	}
	if err := extractTo(ctx, r, ix, root, temporary); err != nil {
		return fmt.Errorf("unpack %s: %w", name, storage(parent, err))
	}
	return storage(parent, place.swap(temporary))
}

// extractTo fills the folder.
func extractTo(ctx context.Context, r io.Reader, ix *Index, parent *os.Root, folder string) (err error) {
	root, err := parent.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	whole := sha256.New()
	src := &source{done: ctx.Err, r: io.LimitReader(r, ix.Size+1)}
	x := &extraction{
		root: root, src: src, r: bufio.NewReaderSize(io.TeeReader(src, whole), ChunkSize),
		folders: map[string]bool{".": true}, buf: make([]byte, 64<<10),
	}
	for _, f := range ix.Files {
		if err := x.file(f); err != nil {
			return err
		}
	}
	if err := x.expect(make([]byte, endSize), "its end"); err != nil {
		return err
	}
	if _, err := x.r.ReadByte(); err == nil {
		return corrupt("the archive goes on behind its end")
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the archive: %w", err)
	}
	if got := digestOf(whole); got != ix.Digest {
		return corrupt("the archive is %s, not %s", got, ix.Digest)
	}
	return x.sync(ctx, ix.Files)
}

// extraction is one archive on its way to a folder.
type extraction struct {
	root    *os.Root
	src     *source
	r       *bufio.Reader
	headers headers
	folders map[string]bool // those that were made
	buf     []byte
}

func (x *extraction) file(f File) error {
	header, err := x.headers.of(f.node())
	if err != nil {
		return err
	}
	if err := x.expect(header, fmt.Sprintf("the header of %q", f.Path)); err != nil {
		return err
	}
	folder := path.Dir(f.Path)
	if f.Dir {
		folder = f.Path
	}
	if !x.folders[folder] {
		if err := x.root.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		x.folders[folder] = true
		forEachParent(folder, func(parent string) { x.folders[parent] = true })
	}
	if f.Dir {
		return nil
	}
	if err := x.content(f); err != nil {
		return err
	}
	return x.expect(make([]byte, padding(f.Size)), fmt.Sprintf("the padding of %q", f.Path))
}

func (x *extraction) content(f File) (err error) {
	mode := os.FileMode(0o644)
	if f.Executable {
		mode = 0o755
	}
	file, err := x.root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	out := &disk{w: file}
	copied, err := io.CopyBuffer(io.MultiWriter(sum, out), io.LimitReader(x.r, f.Size), x.buf)
	switch {
	case out.err != nil:
		return out.err
	case err != nil:
		return x.blame(err, f.Path)
	case copied != f.Size:
		return x.blame(io.ErrUnexpectedEOF, fmt.Sprintf("%q", f.Path))
	}
	if got := digestOf(sum); got != f.Digest {
		return corrupt("%q is %s, not %s", f.Path, got, f.Digest)
	}
	return nil
}

// syncers is how many files are flushed at a time. A file system that keeps a
// journal then writes it once for several of them: one after the other takes 1.6
// times as long for 302 files, and no flush at all saves a fifth.
const syncers = 8

// sync makes what was extracted survive a power cut. Without it the rename may be
// remembered and the contents not, and the folder would pass for one that its
// user changed.
func (x *extraction) sync(ctx context.Context, files []File) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(syncers)
	for _, f := range files {
		if f.Dir {
			continue
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return x.syncFile(f.Path)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for folder := range x.folders {
		if err := syncFolder(x.root, folder); err != nil {
			return err
		}
	}
	return nil
}

func (x *extraction) syncFile(name string) error {
	file, err := x.root.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// expect reads bytes that the index determines.
func (x *extraction) expect(want []byte, what string) error {
	got := x.buf[:len(want)] // a header has a few blocks
	if _, err := io.ReadFull(x.r, got); err != nil {
		return x.blame(err, what)
	}
	if !bytes.Equal(got, want) {
		return corrupt("the archive holds something else in place of %s", what)
	}
	return nil
}

func (x *extraction) blame(err error, what string) error {
	if x.src.err != nil {
		return fmt.Errorf("read the archive: %w", x.src.err)
	}
	return corrupt("the archive ends before the end of %s (%v)", what, err)
}

func corrupt(format string, args ...any) error {
	return shared.NewError(shared.ReasonIntegrity, format, args...).WithHint("the copy is damaged: run the command again to fetch it anew")
}
