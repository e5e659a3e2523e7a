package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"ggen.dev/marketplace/shared"
)

// Held is a blob that is here.
type Held struct {
	Digest shared.Digest
	Bytes  int64
	Used   time.Time // when it was wanted last, by whoever; exact to a minute
}

// Holdings lists all blobs, the one that nobody has wanted for longest first. Blobs that
// come or go meanwhile may be missed. Errors: STORAGE.
func (s *Store) Holdings() ([]Held, error) {
	var all []Held
	var failed error
	err := s.walk(func(digest shared.Digest, entry fs.DirEntry) bool {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return true // deleted meanwhile
		}
		if err != nil {
			failed = err
			return false
		}
		all = append(all, Held{digest, info.Size(), info.ModTime()})
		return true
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, s.failure("list blobs", err)
	}
	slices.SortFunc(all, func(a, b Held) int {
		return cmp.Or(a.Used.Compare(b.Used), cmp.Compare(a.Digest, b.Digest))
	})
	return all, nil
}

// Policy says what [Store.Evict] removes.
type Policy struct {
	Bytes  int64                    // how much may stay of what keep does not name
	Before time.Time                // and that nobody has wanted since; the zero value: however long ago
	Keep   func(shared.Digest) bool // what stays, and does not count; nil: nothing
	DryRun bool                     // only tell
}

// Evict removes what nobody has wanted since policy.Before, and then those that nobody has
// wanted for longest, until the rest fits. Whoever has a blob open can go on reading. It
// returns what was removed, also with an error: STORAGE, CANCELED.
func (s *Store) Evict(ctx context.Context, policy Policy) (removed []Held, err error) {
	all, err := s.Holdings()
	if err != nil {
		return nil, err
	}
	var total int64
	candidates := slices.DeleteFunc(all, func(h Held) bool { return policy.Keep != nil && policy.Keep(h.Digest) })
	for _, h := range candidates {
		total += h.Bytes
	}
	for _, h := range candidates {
		if total <= policy.Bytes && !h.Used.Before(policy.Before) {
			break
		}
		if err := ctx.Err(); err != nil {
			return removed, shared.AsError(err)
		}
		if !policy.DryRun {
			if err := s.Delete(h.Digest); err != nil {
				return removed, err
			}
		}
		removed = append(removed, h)
		total -= h.Bytes
	}
	return removed, nil
}
