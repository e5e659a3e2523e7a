package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// loadChunk is how many entries one goroutine decodes at a time: about 3 ms of work.
const loadChunk = 512

// load reads everything into memory. What the entries state was verified when
// they were stored; that they still are those entries is verified here, by their
// tree and the signed head over it.
func (c *Catalog) load(mine func(shared.PublisherID) bool) error {
	return c.db.View(func(tx *bbolt.Tx) error {
		if forks := tx.Bucket(bucketForks); forks != nil {
			if err := c.loadForks(forks); err != nil {
				return err
			}
		}
		if pins := tx.Bucket(bucketPins); pins != nil {
			if err := pins.ForEach(c.loadPin); err != nil {
				return err
			}
		}
		if logs := tx.Bucket(bucketLogs); logs != nil {
			return c.loadLogs(logs, mine)
		}
		return nil
	})
}

// loadLogs walks the database alone and shares the work of decoding and hashing.
func (c *Catalog) loadLogs(logs *bbolt.Bucket, mine func(shared.PublisherID) bool) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	err := logs.ForEach(func(name, value []byte) error {
		id := shared.PublisherID(name)
		if value != nil || !id.Complete() {
			return fmt.Errorf("log of %q: it is not one", name)
		}
		if !mine(id) {
			return nil
		}
		bucket, err := openLogIn(logs, id)
		if err != nil {
			return err
		}
		l, err := readLog(bucket, id)
		if err != nil {
			return fmt.Errorf("log of %s: %w", id, err)
		}
		c.decode(l, &group)
		return nil
	})
	return errors.Join(err, group.Wait())
}

// loading is a log on its way into memory. The byte slices are the database's and
// valid for the transaction.
type loading struct {
	id          shared.PublisherID
	roots, head []byte
	entries     [][]byte // without the time
	seen        []time.Time
	hashes      [][]byte

	said   [][]statement // for each chunk
	leaves []tlog.Hash   // for each entry
	left   atomic.Int64  // chunks that are not decoded
}

func readLog(bucket logBucket, id shared.PublisherID) (*loading, error) {
	l := &loading{id: id, roots: bucket.log.Get(keyRoots), head: bucket.log.Get(keyHead)}
	err := bucket.entries.ForEach(func(key, value []byte) error {
		seen, raw, err := readEntry(key, value, int64(len(l.entries)))
		l.entries, l.seen = append(l.entries, raw), append(l.seen, seen)
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, bucket.hashes.ForEach(func(key, value []byte) error {
		if len(value) != tlog.HashSize || string(key) != string(indexKey(int64(len(l.hashes)))) {
			return fmt.Errorf("hash %d is missing or damaged", len(l.hashes))
		}
		l.hashes = append(l.hashes, value)
		return nil
	})
}

// decode decodes the entries in chunks. Whoever finishes the last one verifies the
// whole and makes it visible.
func (c *Catalog) decode(l *loading, group *errgroup.Group) {
	chunks := max(1, (len(l.entries)+loadChunk-1)/loadChunk)
	l.said, l.leaves = make([][]statement, chunks), make([]tlog.Hash, len(l.entries))
	l.left.Store(int64(chunks))
	for chunk := range chunks {
		group.Go(func() (err error) {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer l.survive(&err)
			err = l.decodeChunk(chunk)
			if err == nil && l.left.Add(-1) == 0 {
				err = c.finish(l)
			}
			if err != nil {
				return fmt.Errorf("log of %s: %w", l.id, err)
			}
			return nil
		})
	}
}

// survive turns a panic into an error. The bytes are the database's: they can
// become unreadable at any time, and its own guard is for its own goroutine.
func (l *loading) survive(err *error) {
	if met := recover(); met != nil {
		*err = fmt.Errorf("log of %s: a page is damaged: %.300v", l.id, met)
	}
}

func (l *loading) decodeChunk(chunk int) error {
	first := chunk * loadChunk
	end := min(first+loadChunk, len(l.entries))
	said := make([]statement, 0, end-first)
	for i := first; i < end; i++ {
		l.leaves[i] = tlog.RecordHash(l.entries[i])
		if at := tlog.StoredHashIndex(0, int64(i)); at >= int64(len(l.hashes)) || string(l.hashes[at]) != string(l.leaves[i][:]) {
			return fmt.Errorf("entry %d is damaged", i)
		}
		e, err := publisher.DecodeEntry(l.entries[i])
		if err != nil {
			return fmt.Errorf("entry %d is damaged: %w", i, err)
		}
		if s, ok := understand(e, int64(i), l.seen[i]); ok {
			said = append(said, s)
		}
	}
	l.said[chunk] = said
	return nil
}

func (c *Catalog) finish(l *loading) error {
	var roots [][]byte
	if err := json.Unmarshal(l.roots, &roots); err != nil {
		return fmt.Errorf("root documents: %w", err)
	}
	chain, err := publisher.ParseChain(roots)
	if err != nil {
		return err
	}
	if chain.ID != l.id {
		return fmt.Errorf("it holds the keys of %s", chain.ID.Short())
	}
	// A clock that was set back must not make what is stored unreadable.
	head, err := publisher.OpenHead(append([]byte(nil), l.head...), chain, time.Unix(1<<40, 0))
	if err != nil {
		return err
	}
	if err := l.checkTree(head); err != nil {
		return err
	}
	var said []statement
	for _, part := range l.said {
		said = append(said, part...)
	}
	c.remember(publisher.Log{Chain: chain, Head: head, Size: int64(len(l.entries)), Hashes: &storedHashes{c.db, l.id}}, said, false)
	return nil
}

// checkTree computes the tree anew and holds it against what is stored and signed.
func (l *loading) checkTree(head publisher.Head) error {
	size := int64(len(l.entries))
	if size > head.Size || int64(len(l.hashes)) != tlog.StoredHashCount(size) {
		return fmt.Errorf("it has %d entries and %d hashes under a head of %d entries", size, len(l.hashes), head.Size)
	}
	tree := make(computed, 0, len(l.hashes))
	for i, leaf := range l.leaves {
		hashes, err := tlog.StoredHashesForRecordHash(int64(i), leaf, &tree)
		if err != nil {
			return err
		}
		for _, hash := range hashes {
			if string(l.hashes[len(tree)]) != string(hash[:]) {
				return fmt.Errorf("hash %d is damaged", len(tree))
			}
			tree = append(tree, hash)
		}
	}
	if size != head.Size {
		return nil // under a head whose other entries have not come yet
	}
	hash, err := tlog.TreeHash(size, &tree)
	if err == nil && hash != head.Hash {
		err = errors.New("its entries are not those that were signed")
	}
	return err
}

// computed is a tree in memory.
type computed []tlog.Hash

// ReadHashes implements tlog.HashReader.
func (c *computed) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(*c)) {
			return nil, fmt.Errorf("hash %d is not computed yet", index)
		}
		hashes[i] = (*c)[index]
	}
	return hashes, nil
}
