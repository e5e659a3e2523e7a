package node

import (
	"bytes"
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

const (
	// maxRecords and maxRecordBytes bound what strangers can make this node store
	// for the DHT. A network of 10,000 peers with 100 packages each leaves about
	// 2,000 provider records on every peer (×20 replicas / 10,000 peers), so there
	// is room for thirty times as many. A full store costs about 30 MB.
	maxRecords     = 65_536
	maxRecordBytes = 16 << 20

	// maxPerKey bounds the providers of one blob. A lookup wants a handful, and an
	// answer with more would not fit a message.
	maxPerKey = 256
)

// recordStore is the DHT's datastore in memory, bounded, with a snapshot of it for the next
// run: when it is full, the record
// that was written longest ago gives way. kad-dht files provider records under
// /providers/<key>/<peer> and values under /<namespace>/<key>; both are grouped
// by all but the last part, so that the providers of one key are found without
// looking at everything else. It is safe for concurrent use.
type recordStore struct {
	maxCount, maxBytes int

	mu     sync.Mutex // guards the fields below
	bytes  int
	writes uint64
	order  *list.List // of *storedRecord, oldest write first
	groups map[string]map[string]*list.Element
}

type storedRecord struct {
	group, key string // key is the full key
	value      []byte
	written    uint64 // counts writes, to tell which of two is older
}

var _ ds.Batching = (*recordStore)(nil)

func newRecordStore(maxCount, maxBytes int) *recordStore {
	return &recordStore{maxCount: maxCount, maxBytes: maxBytes, order: list.New(), groups: map[string]map[string]*list.Element{}}
}

func groupOf(key string) string { return key[:max(strings.LastIndexByte(key, '/'), 0)] }

// Put implements ds.Write. Putting a key again makes it the newest.
func (r *recordStore) Put(_ context.Context, key ds.Key, value []byte) error {
	r.put(key.String(), value)
	return nil
}

func (r *recordStore) put(key string, value []byte) {
	rec := &storedRecord{group: groupOf(key), key: key, value: append([]byte(nil), value...)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(rec.group, rec.key)
	if r.groups[rec.group] == nil {
		r.groups[rec.group] = map[string]*list.Element{}
	}
	if group := r.groups[rec.group]; len(group) >= maxPerKey && strings.HasPrefix(key, providersKey) {
		r.removeOldest(group)
	}
	r.writes++
	rec.written = r.writes
	r.groups[rec.group][rec.key] = r.order.PushBack(rec)
	r.bytes += len(rec.key) + len(rec.value)
	for r.order.Len() > r.maxCount || r.bytes > r.maxBytes {
		oldest := r.order.Front().Value.(*storedRecord)
		r.remove(oldest.group, oldest.key)
	}
}

const providersKey = "/providers/"

// removeOldest drops the member of group that was written first.
func (r *recordStore) removeOldest(group map[string]*list.Element) {
	var oldest *storedRecord
	for _, e := range group {
		if rec := e.Value.(*storedRecord); oldest == nil || rec.written < oldest.written {
			oldest = rec
		}
	}
	if oldest != nil {
		r.remove(oldest.group, oldest.key)
	}
}

func (r *recordStore) remove(group, key string) {
	e, ok := r.groups[group][key]
	if !ok {
		return
	}
	rec := r.order.Remove(e).(*storedRecord)
	r.bytes -= len(rec.key) + len(rec.value)
	delete(r.groups[group], key)
	if len(r.groups[group]) == 0 {
		delete(r.groups, group)
	}
}

// Delete implements ds.Write.
func (r *recordStore) Delete(_ context.Context, key ds.Key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(groupOf(key.String()), key.String())
	return nil
}

// Get implements ds.Read.
func (r *recordStore) Get(_ context.Context, key ds.Key) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.groups[groupOf(key.String())][key.String()]
	if !ok {
		return nil, ds.ErrNotFound
	}
	return append([]byte(nil), e.Value.(*storedRecord).value...), nil
}

// Has implements ds.Read.
func (r *recordStore) Has(ctx context.Context, key ds.Key) (bool, error) {
	return ds.GetBackedHas(ctx, r, key)
}

// GetSize implements ds.Read.
func (r *recordStore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	return ds.GetBackedSize(ctx, r, key)
}

// Query implements ds.Read. It copies what it finds, so a caller may take its
// time.
func (r *recordStore) Query(_ context.Context, q query.Query) (query.Results, error) {
	prefix := ds.NewKey(q.Prefix)
	var entries []query.Entry
	r.mu.Lock()
	add := func(e *list.Element) {
		rec := e.Value.(*storedRecord)
		entries = append(entries, query.Entry{Key: rec.key, Value: append([]byte(nil), rec.value...), Size: len(rec.value)})
	}
	if len(prefix.Namespaces()) >= 2 { // the providers of one key
		for _, e := range r.groups[prefix.String()] {
			add(e)
		}
	} else {
		for e := r.order.Front(); e != nil; e = e.Next() {
			if prefix.String() == "/" || strings.HasPrefix(e.Value.(*storedRecord).key, prefix.String()+"/") {
				add(e)
			}
		}
	}
	r.mu.Unlock()
	return query.NaiveQueryApply(query.Query{Filters: q.Filters, Orders: q.Orders, Limit: q.Limit, Offset: q.Offset, KeysOnly: q.KeysOnly},
		query.ResultsWithEntries(q, entries)), nil
}

// Batch implements ds.Batching.
func (r *recordStore) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(r), nil }

// Sync implements ds.Datastore; there is nothing to sync.
func (r *recordStore) Sync(context.Context, ds.Key) error { return nil }

// Close implements ds.Datastore; there is nothing to close.
func (r *recordStore) Close() error { return nil }

// recordsHeader begins a snapshot: its format. Then follows for each record, oldest
// write first, the length of its key (2 bytes), the key, the length of its value (4) and
// the value.
const recordsHeader = "ggen records 1\n"

// snapshot is all records as bytes.
func (r *recordStore) snapshot() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := make([]byte, 0, len(recordsHeader)+r.bytes+6*r.order.Len())
	b = append(b, recordsHeader...)
	for e := r.order.Front(); e != nil; e = e.Next() {
		rec := e.Value.(*storedRecord)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(rec.key))), rec.key...)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(rec.value))), rec.value...)
	}
	return b
}

// restore takes the records of a snapshot; their age is in their values, and kad-dht
// looks at it. What follows damage is left out: records are announced again and again.
func (r *recordStore) restore(snapshot []byte) error {
	rest, ok := bytes.CutPrefix(snapshot, []byte(recordsHeader))
	if !ok {
		return errors.New("no snapshot of records of this version")
	}
	part := func(width int) []byte {
		if len(rest) < width {
			return nil
		}
		size := int(binary.BigEndian.Uint16(rest))
		if width == 4 {
			size = int(binary.BigEndian.Uint32(rest))
		}
		if rest = rest[width:]; size > len(rest) {
			return nil
		}
		b := rest[:size]
		rest = rest[size:]
		return b
	}
	for len(rest) > 0 {
		key := part(2)
		value := part(4)
		if len(key) == 0 || key[0] != '/' || value == nil {
			return errors.New("the snapshot of records is damaged")
		}
		r.put(string(key), value)
	}
	return nil
}
