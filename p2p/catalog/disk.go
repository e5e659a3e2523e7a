package catalog

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// The database:
//
//	logs/<publisher>/roots    JSON list of signed root documents
//	logs/<publisher>/head     newest signed head
//	logs/<publisher>/entries/ <index, 8 bytes> → <first seen, 8 bytes Unix> <entry>
//	logs/<publisher>/hashes/  <index, 8 bytes> → stored hash, as tlog numbers them
//	forks/<publisher>         JSON of the two heads that prove it
//	pins/<name>               JSON of a Pin
var (
	bucketLogs    = []byte("logs")
	bucketForks   = []byte("forks")
	bucketPins    = []byte("pins")
	bucketEntries = []byte("entries")
	bucketHashes  = []byte("hashes")
	keyRoots      = []byte("roots")
	keyHead       = []byte("head")
)

// storedHashes reads the hashes of one log for package tlog.
type storedHashes struct {
	db *bbolt.DB
	id shared.PublisherID
}

// ReadHashes implements tlog.HashReader.
func (s *storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	err := s.db.View(func(tx *bbolt.Tx) error {
		bucket := logBucket(tx, s.id)
		if bucket == nil {
			return fmt.Errorf("no log of %s", s.id.Short())
		}
		stored := bucket.Bucket(bucketHashes)
		for i, index := range indexes {
			if n := copy(hashes[i][:], stored.Get(indexKey(index))); n != tlog.HashSize {
				return fmt.Errorf("hash %d of %s is missing", index, s.id.Short())
			}
		}
		return nil
	})
	return hashes, err
}

func logBucket(tx *bbolt.Tx, id shared.PublisherID) *bbolt.Bucket {
	logs := tx.Bucket(bucketLogs)
	if logs == nil {
		return nil
	}
	return logs.Bucket([]byte(id))
}

func indexKey(index int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(index))
}

// store writes an extension in one synced transaction and makes it visible.
func (c *Catalog) store(old publisher.Log, ext publisher.Extension) ([]*Release, error) {
	now := c.clock()
	err := c.db.Update(func(tx *bbolt.Tx) error { return writeExtension(tx, old, ext, now) })
	if err != nil {
		return nil, storageError(c.db, err)
	}
	l := ext.Log
	l.Hashes = &storedHashes{c.db, l.Chain.ID}
	seen := make([]time.Time, len(ext.New))
	for i := range seen {
		seen[i] = now
	}
	return c.remember(l, old.Size, ext.New, seen), nil
}

func writeExtension(tx *bbolt.Tx, old publisher.Log, ext publisher.Extension, now time.Time) error {
	logs, err := tx.CreateBucketIfNotExists(bucketLogs)
	if err != nil {
		return err
	}
	log, err := logs.CreateBucketIfNotExists([]byte(ext.Log.Chain.ID))
	if err != nil {
		return err
	}
	roots, err := json.Marshal(ext.Log.Chain.Signed())
	if err != nil {
		return err
	}
	if err := errors.Join(log.Put(keyRoots, roots), log.Put(keyHead, ext.Log.Head.Signed)); err != nil {
		return err
	}
	entries, err := log.CreateBucketIfNotExists(bucketEntries)
	if err != nil {
		return err
	}
	hashes, err := log.CreateBucketIfNotExists(bucketHashes)
	if err != nil {
		return err
	}
	// Both only ever grow at the end: full pages save a third of the file.
	entries.FillPercent, hashes.FillPercent = 1, 1
	for i, raw := range ext.Raw {
		value := append(binary.BigEndian.AppendUint64(nil, uint64(now.Unix())), raw...)
		if err := entries.Put(indexKey(old.Size+int64(i)), value); err != nil {
			return err
		}
	}
	first := tlog.StoredHashIndex(0, old.Size)
	for i, hash := range ext.Hashes {
		if err := hashes.Put(indexKey(first+int64(i)), hash[:]); err != nil {
			return err
		}
	}
	return nil
}

// load reads everything into memory. What was verified when it was stored is
// not verified again, only parsed.
func (c *Catalog) load() error {
	return c.db.View(func(tx *bbolt.Tx) error {
		if forks := tx.Bucket(bucketForks); forks != nil {
			if err := forks.ForEach(func(id, _ []byte) error {
				c.accused[shared.PublisherID(id)] = whyForked
				return nil
			}); err != nil {
				return err
			}
		}
		if pins := tx.Bucket(bucketPins); pins != nil {
			if err := pins.ForEach(c.loadPin); err != nil {
				return err
			}
		}
		logs := tx.Bucket(bucketLogs)
		if logs == nil {
			return nil
		}
		return logs.ForEachBucket(func(id []byte) error {
			if err := c.loadLog(logs.Bucket(id), shared.PublisherID(id)); err != nil {
				return fmt.Errorf("log of %q: %w", id, err)
			}
			return nil
		})
	})
}

