package cache

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// DB is the database. Its transactions work as bbolt's do.
type DB interface {
	View(read func(*bbolt.Tx) error) error
	Update(write func(*bbolt.Tx) error) error
}

// Bucket is a [Disk] in a bucket of the engine's database, for small values. An entry is
// the time it was written at, in milliseconds, the SHA-256 of what follows, and the value.
// What is full forgets its oldest half. Its methods may be called concurrently.
type Bucket struct {
	db   DB
	name []byte
	most int
}

// bucketHeader is what an entry has before its value: time and hash.
const bucketHeader = 8 + sha256.Size

// NewBucket keeps at most so many entries in the bucket of a name, which is made when
// something is written.
func NewBucket(db DB, name string, most int) *Bucket {
	return &Bucket{db: db, name: []byte(name), most: most}
}

// Read implements [Disk]: an entry that is damaged is not there.
func (b *Bucket) Read(key string) (data []byte, written time.Time, ok bool) {
	err := b.db.View(func(tx *bbolt.Tx) error {
		if bucket := tx.Bucket(b.name); bucket != nil {
			data = bytes.Clone(bucket.Get([]byte(key)))
		}
		return nil
	})
	if err != nil || len(data) < bucketHeader {
		return nil, time.Time{}, false
	}
	if sum := sha256.Sum256(data[bucketHeader:]); !bytes.Equal(sum[:], data[8:bucketHeader]) {
		return nil, time.Time{}, false
	}
	return data[bucketHeader:], time.UnixMilli(int64(binary.BigEndian.Uint64(data))), true
}

// Write implements [Disk].
func (b *Bucket) Write(key string, data []byte) {
	record := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))
	sum := sha256.Sum256(data)
	record = append(append(record, sum[:]...), data...)
	_ = b.db.Update(func(tx *bbolt.Tx) error { // what is not kept is looked up again
		bucket, err := tx.CreateBucketIfNotExists(b.name)
		if err != nil {
			return err
		}
		if bucket.Get([]byte(key)) == nil && bucket.Stats().KeyN >= b.most {
			if err := forgetOldest(bucket, b.most/2); err != nil {
				return err
			}
		}
		return bucket.Put([]byte(key), record)
	})
}

// Drop implements [Disk].
func (b *Bucket) Drop(key string) {
	_ = b.db.Update(func(tx *bbolt.Tx) error { // it stays damaged, and is not read
		if bucket := tx.Bucket(b.name); bucket != nil {
			return bucket.Delete([]byte(key))
		}
		return nil
	})
}

// forgetOldest leaves so many entries, those that were written last.
func forgetOldest(bucket *bbolt.Bucket, left int) error {
	type dated struct {
		key []byte
		at  uint64
	}
	var all []dated
	if err := bucket.ForEach(func(key, record []byte) error {
		d := dated{key: bytes.Clone(key)}
		if len(record) >= 8 {
			d.at = binary.BigEndian.Uint64(record)
		}
		all = append(all, d)
		return nil
	}); err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b dated) int { return cmp.Compare(b.at, a.at) })
	for _, d := range all[min(left, len(all)):] {
		if err := bucket.Delete(d.key); err != nil {
			return err
		}
	}
	return nil
}
