package project

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"ggen.dev/marketplace/shared"
)

// retryLock is how often a held lock is tried again: often enough that nobody
// notices, seldom enough to cost nothing.
const retryLock = 25 * time.Millisecond

// noticeLock is how long a command waits for another one without saying so.
const noticeLock = 500 * time.Millisecond

// Lock keeps other commands from changing this place until unlock is called, which leaves no
// folder that was made for that alone. It
// waits for as long as ctx allows and calls waiting once if that takes longer than
// half a second; nil is allowed. The operating system releases the lock of a
// process that dies. Errors: STORAGE, STORAGE_FULL, CANCELED, DEADLINE_EXCEEDED.
func (p Place) Lock(ctx context.Context, waiting func()) (unlock func(), err error) {
	noticed := sync.OnceFunc(func() {
		if waiting != nil {
			waiting()
		}
	})
	for attempt := 0; ; attempt++ {
		lock, err := p.tryLock(ctx, noticed)
		var typed *shared.Error
		switch {
		case errors.As(err, &typed):
			return nil, err
		case errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil && attempt < lockAttempts:
			continue // whoever had the lock has just removed the folder
		case err != nil && ctx.Err() != nil:
			return nil, shared.AsError(context.Cause(ctx))
		case err != nil:
			return nil, storageError("lock "+p.root, err)
		case !isThere(lock):
			_ = lock.Unlock() // whoever had it has removed it: the next one makes another
			continue
		}
		if err := p.Prepare(); err != nil { // again: the folders may be gone as well
			_ = lock.Unlock()
			return nil, err
		}
		return func() { p.unlock(lock) }, nil
	}
}

// lockAttempts bounds how often a folder may disappear; a planted link to nowhere always does.
const lockAttempts = 100

// lockName is the file that is locked, in the managed folder.
const lockName = "install.lock"

func (p Place) tryLock(ctx context.Context, noticed func()) (*flock.Flock, error) {
	if err := p.Prepare(); err != nil {
		return nil, err
	}
	root, err := p.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // only used to make the file
	name := filepath.Join(p.managed, lockName)
	// Through the root first, so that a planted link is refused before flock follows it.
	f, err := root.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(p.root, name))
	soon, cancel := context.WithTimeout(ctx, noticeLock)
	locked, err := lock.TryLockContext(soon, retryLock)
	cancel()
	if !locked && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		noticed()
		_, err = lock.TryLockContext(ctx, retryLock)
	}
	return lock, err
}

// isThere tells whether the file that is locked still has its name.
func isThere(lock *flock.Flock) bool {
	held, err := lock.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(lock.Path())
	return err == nil && os.SameFile(held, named)
}

// unlock removes what is empty, and the file before it is let go of: whoever locks it
// afterwards sees that. Where a file that is open cannot be removed, it stays.
func (p Place) unlock(lock *flock.Flock) {
	defer func() { _ = lock.Unlock() }() // the end of the process does the same
	root, err := p.open()
	if err != nil {
		return // it is in nobody's way
	}
	defer func() { _ = root.Close() }()                   // nothing is written through the handle itself
	_ = root.Remove(filepath.Join(p.managed, "packages")) // a folder that is not empty stays
	_ = root.Remove(filepath.Join(p.managed, lockName))
	if p.project {
		_ = root.Remove(p.managed)
	}
}
