package node

import (
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

func TestRecordsSurviveARestart(t *testing.T) {
	before := newRecordStore(100, 10_000)
	for key, value := range map[string]string{"/providers/A/P": "1", "/providers/A/Q": "22", "/ggen-head/X": ""} {
		if err := before.Put(t.Context(), ds.NewKey(key), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	snapshot := before.snapshot()
	after := newRecordStore(100, 10_000)
	if err := after.restore(snapshot); err != nil {
		t.Fatal(err)
	}
	results, err := after.Query(t.Context(), query.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := results.Rest(); err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	if value, err := after.Get(t.Context(), ds.NewKey("/providers/A/Q")); err != nil || string(value) != "22" {
		t.Errorf("%q, %v", value, err)
	}
	for cut := range snapshot {
		if err := newRecordStore(100, 10_000).restore(snapshot[:cut]); err == nil && cut < len(recordsHeader) {
			t.Errorf("%d of %d bytes are taken for a snapshot", cut, len(snapshot))
		}
	}
	small := newRecordStore(2, 10_000)
	if err := small.restore(snapshot); err != nil || small.order.Len() != 2 {
		t.Errorf("a smaller store has %d, %v", small.order.Len(), err)
	}
}

func FuzzRestoreRecords(f *testing.F) {
	r := newRecordStore(10, 1000)
	_ = r.Put(f.Context(), ds.NewKey("/a/b"), []byte("c"))
	f.Add(r.snapshot())
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newRecordStore(10, 1000)
		_ = r.restore(data) // must not panic, and stay within bounds
		if r.order.Len() > 10 || r.bytes > 1000 {
			t.Fatalf("%d records of %d bytes", r.order.Len(), r.bytes)
		}
	})
}
