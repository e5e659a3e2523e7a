package project

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"ggen.dev/marketplace/shared"
)

// retryLock is how often a held lock is tried again: often enough that nobody
// notices, seldom enough to cost nothing.
const retryLock = 25 * time.Millisecond

// noticeLock is how long a command waits for another one without saying so.
const noticeLock = 500 * time.Millisecond

// Lock keeps other commands from changing this place until unlock is called. It
// waits for as long as ctx allows and calls waiting once if that takes longer than
// half a second; nil is allowed. The operating system releases the lock of a
// process that dies. Errors: STORAGE, STORAGE_FULL, CANCELED, DEADLINE_EXCEEDED.
func (p Place) Lock(ctx context.Context, waiting func()) (unlock func(), err error) {
	if err := p.Prepare(); err != nil {
		return nil, err
	}
	root, err := p.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // only used to make the file
	name := filepath.Join(p.managed, "install.lock")
	// Through the root first, so that a planted link is refused before flock follows it.
	f, err := root.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, storageError("lock "+p.root, err)
	}
	if err := f.Close(); err != nil {
		return nil, storageError("lock "+p.root, err)
	}
	lock := flock.New(filepath.Join(p.root, name))
	unlock = func() { _ = lock.Unlock() } // the end of the process does the same
	soon, cancel := context.WithTimeout(ctx, noticeLock)
	locked, err := lock.TryLockContext(soon, retryLock)
	cancel()
	if !locked && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		if waiting != nil {
			waiting()
		}
		locked, err = lock.TryLockContext(ctx, retryLock)
	}
	switch {
	case locked:
		return unlock, nil
	case ctx.Err() != nil:
		return nil, shared.AsError(context.Cause(ctx))
	}
	return nil, storageError("lock "+p.root, err)
}
