package plugins

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"ggen.dev/marketplace/shared"
)

const (
	// retryLock is how often a held lock is tried again.
	retryLock = 10 * time.Millisecond
	// waitLock is how long another ggen may be changing the engines: it copies
	// at most one file meanwhile.
	waitLock = 30 * time.Second
)

// locked runs work while no other ggen of this home changes engines or their lock
// files. It must not be nested.
func locked(ctx context.Context, s Search, work func() error) (err error) {
	if err := os.MkdirAll(s.Home, 0o700); err != nil {
		return storageError("make the home", err)
	}
	file := filepath.Join(s.Home, "plugins.flock")
	lock := flock.New(file, flock.SetPermissions(0o600))
	waiting, cancel := context.WithTimeout(ctx, waitLock)
	defer cancel()
	ok, err := lock.TryLockContext(waiting, retryLock)
	switch {
	case ok:
	case ctx.Err() != nil:
		return shared.AsError(context.Cause(ctx))
	case errors.Is(err, context.DeadlineExceeded):
		return shared.NewError(shared.ReasonEngineTimeout, "another ggen has been changing the engines for too long (%s)", file).
			WithHint("look for a hanging ggen process and end it")
	default:
		return storageError("lock "+file, err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	return work()
}

// change edits the plugins.lock in a folder under the lock.
func change(ctx context.Context, s Search, dir string, edit func(*lockfile) error) error {
	return locked(ctx, s, func() error { return rewrite(dir, edit) })
}

// rewrite edits the plugins.lock in a folder. The caller holds the lock.
func rewrite(dir string, edit func(*lockfile) error) error {
	l, err := readLockfile(dir)
	if err != nil {
		return err
	}
	if err := edit(&l); err != nil {
		return err
	}
	data, err := l.text()
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return storageError("write "+filepath.Join(dir, LockfileName), err)
	}
	defer func() { _ = root.Close() }() // only a handle
	return replace(root, LockfileName, data, 0o644)
}

// replace puts data in the place of a file in root so that a reader, or whoever
// looks after a power cut, sees the old file or the new one.
func replace(root *os.Root, name string, data []byte, perm fs.FileMode) error {
	return put(root, name, perm, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// temporaryPrefix begins the names of files that are being written.
const temporaryPrefix = ".new-"

// put is replace for content that fill writes.
func put(root *os.Root, name string, perm fs.FileMode, fill func(*os.File) error) (err error) {
	doing := "write " + filepath.Join(root.Name(), name)
	temporary := temporaryPrefix + rand.Text()
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return storageError(doing, err)
	}
	defer func() {
		if err != nil {
			_ = root.Remove(temporary) // the first error says more
		}
	}()
	if err := errors.Join(fill(f), f.Sync(), f.Close()); err != nil {
		return storageError(doing, err)
	}
	if err := root.Chmod(temporary, perm); err != nil { // whatever the umask
		return storageError(doing, err)
	}
	if err := root.Rename(temporary, name); err != nil {
		return storageError(doing, err)
	}
	return storageError(doing, syncFolder(root))
}

func syncFolder(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncDir(dir), dir.Close())
}

// storageError keeps an error that says what it is, and makes others STORAGE or
// STORAGE_FULL; nil stays nil.
func storageError(doing string, err error) error {
	var typed *shared.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &typed):
		return typed
	case diskFull(err):
		return shared.NewError(shared.ReasonStorageFull, "%s: %w", doing, err).WithHint("make room on the disk")
	}
	return shared.NewError(shared.ReasonStorage, "%s: %w", doing, err).WithHint("is it a place that you may write to?")
}
