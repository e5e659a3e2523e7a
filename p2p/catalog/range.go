package catalog

import (
	"fmt"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Since makes the update that brings a peer with from entries further: at most
// maxBytes of it all, at least one entry. Errors: publisher.ErrStale when there is
// nothing to bring, NOT_FOUND when the log is not (completely) held, STORAGE.
func (c *Catalog) Since(id shared.PublisherID, from int64, maxBytes int) (publisher.Update, error) {
	l, _, _ := c.log(id)
	if l.Chain.ID == "" || !l.Complete() {
		return publisher.Update{}, shared.NewError(shared.ReasonNotFound, "the log of %s is not held", id.Short())
	}
	if from < 0 || from > l.Size {
		return publisher.Update{}, fmt.Errorf("%w: %d entries are held, from %d was asked", publisher.ErrStale, l.Size, from)
	}
	u := publisher.Update{Roots: l.Chain.Signed(), Head: l.Head.Signed, From: from}
	if err := c.prove(l, &u, maxBytes); err != nil {
		return publisher.Update{}, storageError(c.db, err)
	}
	return u, nil
}

// proofBytes is more than three proofs in a log of [publisher.MaxLogSize] entries.
const proofBytes = 4 << 10

// prove adds the entries from u.From on, and the proofs that they need.
func (c *Catalog) prove(l publisher.Log, u *publisher.Update, maxBytes int) (err error) {
	left := maxBytes - len(u.Head) - proofBytes
	for _, root := range u.Roots {
		left -= len(root) + 4
	}
	if u.Entries, err = c.entries(l, u.From, left); err != nil {
		return err
	}
	end := u.From + int64(len(u.Entries))
	if u.From > 0 && u.From < l.Size {
		u.Base.Hash, err = tlog.TreeHash(u.From, l.Hashes)
		if err == nil {
			u.Base.Proof, err = tlog.ProveTree(l.Size, u.From, l.Hashes)
		}
	}
	switch {
	case err != nil || len(u.Entries) == 0:
	case end == l.Size:
		u.Inclusion, err = tlog.ProveRecord(l.Size, end-1, l.Hashes)
	default:
		u.Consistency, err = tlog.ProveTree(l.Size, end, l.Hashes)
	}
	return err
}

// entries reads the entries of l from one on: as many as fit, at least one.
func (c *Catalog) entries(l publisher.Log, from int64, maxBytes int) (entries [][]byte, err error) {
	end := min(l.Size, from+publisher.MaxUpdateEntries) // newer ones are not under l's head
	err = c.db.View(func(tx *bbolt.Tx) error {
		bucket, err := openLog(tx, l.Chain.ID)
		if err != nil {
			return err
		}
		cursor := bucket.entries.Cursor()
		key, value := cursor.Seek(indexKey(from))
		for at := from; at < end; at++ {
			_, raw, err := readEntry(key, value, at)
			if err != nil {
				return fmt.Errorf("log of %s: %w", l.Chain.ID, err)
			}
			maxBytes -= len(raw) + 4
			if maxBytes < 0 && len(entries) > 0 {
				return nil
			}
			entries = append(entries, append([]byte(nil), raw...))
			key, value = cursor.Next()
		}
		return nil
	})
	return entries, err
}

// Proof is one entry of a publisher's log with the proof that it is under the
// newest head, see [Catalog.Head]: tlog.CheckRecord verifies it with the head's
// size and hash and tlog.RecordHash(entry). Errors: NOT_FOUND, STORAGE.
func (c *Catalog) Proof(id shared.PublisherID, index int64) (entry []byte, proof tlog.RecordProof, err error) {
	l, _, _ := c.log(id)
	if l.Chain.ID == "" || !l.Complete() || index < 0 || index >= l.Size {
		return nil, nil, shared.NewError(shared.ReasonNotFound, "entry %d of %s is not held", index, id.Short())
	}
	entries, err := c.entries(l, index, 0)
	if err == nil {
		proof, err = tlog.ProveRecord(l.Size, index, l.Hashes)
	}
	if err != nil {
		return nil, nil, storageError(c.db, err)
	}
	return entries[0], proof, nil
}
