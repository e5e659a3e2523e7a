package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Log is what a peer holds of one publisher's log. The zero value is an empty log
// of an unknown publisher.
type Log struct {
	Chain  Chain
	Head   Head  // the newest head that was verified; covers at least Size entries
	Size   int64 // entries held
	Hashes tlog.HashReader
}

// Complete tells whether every entry under the head is held.
func (l Log) Complete() bool { return l.Size == l.Head.Size }

// Extension is what a verified update adds to a log.
type Extension struct {
	Log    Log         // the log afterwards; its Hashes are the ones before
	New    []Entry     // entries Log.Size was before and on
	Raw    [][]byte    // their bytes
	Hashes []tlog.Hash // stored hashes to append, see tlog.StoredHashes
}

// EquivocationError says that a publisher signed two different logs of one size.
// First and Second are the proof: anybody who has the chain can verify it.
type EquivocationError struct{ First, Second Head }

// Error implements error.
func (e *EquivocationError) Error() string {
	return fmt.Sprintf("publisher %s signed two different logs of %d entries", e.First.Publisher.Short(), e.First.Size)
}

// Extend verifies an update against the log that is held and computes what it
// adds. Nothing of old is changed. Errors: ErrInvalid, ErrStale, ErrGap, or an
// [*EquivocationError].
func Extend(old Log, u Update, now time.Time) (Extension, error) {
	chain, err := ParseChain(u.Roots)
	if err != nil {
		return Extension{}, err
	}
	if old.Chain.ID != "" && old.Chain.ID != chain.ID {
		return Extension{}, invalid("the update is of another publisher")
	}
	if !chain.extends(old.Chain) {
		return Extension{}, invalid("the update's keys were replaced or never were %s's", chain.ID.Short())
	}
	head, err := OpenHead(u.Head, chain, now)
	if err != nil {
		return Extension{}, err
	}
	if head.Size < old.Head.Size {
		return Extension{}, fmt.Errorf("%w: a head of %d entries; %d are known", ErrStale, head.Size, old.Head.Size)
	}
	if head.Size == old.Head.Size && old.Chain.ID != "" && head.Hash != old.Head.Hash {
		return Extension{}, &EquivocationError{First: old.Head, Second: head}
	}
	end := u.From + int64(len(u.Entries))
	switch {
	case u.From > old.Size:
		return Extension{}, fmt.Errorf("%w: entries %d to %d of %s", ErrGap, old.Size, u.From, chain.ID.Short())
	case end > head.Size:
		return Extension{}, invalid("%d entries under a head of %d", end, head.Size)
	case end <= old.Size && !newer(head, old.Head):
		return Extension{}, fmt.Errorf("%w: nothing new of %s", ErrStale, chain.ID.Short())
	case end <= old.Size && head.Size > old.Size:
		return Extension{}, fmt.Errorf("%w: entries from %d of %s", ErrGap, old.Size, chain.ID.Short())
	}
	entries, err := u.parseEntries(chain, now)
	if err != nil {
		return Extension{}, err
	}
	known := min(max(old.Size-u.From, 0), int64(len(entries)))
	ext := Extension{New: entries[known:], Raw: u.Entries[known:], Log: Log{Chain: chain, Head: head, Size: max(end, old.Size), Hashes: old.Hashes}}
	if err := ext.prove(old.Size, u.Consistency); err != nil {
		return Extension{}, err
	}
	return ext, nil
}

// newer tells whether a head says more than another of the same log: more
// entries, or the same ones confirmed at a later time (a beacon).
func newer(head, than Head) bool {
	return head.Size > than.Size || head.Size == than.Size && head.Time.After(than.Time)
}

// prove computes the tree with the new entries and holds it against the head.
func (x *Extension) prove(oldSize int64, consistency tlog.TreeProof) error {
	reader := overlay{base: x.Log.Hashes, from: tlog.StoredHashIndex(0, oldSize)}
	for i, raw := range x.Raw {
		hashes, err := tlog.StoredHashes(oldSize+int64(i), raw, &reader)
		if err != nil {
			return fmt.Errorf("read the log's hashes: %w", err)
		}
		reader.added = append(reader.added, hashes...)
	}
	x.Hashes = reader.added
	if x.Log.Size == 0 {
		if x.Log.Head.Size != 0 {
			return fmt.Errorf("%w: all entries of %s", ErrGap, x.Log.Chain.ID.Short())
		}
		return nil
	}
	hash, err := tlog.TreeHash(x.Log.Size, &reader)
	if err != nil {
		return fmt.Errorf("read the log's hashes: %w", err)
	}
	if x.Log.Size == x.Log.Head.Size {
		if !bytes.Equal(hash[:], x.Log.Head.Hash[:]) {
			return invalid("the entries of %s do not hash to its head", x.Log.Chain.ID.Short())
		}
		return nil
	}
	if err := tlog.CheckTree(consistency, x.Log.Head.Size, x.Log.Head.Hash, x.Log.Size, hash); err != nil {
		return invalid("consistency proof of %s: %w", x.Log.Chain.ID.Short(), err)
	}
	return nil
}

// overlay reads stored hashes of which the newest are not stored yet.
type overlay struct {
	base  tlog.HashReader
	from  int64 // index of added[0]
	added []tlog.Hash
}

// ReadHashes implements tlog.HashReader.
func (o *overlay) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	var below []int64
	for _, index := range indexes {
		if index < o.from {
			below = append(below, index)
		}
	}
	var stored []tlog.Hash
	if len(below) > 0 {
		if o.base == nil {
			return nil, errors.New("no stored hashes")
		}
		var err error
		if stored, err = o.base.ReadHashes(below); err != nil {
			return nil, err
		}
	}
	for i, index := range indexes {
		if index < o.from {
			hashes[i], stored = stored[0], stored[1:]
			continue
		}
		at := index - o.from
		if at < 0 || at >= int64(len(o.added)) {
			return nil, fmt.Errorf("hash %d is not known", index)
		}
		hashes[i] = o.added[at]
	}
	return hashes, nil
}

// Append makes the entries the newest of the log that key signs for, and gives
// both what to store and the update that tells others.
func Append(key *Key, old Log, entries [][]byte, now time.Time) (Extension, Update, error) {
	if old.Chain.ID == "" {
		root, err := NewRoot(key)
		if err != nil {
			return Extension{}, Update{}, err
		}
		if old.Chain, err = ParseChain([][]byte{root}); err != nil {
			return Extension{}, Update{}, err
		}
	}
	reader := overlay{base: old.Hashes, from: tlog.StoredHashIndex(0, old.Size)}
	for i, raw := range entries {
		hashes, err := tlog.StoredHashes(old.Size+int64(i), raw, &reader)
		if err != nil {
			return Extension{}, Update{}, fmt.Errorf("append to the log: %w", err)
		}
		reader.added = append(reader.added, hashes...)
	}
	size := old.Size + int64(len(entries))
	hash, err := tlog.TreeHash(size, &reader)
	if err != nil {
		return Extension{}, Update{}, fmt.Errorf("append to the log: %w", err)
	}
	head, err := SignHead(key, old.Chain.ID, size, hash, now)
	if err != nil {
		return Extension{}, Update{}, err
	}
	u := Update{Roots: old.Chain.Signed(), Head: head.Signed, From: old.Size, Entries: entries}
	if u.Inclusion, err = tlog.ProveRecord(size, size-1, &reader); err != nil {
		return Extension{}, Update{}, fmt.Errorf("prove the newest entry: %w", err)
	}
	ext, err := Extend(old, u, now)
	return ext, u, err
}
