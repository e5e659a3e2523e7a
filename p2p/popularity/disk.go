package popularity

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/shared"
)

// bucketPopularity is popularity/<publisher>/<name> → a record, see encode.
var bucketPopularity = []byte("popularity")

const (
	recordFormat = 1
	recordHeader = 1 + 4*8
	maxPeerID    = 128 // bytes; an Ed25519 peer's has 52
)

func (p Package) key() []byte { return []byte(string(p.Publisher) + "/" + p.Name) }

func parseKey(key []byte) (Package, bool) {
	publisher, name, found := strings.Cut(string(key), "/")
	p := Package{Name: name, Publisher: shared.PublisherID(publisher)}
	return p, found && p.Publisher.Complete() && shared.CheckName(name) == nil
}

func (b *Book) load() error {
	return b.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketPopularity)
		if bucket == nil {
			return nil
		}
		now := b.now()
		return bucket.ForEach(func(key, value []byte) error {
			p, ok := parseKey(key)
			r, err := decode(value)
			if ok && err == nil && len(b.packages) < MaxPackages && !r.heard.After(now.Add(time.Hour)) {
				b.packages[p] = r
			}
			return nil
		})
	})
}

// store writes a record in the place of the one that leaves.
func (b *Book) store(p Package, r record, leaving *Package) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketPopularity)
		if err != nil {
			return err
		}
		if leaving != nil {
			if err := bucket.Delete(leaving.key()); err != nil {
				return err
			}
		}
		return bucket.Put(p.key(), r.encode())
	})
}

// encode gives a record's bytes: the format 1, sum 8, weight 8 (IEEE 754), observed 8,
// heard 8 (Unix seconds, 0 for never), and each holder after its length 1.
func (r record) encode() []byte {
	data := []byte{recordFormat}
	data = binary.BigEndian.AppendUint64(data, math.Float64bits(r.sum))
	data = binary.BigEndian.AppendUint64(data, math.Float64bits(r.weight))
	for _, t := range []time.Time{r.observed, r.heard} {
		seconds := int64(0)
		if !t.IsZero() {
			seconds = t.Unix()
		}
		data = binary.BigEndian.AppendUint64(data, uint64(seconds))
	}
	for _, id := range r.holders {
		data = append(append(data, byte(len(id))), id...)
	}
	return data
}

var errRecord = errors.New("popularity: not a record")

// decode reads a record that makes sense.
func decode(data []byte) (r record, err error) {
	if len(data) < recordHeader || data[0] != recordFormat {
		return record{}, errRecord
	}
	word := func(i int) uint64 { return binary.BigEndian.Uint64(data[1+8*i:]) }
	r.sum, r.weight = math.Float64frombits(word(0)), math.Float64frombits(word(1))
	observed, heard := int64(word(2)), int64(word(3))
	switch {
	case observed < 0 || heard <= 0 || observed > heard || heard > math.MaxUint32:
		return record{}, errRecord
	case observed == 0 && (r.sum != 0 || r.weight != 0):
		return record{}, errRecord
	// The newest observation weighs 1, and each counts at most MaxHolders.
	case observed > 0 && !(r.weight >= 1 && r.weight <= math.MaxUint32 && r.sum >= 0 && r.sum <= MaxHolders*r.weight):
		return record{}, errRecord
	}
	if r.heard = time.Unix(heard, 0); observed > 0 {
		r.observed = time.Unix(observed, 0)
	}
	for rest := data[recordHeader:]; len(rest) > 0; {
		size := int(rest[0])
		if size == 0 || size > maxPeerID || size >= len(rest) || len(r.holders) == maxKnown {
			return record{}, errRecord
		}
		r.holders, rest = append(r.holders, string(rest[1:1+size])), rest[1+size:]
	}
	return r, nil
}
