package publisher

import (
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

// Extend verifies an update against the log that is held and computes what it
// adds. Nothing of old is changed. Errors: ErrInvalid, ErrStale, ErrGap, an
// [*EquivocationError], or what reading old.Hashes returns.
func Extend(old Log, u Update, now time.Time) (Extension, error) {
	chain, err := newestChain(old.Chain, u)
	if err != nil {
		return Extension{}, err
	}
	head, err := OpenHead(u.Head, chain, now)
	if err != nil {
		return Extension{}, err
	}
	if head.Size < old.Head.Size {
		return Extension{}, judgeOlder(old, head, chain)
	}
	if head.Size == old.Head.Size && old.Chain.ID != "" && head.Hash != old.Head.Hash {
		return Extension{}, fork(chain, old.Head, head, head.Size, Prefix{Hash: old.Head.Hash}, Prefix{Hash: head.Hash})
	}
	end := u.From + int64(len(u.Entries))
	switch {
	case u.From < 0 || end > head.Size:
		return Extension{}, invalid("%d entries under a head of %d", end, head.Size)
	case u.From > old.Size:
		return Extension{}, gap(chain, old.Size)
	}
	if err := judgeBase(old, head, u, chain); err != nil {
		return Extension{}, err
	}
	if end <= old.Size && !head.Newer(old.Head) {
		return Extension{}, stale("nothing new of %s", chain.ID.Short())
	}
	entries, err := u.parseEntries(chain, now)
	if err != nil {
		return Extension{}, err
	}
	tree, err := grow(old.Hashes, u)
	if err != nil {
		return Extension{}, err
	}
	if len(u.Entries) > 0 {
		if err := judgeEntries(old, head, u, chain, tree); err != nil {
			return Extension{}, err
		}
	}
	if end <= old.Size && head.Size > old.Size {
		return Extension{}, gap(chain, old.Size)
	}
	known := min(old.Size-u.From, int64(len(entries)))
	return Extension{
		Log:    Log{Chain: chain, Head: head, Size: max(end, old.Size), Hashes: old.Hashes},
		New:    entries[known:],
		Raw:    u.Entries[known:],
		Hashes: tree.added[tlog.StoredHashCount(u.From+known)-tree.from:],
	}, nil
}

func gap(chain Chain, from int64) error {
	return fmt.Errorf("%w: entries from %d of %s", ErrGap, from, chain.ID.Short())
}

// newestChain is the longer one of the chain that is held and the update's.
func newestChain(held Chain, u Update) (Chain, error) {
	if held.Is(u.Roots) {
		return held, nil // verified before
	}
	chain, err := ParseChain(u.Roots)
	switch {
	case err != nil:
		return Chain{}, err
	case held.ID != "" && held.ID != chain.ID:
		return Chain{}, invalid("the update is of another publisher")
	case chain.Continues(held):
		return chain, nil
	case held.Continues(chain), held.supersedes(chain):
		return held, nil // the sender has not heard of the newer keys
	case chain.supersedes(held):
		return chain, nil
	}
	// Both are signed as they must be: it is the publisher who contradicts itself.
	return Chain{}, stale("%s changed its keys in two different ways; the ones that were seen first stay", chain.ID.Short())
}

// Newer tells whether a head says more than another of the same log: more
// entries, or the same ones confirmed at least [BeaconInterval] later (a beacon).
func (h Head) Newer(than Head) bool {
	return h.Size > than.Size || h.Size == than.Size && !h.Time.Before(than.Time.Add(BeaconInterval))
}

// Rebase is what of a log stands under the root documents of chain, for [Extend]. It
// is the log itself unless chain has documents that it has not heard of. Where the log
// does not reach to what those keep, whether it is a part of that is left to Extend:
// if not, its error is ErrDivergent, and nothing stands: see [Nothing].
func Rebase(old Log, chain Chain) (Log, error) {
	keep, replaces := chain.Replaces(old.Chain)
	if !replaces || old.Size < keep.Size && old.Complete() && chain.Continues(old.Chain) {
		return old, nil
	}
	size := min(old.Size, keep.Size)
	hash, err := tlog.TreeHash(size, old.Hashes)
	if err != nil {
		return Log{}, fmt.Errorf("read the log's hashes: %w", err)
	}
	if size == keep.Size && hash != keep.Hash {
		return Nothing(old, chain), nil
	}
	return Log{Chain: chain, Size: size, Hashes: old.Hashes, Head: Head{Publisher: chain.ID, Size: size, Hash: hash}}, nil
}

// Nothing is a log of which no entry stands under the root documents of chain.
func Nothing(old Log, chain Chain) Log {
	empty, _ := tlog.TreeHash(0, nil) // nothing is read
	return Log{Chain: chain, Hashes: old.Hashes, Head: Head{Publisher: chain.ID, Hash: empty}}
}

// overlay reads stored hashes of which the newest are not stored yet.
type overlay struct {
	base  tlog.HashReader
	from  int64 // index of added[0]
	added []tlog.Hash
}

// grow computes the tree of the update: the first From entries are those held.
func grow(held tlog.HashReader, u Update) (*overlay, error) {
	tree := &overlay{base: held, from: tlog.StoredHashCount(u.From)}
	tree.added = make([]tlog.Hash, 0, tlog.StoredHashCount(u.From+int64(len(u.Entries)))-tree.from)
	for i, raw := range u.Entries {
		hashes, err := tlog.StoredHashes(u.From+int64(i), raw, tree)
		if err != nil {
			return nil, fmt.Errorf("read the log's hashes: %w", err)
		}
		tree.added = append(tree.added, hashes...)
	}
	return tree, nil
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

// Append makes the entries, of which there may be none, the newest of a log that
// the keyring signs for, and gives both what to store and the update that tells
// others. It signs whatever it is given: who keeps a publisher from contradicting
// itself is the caller, with [Mark]. Errors: UNTRUSTED when the keyring lacks keys.
func Append(ring *Keyring, old Log, entries [][]byte, now time.Time) (Extension, Update, error) {
	chain := ring.Chain()
	keys, err := ring.Signers()
	if err != nil {
		return Extension{}, Update{}, err
	}
	u := Update{Roots: chain.Signed(), From: old.Size, Entries: entries}
	tree, err := grow(old.Hashes, u)
	if err != nil {
		return Extension{}, Update{}, fmt.Errorf("append to the log: %w", err)
	}
	size := old.Size + int64(len(entries))
	hash, err := tlog.TreeHash(size, tree)
	if err != nil {
		return Extension{}, Update{}, fmt.Errorf("append to the log: %w", err)
	}
	head, err := SignHead(chain.ID, size, hash, now, keys...)
	if err != nil {
		return Extension{}, Update{}, err
	}
	u.Head = head.Signed
	if len(entries) > 0 {
		if u.Inclusion, err = tlog.ProveRecord(size, size-1, tree); err != nil {
			return Extension{}, Update{}, fmt.Errorf("prove the newest entry: %w", err)
		}
	}
	ext, err := Extend(old, u, now)
	return ext, u, err
}

// TreeHash is the hash of the first size entries of a log that entries are
// appended to.
func TreeHash(l Log, entries [][]byte, size int64) (tlog.Hash, error) {
	tree, err := grow(l.Hashes, Update{From: l.Size, Entries: entries})
	if err != nil {
		return tlog.Hash{}, err
	}
	hash, err := tlog.TreeHash(size, tree)
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("read the log's hashes: %w", err)
	}
	return hash, nil
}
