package publisher

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// EquivocationError says that a publisher signed two different logs. It is the
// proof, too: two signed heads, of any sizes, and what the logs under them were
// when they had Size entries. Anybody who has the chain can verify it.
type EquivocationError struct {
	First, Second         Head
	Size                  int64  // at least 1; at most the size of either head
	FirstTree, SecondTree Prefix // of Size entries; their hashes differ
}

// Error implements error.
func (e *EquivocationError) Error() string {
	return fmt.Sprintf("publisher %s signed two logs that differ within their first %d entries", e.First.Publisher.Short(), e.Size)
}

// Check verifies the proof from nothing but the chain: one and the same root
// document must vouch for both heads. Across a change of keys nobody is convicted,
// since a stolen key that was replaced could otherwise be used to do so. Errors:
// ErrInvalid.
func (e *EquivocationError) Check(chain Chain) error {
	if !sameRoot(chain, e.First.Signed, e.Second.Signed) {
		return invalid("the two heads are not signed by the same keys of %s", chain.ID.Short())
	}
	if e.FirstTree.Hash == e.SecondTree.Hash {
		return invalid("the two heads do not contradict each other")
	}
	if err := e.FirstTree.check(e.Size, e.First); err != nil {
		return invalid("the first head's tree of %d entries: %w", e.Size, err)
	}
	if err := e.SecondTree.check(e.Size, e.Second); err != nil {
		return invalid("the second head's tree of %d entries: %w", e.Size, err)
	}
	return nil
}

// Forgiven tells whether chain has a recovery behind the keys that signed the two
// heads: what those keys said is settled by it.
func (e *EquivocationError) Forgiven(chain Chain) bool {
	last := -1
	for i, root := range chain.Roots {
		if root.Recovers {
			last = i
		}
	}
	if last < 0 || chain.ID != e.First.Publisher {
		return false
	}
	since := chain
	since.Roots = chain.Roots[last:]
	return !sameRoot(since, e.First.Signed, e.Second.Signed)
}

// ReadFork makes the proof of equivocation from its parts, the heads as they were
// signed, and verifies it. Errors: ErrInvalid, or ErrStale for root documents of
// an unknown format.
func ReadFork(roots [][]byte, first, second []byte, size int64, firstTree, secondTree Prefix) (*EquivocationError, Chain, error) {
	chain, err := ParseChain(roots)
	if err != nil {
		return nil, Chain{}, err
	}
	e := &EquivocationError{Size: size, FirstTree: firstTree, SecondTree: secondTree}
	for i := range chain.Roots {
		var errFirst, errSecond error
		e.First, errFirst = openHead(first, chain, i)
		e.Second, errSecond = openHead(second, chain, i)
		if errFirst == nil && errSecond == nil {
			return e, chain, e.Check(chain)
		}
	}
	return nil, Chain{}, invalid("the two heads are not signed by the same keys of %s", chain.ID.Short())
}

func sameRoot(chain Chain, first, second []byte) bool {
	for i := range chain.Roots {
		if _, err := openHead(first, chain, i); err != nil {
			continue
		}
		if _, err := openHead(second, chain, i); err == nil {
			return true
		}
	}
	return false
}

// fork is the error for two heads that contradict each other: a conviction if it
// can be proven to others, else ErrStale and ErrDivergent.
func fork(chain Chain, first, second Head, size int64, firstTree, secondTree Prefix) error {
	e := &EquivocationError{First: first, Second: second, Size: size, FirstTree: firstTree, SecondTree: secondTree}
	if err := e.Check(chain); err != nil {
		return fmt.Errorf("%w: %w of %s, and that cannot be proven to others: %s", ErrStale, ErrDivergent, chain.ID.Short(), err.Error())
	}
	return e
}

