package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

func openLedger(t *testing.T, path string, now time.Time) (*requests, *store.DB) {
	t.Helper()
	db, err := store.OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r, err := openRequests(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.now = func() time.Time { return now }
	return r, db
}

func TestRequestsAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "market.db")
	start := time.Now()
	r, db := openLedger(t, path, start)
	digest := shared.DigestOf(nil)
	id := func(i int) string { return fmt.Sprint("request-", i) }
	for i := range maxRequests + 10 {
		if err := r.keep(id(i), executed{Time: start.Add(time.Duration(i) * time.Second), Digest: digest, Answered: true}); err != nil {
			t.Fatal(err)
		}
	}
	known := func(r *requests, db *store.DB, first, last int) {
		t.Helper()
		count := 0
		if err := db.View(func(tx *bbolt.Tx) error { count = tx.Bucket(bucketRequests).Stats().KeyN; return nil }); err != nil {
			t.Fatal(err)
		}
		if want := last - first; count != want || len(r.known) != want || len(r.oldest) != want {
			t.Fatalf("%d are stored, %d known, %d in order; want %d", count, len(r.known), len(r.oldest), want)
		}
		for i := first; i < last; i++ {
			if done, err := r.find(id(i), digest); err != nil || !done.Answered {
				t.Fatalf("request %d: %+v, %v", i, done, err)
			}
		}
	}
	known(r, db, 10, maxRequests+10)
	if done, err := r.find(id(9), digest); err != nil || done.Answered {
		t.Fatalf("%+v, %v", done, err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketRequests).Put([]byte(id(500)), []byte("{")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	later := start.Add(maxRequestAge + 100*time.Second + time.Millisecond) // the first hundred are too old
	r, db = openLedger(t, path, later)
	for _, i := range []int{100, 500} { // too old, and damaged
		if done, err := r.find(id(i), digest); err != nil || done.Answered {
			t.Fatalf("request %d: %+v, %v", i, done, err)
		}
	}
	if _, err := r.find(id(101), shared.DigestOf([]byte("other"))); !errors.Is(err, shared.ReasonInvalidArgument) {
		t.Fatalf("got %v", err)
	}
	if err := r.keep(id(maxRequests+10), executed{Time: later, Digest: digest, Answered: true}); err != nil {
		t.Fatal(err)
	}
	if done := r.known[id(500)]; done.Answered {
		t.Fatalf("the damaged one is %+v", done)
	}
	if err := r.keep(id(500), executed{Time: later, Digest: digest, Answered: true}); err != nil {
		t.Fatal(err)
	}
	known(r, db, 101, maxRequests+11)
}

func TestARequestThatFailsToBeKeptIsForgotten(t *testing.T) {
	r, db := openLedger(t, filepath.Join(t.TempDir(), "market.db"), time.Now())
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.keep("a", executed{Time: time.Now(), Digest: shared.DigestOf(nil)}); !errors.Is(err, shared.ReasonStorage) {
		t.Fatalf("got %v", err)
	}
	if len(r.known)+len(r.oldest) != 0 {
		t.Fatalf("known are %v", r.known)
	}
}

func TestOneCallOfARequestAtATime(t *testing.T) {
	r, _ := openLedger(t, filepath.Join(t.TempDir(), "market.db"), time.Now())
	end, err := r.begin(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.begin(gone, "a"); !errors.Is(err, shared.ReasonCanceled) {
		t.Fatalf("got %v", err)
	}
	other, err := r.begin(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	waiting := make(chan error)
	go func() {
		end, err := r.begin(t.Context(), "a")
		if err == nil {
			end()
		}
		waiting <- err
	}()
	select {
	case err := <-waiting:
		t.Fatalf("two at once: %v", err)
	default:
	}
	end()
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	if len(r.running) != 0 {
		t.Fatalf("left are %v", r.running)
	}
}
