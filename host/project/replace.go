package project

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"ggen.dev/marketplace/shared"
)

// WriteFile writes a file that the user names, whole or not at all. Errors: STORAGE,
// STORAGE_FULL.
func WriteFile(file string, data []byte) (err error) {
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return storageError("write "+file, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return replace(root, filepath.Base(file), data, 0o644)
}

// WriteSecret writes a new file that only its owner may read. Errors: INVALID_ARGUMENT
// when there is one of this name, STORAGE, STORAGE_FULL.
func WriteSecret(file string, data []byte) (err error) {
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return storageError("write "+file, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	name := filepath.Base(file)
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return shared.NewError(shared.ReasonInvalidArgument, "%s exists already", file).WithHint("name another file: a key is never overwritten")
	}
	if err != nil {
		return storageError("write "+file, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = root.Remove(name) // the first error says more
		return storageError("write "+file, err)
	}
	return storageError("write "+file, syncFolder(root, "."))
}

// replace puts data in the place of name (relative to root, with slashes) so that
// a reader, or whoever looks after a power cut, sees the old file or the new one.
func replace(root *os.Root, name string, data []byte, perm fs.FileMode) (err error) {
	doing := "write " + filepath.Join(root.Name(), filepath.FromSlash(name))
	temporary := path.Join(path.Dir(name), "."+path.Base(name)+"."+rand.Text())
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return storageError(doing, err)
	}
	defer func() {
		if err != nil {
			_ = root.Remove(temporary) // the first error says more
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return storageError(doing, err)
	}
	if err := root.Rename(temporary, name); err != nil {
		return storageError(doing, err)
	}
	return storageError(doing, syncFolder(root, path.Dir(name)))
}

func syncFolder(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(dir), dir.Close())
}

// readBounded reads a regular file of at most most bytes. A file that is not there
// is nil without an error.
func readBounded(root *os.Root, name string, most int64) ([]byte, error) {
	where := filepath.Join(root.Name(), filepath.FromSlash(name))
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storageError("read "+where, err)
	}
	if !info.Mode().IsRegular() {
		return nil, shared.NewError(shared.ReasonStorage, "%s is not a regular file", where)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, storageError("read "+where, err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, storageError("read "+where, err)
	}
	if int64(len(data)) > most {
		return nil, shared.NewError(shared.ReasonLimitExceeded, "%s has more than %d bytes", where, most).With("path", where)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// fileLine describes a place in a file as compilers do.
func fileLine(file string, line, column int) string {
	var b strings.Builder
	b.WriteString(file)
	for _, n := range []int{line, column} {
		if n > 0 {
			b.WriteString(":" + itoa(n))
		}
	}
	return b.String()
}