func (c *Catalog) loadLog(bucket *bbolt.Bucket, id shared.PublisherID) error {
	// A stored time may lie a little ahead of a clock that was set back.
	now := c.clock().Add(10 * 365 * 24 * time.Hour)
	var roots [][]byte
	if err := json.Unmarshal(bucket.Get(keyRoots), &roots); err != nil {
		return fmt.Errorf("root documents: %w", err)
	}
	chain, err := publisher.ParseChain(roots)
	if err != nil {
		return err
	}
	if chain.ID != id {
		return fmt.Errorf("it holds the keys of %s", chain.ID.Short())
	}
	head, err := publisher.OpenHead(append([]byte(nil), bucket.Get(keyHead)...), chain, now)
	if err != nil {
		return err
	}
	l := publisher.Log{Chain: chain, Head: head, Hashes: &storedHashes{c.db, id}}
	var entries []publisher.Entry
	var seen []time.Time
	stored := bucket.Bucket(bucketEntries)
	if stored == nil {
		return errors.New("no entries")
	}
	err = stored.ForEach(func(key, value []byte) error {
		if len(value) < 8 || string(key) != string(indexKey(l.Size)) {
			return fmt.Errorf("entry %d is damaged", l.Size)
		}
		entry, err := publisher.ParseEntry(value[8:], now)
		if err != nil {
			return err
		}
		entries = append(entries, entry)
		seen = append(seen, time.Unix(int64(binary.BigEndian.Uint64(value)), 0))
		l.Size++
		return nil
	})
	if err != nil {
		return err
	}
	c.remember(l, 0, entries, seen)
	return nil
}

// Since makes the update that brings a peer with from entries further: at most
// maxBytes of entries, at least one. Errors: publisher.ErrStale when there is
// nothing to bring, NOT_FOUND when the log is not (completely) held.
func (c *Catalog) Since(id shared.PublisherID, from int64, maxBytes int) (publisher.Update, error) {
	l, _, _ := c.log(id)
	if l.Chain.ID == "" || !l.Complete() {
		return publisher.Update{}, shared.NewError(shared.ReasonNotFound, "the log of %s is not held", id.Short())
	}
	if from < 0 || from > l.Size {
		return publisher.Update{}, fmt.Errorf("%w: %d entries are held, from %d was asked", publisher.ErrStale, l.Size, from)
	}
	u := publisher.Update{Roots: l.Chain.Signed(), Head: l.Head.Signed, From: from}
	size := len(l.Head.Signed) + 16<<10 // roots are small; proofs are at most 4 KiB
	err := c.db.View(func(tx *bbolt.Tx) error {
		bucket := logBucket(tx, id)
		if bucket == nil {
			return errors.New("the log is gone")
		}
		cursor := bucket.Bucket(bucketEntries).Cursor()
		for key, value := cursor.Seek(indexKey(from)); key != nil; key, value = cursor.Next() {
			if from+int64(len(u.Entries)) >= l.Size || len(u.Entries) >= publisher.MaxUpdateEntries {
				return nil // newer entries are not under this head
			}
			size += len(value)
			if size > maxBytes && len(u.Entries) > 0 {
				return nil
			}
			u.Entries = append(u.Entries, append([]byte(nil), value[8:]...))
		}
		return nil
	})
	if err != nil {
		return publisher.Update{}, storageError(c.db, err)
	}
	end := from + int64(len(u.Entries))
	switch {
	case len(u.Entries) == 0:
	case end == l.Size:
		u.Inclusion, err = tlog.ProveRecord(l.Size, end-1, l.Hashes)
	default:
		u.Consistency, err = tlog.ProveTree(l.Size, end, l.Hashes)
	}
	if err != nil {
		return publisher.Update{}, storageError(c.db, err)
	}
	return u, nil
}

const whyForked = "it signed two different logs"

// Fork is the portable proof that a publisher signed two different logs of one
// size: anybody can verify both heads with the chain.
type Fork struct {
	Roots  [][]byte `json:"roots"`
	First  []byte   `json:"first"`
	Second []byte   `json:"second"`
}

// Verify checks the proof and names the publisher that it convicts.
func (f Fork) Verify() (shared.PublisherID, error) {
	far := time.Now().Add(publisher.MaxClockSkew)
	chain, err := publisher.ParseChain(f.Roots)
	if err != nil {
		return "", err
	}
	first, err := publisher.OpenHead(f.First, chain, far)
	if err != nil {
		return "", err
	}
	second, err := publisher.OpenHead(f.Second, chain, far)
	if err != nil {
		return "", err
	}
	if first.Size != second.Size || first.Hash == second.Hash {
		return "", fmt.Errorf("%w: the two heads do not contradict each other", publisher.ErrInvalid)
	}
	return chain.ID, nil
}

// Forks lists the proofs this node holds.
func (c *Catalog) Forks() ([]Fork, error) {
	var forks []Fork
	err := c.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketForks)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(_, value []byte) error {
			var f Fork
			if err := json.Unmarshal(value, &f); err != nil {
				return err
			}
			forks = append(forks, f)
			return nil
		})
	})
	if err != nil {
		return nil, storageError(c.db, err)
	}
	return forks, nil
}

func (c *Catalog) quarantine(chain publisher.Chain, forked *publisher.EquivocationError) error {
	proof, err := json.Marshal(Fork{Roots: chain.Signed(), First: forked.First.Signed, Second: forked.Second.Signed})
	if err != nil {
		return err
	}
	err = c.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketForks)
		if err != nil {
			return err
		}
		return bucket.Put([]byte(chain.ID), proof)
	})
	if err != nil {
		return storageError(c.db, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accused[chain.ID] = whyForked
	return nil
}

func storageError(db *bbolt.DB, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return shared.NewError(shared.ReasonStorageFull, "write %s: %w", db.Path(), err).WithHint("free some space and try again")
	}
	return shared.NewError(shared.ReasonStorage, "%s: %w", db.Path(), err)
}
