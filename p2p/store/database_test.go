package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

func TestOpenDB(t *testing.T) {
	path := filepath.Join(t.TempDir(), "market.db")
	openDB := func(t *testing.T) *store.DB {
		t.Helper()
		db, err := store.OpenDB(path)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	set := func(t *testing.T, key, value string) {
		t.Helper()
		db := openDB(t)
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("meta"))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), []byte(value))
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	set(t, "mine", "1")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	t.Run("keeps what was written", func(t *testing.T) {
		db := openDB(t)
		defer func() { _ = db.Close() }()
		_ = db.View(func(tx *bbolt.Tx) error {
			if got := tx.Bucket([]byte("meta")).Get([]byte("mine")); string(got) != "1" {
				t.Fatalf("got %q", got)
			}
			return nil
		})
	})
	t.Run("a second process is told who to stop", func(t *testing.T) {
		db := openDB(t)
		defer func() { _ = db.Close() }()
		_, err := store.OpenDB(path)
		wantReason(t, err, shared.ReasonStorage)
		if e := shared.AsError(err); !strings.Contains(e.Hint, "another process") || e.Metadata["path"] != path {
			t.Fatalf("%+v", e)
		}
	})
	for _, tc := range []struct{ name, schema, hint string }{
		{"a newer engine's is refused", "2", "plugin use VERSION"},
		{"a senseless version is refused", "-1", "move it away"},
	} {
		t.Run(tc.name+" and not touched", func(t *testing.T) {
			set(t, "schema", tc.schema)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = store.OpenDB(path)
			wantReason(t, err, shared.ReasonStorage)
			if e := shared.AsError(err); !strings.Contains(e.Hint, tc.hint) || !strings.Contains(e.Message, path) {
				t.Fatalf("%+v", e)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Fatalf("the file was changed (%v)", err)
			}
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("schema"), []byte("1")) })
			_ = db.Close()
		})
	}
	t.Run("what is no database is refused", func(t *testing.T) {
		foreign := filepath.Join(t.TempDir(), "market.db")
		if err := os.WriteFile(foreign, bytes.Repeat([]byte("no database "), 2000), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.OpenDB(foreign)
		wantReason(t, err, shared.ReasonStorage)
		if e := shared.AsError(err); !strings.Contains(e.Hint, "damaged") {
			t.Fatalf("%+v", e)
		}
	})
	t.Run("another program's database is refused", func(t *testing.T) {
		foreign := filepath.Join(t.TempDir(), "market.db")
		db, err := bbolt.Open(foreign, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
		_ = db.Close()
		_, err = store.OpenDB(foreign)
		wantReason(t, err, shared.ReasonStorage)
	})
	t.Run("a missing folder is reported", func(t *testing.T) {
		_, err := store.OpenDB(filepath.Join(t.TempDir(), "none", "market.db"))
		wantReason(t, err, shared.ReasonStorage)
	})
}

// TestReleasedPagesAreReadAgain holds that a database reads and writes on after its
// memory was given back, also from several goroutines at once.
func TestReleasedPagesAreReadAgain(t *testing.T) {
	db, err := store.OpenDB(filepath.Join(t.TempDir(), "market.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var work sync.WaitGroup
	work.Go(func() {
		for range 200 {
			db.ReleasePages()
		}
	})
	for i := range 100 {
		if err := db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return bucket.Put(fmt.Append(nil, i), make([]byte, 8<<10))
		}); err != nil {
			t.Fatal(err)
		}
	}
	work.Wait()
	if err := db.View(func(tx *bbolt.Tx) error {
		for i := range 100 {
			if got := tx.Bucket([]byte("b")).Get(fmt.Append(nil, i)); len(got) != 8<<10 {
				t.Errorf("value %d has %d bytes", i, len(got))
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
