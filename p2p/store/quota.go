package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"ggen.dev/marketplace/shared"
)

// measure counts what is on disk, once: opening a store must not take longer the
// more is in it. s.mu is held.
func (s *Store) measure() error {
	if s.counted {
		return nil
	}
	var count int
	var stored, unfinished int64
	var failed error
	err := s.walk(func(_ shared.Digest, entry fs.DirEntry) bool {
		info, err := entry.Info()
		if err != nil {
			failed = err
			return false
		}
		count++
		stored += info.Size()
		return true
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.partial())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return err
		}
		unfinished += info.Size()
	}
	s.counted, s.count, s.stored, s.used = true, count, stored, stored+unfinished
	return nil
}

// reserve charges n bytes to the quota before they are written.
func (s *Store) reserve(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.measure(); err != nil {
		return s.failure("measure store", err)
	}
	if s.max > 0 && n > s.max-s.used {
		return shared.NewError(shared.ReasonStorageFull, "the store %s is full: %d of %d bytes are used and %d more are needed", s.dir, s.used, s.max, n).
			WithHint("allow the store more space, or delete packages that are not needed any more").
			With("path", s.dir).With("limit", fmt.Sprint(s.max)).With("used", fmt.Sprint(s.used))
	}
	s.used += n
	return nil
}

func (s *Store) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
}

// failure gives an error of the file system its reason. Errors that have one
// keep it.
func (s *Store) failure(operation string, err error) error {
	var typed *shared.Error
	switch {
	case errors.As(err, &typed):
		return fmt.Errorf("%s: %w", operation, err)
	case isFull(err):
		return shared.NewError(shared.ReasonStorageFull, "%s: the disk of %s is full: %w", operation, s.dir, err).
			WithHint("free space on the file system that holds %s and try again", s.dir).With("path", s.dir)
	}
	return shared.NewError(shared.ReasonStorage, "%s in %s: %w", operation, s.dir, err).With("path", s.dir)
}