// judgeOlder compares a head that is smaller than ours with what we hold.
func judgeOlder(old Log, head Head, chain Chain) error {
	if old.Complete() && head.Size > 0 {
		ours, err := old.prefix(head.Size)
		if err != nil {
			return err
		}
		if ours.Hash != head.Hash {
			return fork(chain, head, old.Head, head.Size, Prefix{Hash: head.Hash}, ours)
		}
	}
	return stale("a head of %d entries; %d are known", head.Size, old.Head.Size)
}

// prefix is our log when it had size entries, 1 to old.Size. What an incomplete
// log was cannot be proven to others: the proof is then missing.
func (l Log) prefix(size int64) (p Prefix, err error) {
	if p.Hash, err = tlog.TreeHash(size, l.Hashes); err != nil {
		return p, fmt.Errorf("read the log's hashes: %w", err)
	}
	if l.Complete() && size < l.Size {
		if p.Proof, err = tlog.ProveTree(l.Size, size, l.Hashes); err != nil {
			return p, fmt.Errorf("read the log's hashes: %w", err)
		}
	}
	return p, nil
}

// judgeBase holds what the update builds on against what we have. From is at most
// old.Size here, and the head is not smaller than ours.
func judgeBase(old Log, head Head, u Update, chain Chain) error {
	if u.Base.empty() {
		return nil
	}
	if u.From == 0 {
		return invalid("a proof of what was before the first entry")
	}
	if err := u.Base.check(u.From, head); err != nil {
		return invalid("proof of the first %d entries of %s: %w", u.From, chain.ID.Short(), err)
	}
	ours, err := old.prefix(u.From)
	if err != nil {
		return err
	}
	if ours.Hash != u.Base.Hash {
		return fork(chain, old.Head, head, u.From, ours, u.Base)
	}
	return nil
}

// judgeEntries verifies that the update's entries are under its head, and that
// where we hold entries too they are the same ones.
func judgeEntries(old Log, head Head, u Update, chain Chain, tree *overlay) error {
	end := u.From + int64(len(u.Entries))
	theirs := Prefix{Proof: u.Consistency}
	if end == head.Size {
		theirs.Proof = nil
	}
	var err error
	if theirs.Hash, err = tlog.TreeHash(end, tree); err != nil {
		return fmt.Errorf("read the log's hashes: %w", err)
	}
	if err := theirs.check(end, head); err != nil {
		if u.From > 0 && u.Base.empty() {
			// A lie, or a log whose beginning is another one than ours. The sender
			// proves it by an update with a base, see judgeBase.
			return fmt.Errorf("%w: the update does not continue what is held of %s", ErrGap, chain.ID.Short())
		}
		return invalid("the entries of %s are not under its head: %w", chain.ID.Short(), err)
	}
	// So the publisher has signed for these entries. Has it signed for ours?
	if err := compare(old, min(end, old.Size), head, u.From, end, theirs, chain, tree); err != nil {
		return err
	}
	if old.Size < old.Head.Size && old.Head.Size <= end {
		return compare(old, old.Head.Size, head, u.From, end, theirs, chain, tree)
	}
	return nil
}

// compare holds the update's tree of size entries against ours. theirs proves the
// update's tree of end entries.
func compare(old Log, size int64, head Head, from, end int64, theirs Prefix, chain Chain, tree *overlay) error {
	if size <= from {
		return nil
	}
	ours, err := Prefix{Hash: old.Head.Hash}, error(nil)
	if size <= old.Size {
		ours, err = old.prefix(size)
	}
	if err != nil {
		return err
	}
	at := theirs
	if size < end {
		if at.Hash, err = tlog.TreeHash(size, tree); err != nil {
			return fmt.Errorf("read the log's hashes: %w", err)
		}
	}
	switch {
	case at.Hash == ours.Hash:
		return nil
	case size == end:
	case end == head.Size:
		if at.Proof, err = tlog.ProveTree(head.Size, size, tree); err != nil {
			return fmt.Errorf("read the log's hashes: %w", err)
		}
	default:
		return gap(chain, old.Size) // an update from there on proves it, by its base
	}
	return fork(chain, old.Head, head, size, ours, at)
}
