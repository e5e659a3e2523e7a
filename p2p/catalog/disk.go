package catalog

import (
	"bytes"
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
//	forks/<publisher>         JSON of a Fork
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
	db DB
	id shared.PublisherID
}

// ReadHashes implements tlog.HashReader.
func (s *storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	err := s.db.View(func(tx *bbolt.Tx) error {
		bucket, err := openLog(tx, s.id)
		if err != nil {
			return err
		}
		for i, index := range indexes {
			if n := copy(hashes[i][:], bucket.hashes.Get(indexKey(index))); n != tlog.HashSize {
				return fmt.Errorf("log of %s: hash %d is missing", s.id, index)
			}
		}
		return nil
	})
	if err != nil {
		return nil, storageError(s.db, err)
	}
	return hashes, nil
}

// logBucket is the stored log of one publisher.
type logBucket struct{ log, entries, hashes *bbolt.Bucket }

// openLog finds a log of which all parts are there.
func openLog(tx *bbolt.Tx, id shared.PublisherID) (logBucket, error) {
	logs := tx.Bucket(bucketLogs)
	if logs == nil {
		return logBucket{}, errors.New("there are no logs")
	}
	return openLogIn(logs, id)
}

func openLogIn(logs *bbolt.Bucket, id shared.PublisherID) (b logBucket, err error) {
	if b.log = logs.Bucket([]byte(id)); b.log == nil {
		return b, fmt.Errorf("log of %s: it is missing", id)
	}
	if b.entries, b.hashes = b.log.Bucket(bucketEntries), b.log.Bucket(bucketHashes); b.entries == nil || b.hashes == nil {
		return b, fmt.Errorf("log of %s: its entries or hashes are missing", id)
	}
	return b, nil
}

// readEntry reads the pair that must be entry number at: when it was first seen,
// and its bytes, which are valid as long as the pair.
func readEntry(key, value []byte, at int64) (seen time.Time, raw []byte, err error) {
	if len(value) < 8 || !bytes.Equal(key, indexKey(at)) {
		return seen, nil, fmt.Errorf("entry %d is missing or damaged", at)
	}
	return time.Unix(int64(binary.BigEndian.Uint64(value)), 0), value[8:], nil
}

func indexKey(index int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(index))
}

// store writes an extension in one synced transaction, in which also may write
// more, and makes it visible. With cut, what is stored behind old goes first.
func (c *Catalog) store(old publisher.Log, ext publisher.Extension, cut bool, also func(*bbolt.Tx) error) (added []*Release, touched []string, err error) {
	now := c.clock()
	var said []statement
	err = c.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := makeLog(tx, ext.Log.Chain.ID)
		if err != nil {
			return err
		}
		if cut {
			if err := truncate(tx, bucket, ext.Log.Chain.ID, old.Size); err != nil {
				return err
			}
			if said, err = restate(bucket); err != nil {
				return err
			}
		}
		if err := bucket.extend(old, ext, now); err != nil {
			return err
		}
		return also(tx)
	})
	if err != nil {
		return nil, nil, storageError(c.db, err)
	}
	l := ext.Log
	l.Hashes = &storedHashes{c.db, l.Chain.ID}
	seen := time.Unix(now.Unix(), 0) // as it is stored
	for i, e := range ext.New {
		if s, ok := understand(e, old.Size+int64(i), seen); ok {
			said = append(said, s)
		}
	}
	added, touched = c.remember(l, said, cut)
	return added, touched, nil
}

// restate reads again what the stored entries of a log state.
func restate(bucket logBucket) (said []statement, err error) {
	at := int64(0)
	err = bucket.entries.ForEach(func(key, value []byte) error {
		seen, raw, err := readEntry(key, value, at)
		if err != nil {
			return err
		}
		e, err := publisher.DecodeEntry(raw)
		if err != nil {
			return err
		}
		if s, ok := understand(e, at, seen); ok {
			said = append(said, s)
		}
		at++
		return nil
	})
	return said, err
}

func makeLog(tx *bbolt.Tx, id shared.PublisherID) (b logBucket, err error) {
	logs, err := tx.CreateBucketIfNotExists(bucketLogs)
	if err != nil {
		return b, err
	}
	if b.log, err = logs.CreateBucketIfNotExists([]byte(id)); err != nil {
		return b, err
	}
	if b.entries, err = b.log.CreateBucketIfNotExists(bucketEntries); err != nil {
		return b, err
	}
	b.hashes, err = b.log.CreateBucketIfNotExists(bucketHashes)
	return b, err
}

func (b logBucket) extend(old publisher.Log, ext publisher.Extension, now time.Time) error {
	roots, err := json.Marshal(ext.Log.Chain.Signed())
	if err != nil {
		return err
	}
	if err := errors.Join(b.log.Put(keyRoots, roots), b.log.Put(keyHead, ext.Log.Head.Signed)); err != nil {
		return err
	}
	entries, hashes := b.entries, b.hashes
	// Both only ever grow at the end: full pages save a third of the file.
	entries.FillPercent, hashes.FillPercent = 1, 1
	for i, raw := range ext.Raw {
		value := append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(raw)), uint64(now.Unix())), raw...)
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

// storageError names the file, unless the error does so already.
func storageError(db DB, err error) error {
	var typed *shared.Error
	if errors.As(err, &typed) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) {
		return shared.NewError(shared.ReasonStorageFull, "write %s: %w", db.Path(), err).WithHint("free some space and try again")
	}
	return shared.NewError(shared.ReasonStorage, "%s: %w", db.Path(), err)
}
