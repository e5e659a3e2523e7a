package reputation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// DB is the part of the engine's database that the book needs.
type DB interface {
	View(read func(tx *bbolt.Tx) error) error
	Update(write func(tx *bbolt.Tx) error) error
}

// bucket holds a record as JSON under each peer's ID. Versions before this one had the
// whole book under formerKey.
var (
	bucket    = []byte("reputation")
	formerKey = []byte("book")
)

// Open reads the book from the database, which stays the caller's. Records that make no
// sense are dropped. Errors: the database's; the book is then empty, and can be used.
func Open(db DB) (*Book, error) {
	k := New()
	k.db = db
	if err := db.View(k.load); err != nil {
		return k, fmt.Errorf("reputation: %w", err)
	}
	return k, nil
}

func (k *Book) load(tx *bbolt.Tx) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	if former := b.Get(formerKey); former != nil {
		var records map[string]json.RawMessage
		if json.Unmarshal(former, &records) == nil {
			for id, data := range records {
				k.restore(id, data)
				k.dirty[id] = true
			}
		}
		k.dirty[string(formerKey)] = true // which is no peer, and so goes
	}
	return b.ForEach(func(id, data []byte) error {
		if string(id) != string(formerKey) {
			k.restore(string(id), data)
		}
		return nil
	})
}

// restore takes one record that was written down.
func (k *Book) restore(id string, data []byte) {
	var r Record
	if id == "" || len(id) > maxPeerID || len(k.peers) >= MaxPeers || json.Unmarshal(data, &r) != nil || !r.sane(k.now()) {
		k.dirty[id] = true // gone
		return
	}
	if r.Counted.IsZero() { // of a version that did not note it
		r.Counted = r.LastSeen
	}
	r.limit()
	k.peers[id] = &r
}

// sane tells whether a record can be of this book: a damaged disk, or a clock that was
// years ahead, must not make somebody trusted, or banned, for ever.
func (r *Record) sane(now time.Time) bool {
	for _, v := range []float64{r.Successes, r.Failures, r.Pace} {
		if !(v >= 0) || math.IsInf(v, 0) {
			return false
		}
	}
	soon := now.Add(time.Hour)
	for _, t := range []time.Time{r.FirstSeen, r.LastSeen, r.Counted, r.Measured, r.LastSuccess, r.LastFailure, r.BannedUntil.Add(-BanWrongContent)} {
		if t.After(soon) {
			return false
		}
	}
	_, onEarth := NewPlace(float64(r.Place.Latitude), float64(r.Place.Longitude), r.Place.Region)
	return !r.LastSeen.IsZero() && r.Response >= 0 && r.Streak >= 0 && r.Bytes >= 0 && onEarth
}

// Save writes down what has changed since the last time, in one transaction. Errors: the
// database's; what was not written is written next time.
func (k *Book) Save() error {
	if k.db == nil {
		return nil
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	changed, err := k.changes()
	if err != nil || len(changed) == 0 {
		return err
	}
	err = k.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		var errs []error
		for _, id := range slices.Sorted(maps.Keys(changed)) {
			if data := changed[id]; data != nil {
				errs = append(errs, b.Put([]byte(id), data))
			} else {
				errs = append(errs, b.Delete([]byte(id)))
			}
		}
		return errors.Join(errs...)
	})
	if err == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range changed {
		k.dirty[id] = true
	}
	return fmt.Errorf("reputation: %w", err)
}

// changes takes the records that have changed; nil for those that are gone.
func (k *Book) changes() (map[string][]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	changed := make(map[string][]byte, len(k.dirty))
	for id := range k.dirty {
		r := k.peers[id]
		if r == nil {
			if id != "" && len(id) <= bbolt.MaxKeySize {
				changed[id] = nil
			}
			continue
		}
		data, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("reputation: %w", err)
		}
		changed[id] = data
	}
	k.dirty = map[string]bool{}
	return changed, nil
}
