// Package folder reads a package folder as a tar stream, which is how a publish
// hands it to an engine.
//
// It leaves out what the author wants left out: by `include` and `exclude` of the
// manifest and by files .ggenignore, as docs/PACKAGE.md describes. Beyond that it
// names what it finds and judges nothing: a symbolic link travels as a symbolic
// link, for the engine to refuse by name, and is never followed. Which files a
// package may hold, how many and how large, the engine decides, and it refuses what
// looks like a secret.
package folder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// skipped are folders at the top that never belong to a package: version control,
// and what ggen itself manages.
var skipped = []string{".git", ".ggen"}

// Folder is an opened package folder.
type Folder struct {
	name string
	root *os.Root
}

// Open checks that dir is a folder that can be read. Errors: INVALID_PACKAGE.
func Open(dir string) (*Folder, error) {
	refuse := func(format string, args ...any) (*Folder, error) {
		return nil, shared.NewError(shared.ReasonInvalidPackage, "publish %s: %w", dir, fmt.Errorf(format, args...)).With("path", dir)
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("the folder does not exist")
	case err != nil:
		return refuse("%w", cause(err))
	case !info.IsDir():
		return refuse("it is not a folder; name the folder that holds the package's manifest")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return refuse("%w", cause(err))
	}
	f := &Folder{name: dir, root: root}
	if _, err := fs.ReadDir(root.FS(), "."); err != nil {
		return refuse("%w", errors.Join(cause(err), f.Close()))
	}
	return f, nil
}

// Close releases the folder.
func (f *Folder) Close() error { return f.root.Close() }

// writeTar writes what belongs to the package in the order of names, without
// holding a file in memory; folders appear only if they are empty. It ends with an
// error, and the stream without its end, when a file cannot be read or changes while
// it is read, or a pattern cannot be followed. Errors: INVALID_PACKAGE (about a file
// with metadata path), the writer's own, ctx's.
func (f *Folder) writeTar(ctx context.Context, w io.Writer) error {
	selected, err := f.readSelection()
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	var last walked // the last folder, of which nobody knows yet whether it is empty
	err = fs.WalkDir(f.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return f.unreadable(name, err)
		}
		if err := f.addIfEmpty(tw, last, name, selected); err != nil {
			return err
		}
		last = walked{}
		if name != "." && (slices.Contains(skipped, name) || selected.leftOut(name, entry.IsDir())) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			last = walked{name, entry}
			return selected.enter(name)
		}
		return f.add(tw, name, entry)
	})
	if err != nil {
		return err
	}
	if err := f.addIfEmpty(tw, last, "", selected); err != nil {
		return err
	}
	return tw.Close()
}

// walked is an entry that was met on the way.
type walked struct {
	name  string
	entry fs.DirEntry
}

// addIfEmpty adds a folder unless what comes next lies in it. One whose files are all
// left out is not empty, and not part of the package.
func (f *Folder) addIfEmpty(tw *tar.Writer, dir walked, next string, selected *selection) error {
	if dir.entry == nil || dir.name == "." || strings.HasPrefix(next, dir.name+"/") || !selected.holdsEmpty(dir.name) {
		return nil
	}
	return f.add(tw, dir.name, dir.entry)
}

func (f *Folder) add(tw *tar.Writer, name string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return f.unreadable(name, err)
	}
	switch {
	case info.Mode().IsRegular():
		return f.addFile(tw, name, info)
	case info.Mode()&fs.ModeSocket != 0:
		// Tar has no word for a socket.
		return shared.NewError(shared.ReasonInvalidPackage, "publish %s: %s is a socket; packages hold regular files only", f.name, name).With("path", name)
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = f.root.Readlink(name); err != nil {
			return f.unreadable(name, err)
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return f.unreadable(name, err)
	}
	return tw.WriteHeader(plain(header, name, info))
}

func (f *Folder) addFile(tw *tar.Writer, name string, listed fs.FileInfo) error {
	file, err := f.root.Open(name)
	if err != nil {
		return f.unreadable(name, err)
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return f.unreadable(name, err)
	}
	if !info.Mode().IsRegular() || !os.SameFile(info, listed) {
		return f.changed(name)
	}
	if err := tw.WriteHeader(plain(&tar.Header{Typeflag: tar.TypeReg, Size: info.Size()}, name, info)); err != nil {
		return err
	}
	written, err := io.Copy(tw, io.LimitReader(readErrors{file, func(err error) error { return f.unreadable(name, err) }}, info.Size()))
	if err != nil {
		return err
	}
	after, err := file.Stat()
	if err != nil {
		return f.unreadable(name, err)
	}
	if written != info.Size() || after.Size() != info.Size() || !after.ModTime().Equal(info.ModTime()) {
		return f.changed(name)
	}
	return nil
}

// plain leaves only what a package can mean: no owners, no times, no groups.
func plain(header *tar.Header, name string, info fs.FileInfo) *tar.Header {
	if info.IsDir() {
		name += "/"
	}
	return &tar.Header{
		Typeflag: header.Typeflag, Name: name, Linkname: header.Linkname, Size: header.Size,
		Mode: int64(info.Mode().Perm()), Format: tar.FormatPAX,
	}
}

func (f *Folder) unreadable(name string, err error) error {
	return shared.NewError(shared.ReasonInvalidPackage, "publish %s: read %s: %w", f.name, name, cause(err)).With("path", name)
}

func (f *Folder) changed(name string) error {
	return shared.NewError(shared.ReasonInvalidPackage, "publish %s: %s changed while it was read", f.name, name).
		WithHint("publish again when nothing is writing to the folder").With("path", name)
}

// cause leaves out the system call and the path, which our message has already.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// readErrors tells the errors of reading from those of writing.
type readErrors struct {
	r    io.Reader
	wrap func(error) error
}

func (r readErrors) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.wrap(err)
	}
	return n, err
}
