package catalog_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// TestDamage changes one thing in a database, behind the catalogue's back.
func TestDamage(t *testing.T) {
	at := func(index byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, index} }
	change := func(bucket string, key []byte, edit func([]byte) []byte) func(*bbolt.Bucket) error {
		return func(log *bbolt.Bucket) error {
			b := log
			if bucket != "" {
				b = log.Bucket([]byte(bucket))
			}
			value := edit(append([]byte(nil), b.Get(key)...))
			if value == nil {
				return b.Delete(key)
			}
			return b.Put(key, value)
		}
	}
	flip := func(value []byte) []byte { value[len(value)/2] ^= 1; return value }
	remove := func([]byte) []byte { return nil }
	for name, spoil := range map[string]func(log *bbolt.Bucket) error{
		"an entry with another content": change("entries", at(3), func(b []byte) []byte { return []byte(strings.Replace(string(b), "1.3.0", "1.9.0", 1)) }),
		"an entry with a flipped bit":   change("entries", at(3), flip),
		"an entry cut off":              change("entries", at(3), func(b []byte) []byte { return b[:5] }),
		"a missing entry":               change("entries", at(3), remove),
		"a missing last entry":          change("entries", at(9), remove),
		"an additional entry":           change("entries", at(10), func([]byte) []byte { return []byte("12345678{}") }),
		"a changed hash":                change("hashes", at(2), flip),
		"a missing hash":                change("hashes", at(2), remove),
		"a changed head":                change("", []byte("head"), flip),
		"no head":                       change("", []byte("head"), remove),
		"changed roots":                 change("", []byte("roots"), flip),
		"no roots":                      change("", []byte("roots"), remove),
		"no entries at all":             func(log *bbolt.Bucket) error { return log.DeleteBucket([]byte("entries")) },
		"no hashes at all":              func(log *bbolt.Bucket) error { return log.DeleteBucket([]byte("hashes")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "market.db")
			c, db := openAt(t, path)
			key := newKey(t)
			for i := range 10 {
				publish(t, c, key, release("pack", fmt.Sprintf("1.%d.0", i), fmt.Sprint(i)))
			}
			id := c.Heads()[0].Publisher
			if err := db.Update(func(tx *bbolt.Tx) error { return spoil(tx.Bucket([]byte("logs")).Bucket([]byte(id))) }); err != nil {
				t.Fatal(err)
			}
			_, err := catalog.Open(db)
			if !errors.Is(err, shared.ReasonStorage) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), string(id)) {
				t.Fatalf("got %v; want STORAGE that names file and publisher", err)
			}
			if strings.HasPrefix(name, "an entry with") && !strings.Contains(err.Error(), "entry 3") {
				t.Fatalf("got %v; want the number of the entry", err)
			}
			// An open catalogue meets the damage too.
			for from := range int64(11) {
				u, err := c.Since(id, from, 1<<20)
				if err == nil {
					_, err = publisher.ParseUpdate(u.Marshal())
				}
				if err != nil && !errors.Is(err, shared.ReasonStorage) {
					t.Fatalf("from %d: got %v, want STORAGE", from, err)
				}
			}
			if _, _, err := c.Publish(key, release("pack", "2.0.0", "a")); err != nil && !errors.Is(err, shared.ReasonStorage) {
				t.Fatalf("publish: %v", err)
			}
		})
	}
	t.Run("a log that is no log", func(t *testing.T) {
		_, db := openAt(t, filepath.Join(t.TempDir(), "market.db"))
		if err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("logs"))
			return errors.Join(err, b.Put([]byte("x"), []byte("y")))
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := catalog.Open(db); !errors.Is(err, shared.ReasonStorage) {
			t.Fatalf("got %v, want STORAGE", err)
		}
	})
	t.Run("logs that are gone", func(t *testing.T) {
		c, db := openAt(t, filepath.Join(t.TempDir(), "market.db"))
		publish(t, c, newKey(t), release("pack", "1.0.0", "a"))
		id := c.Heads()[0].Publisher
		if err := db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("logs")) }); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Since(id, 0, 1<<20); !errors.Is(err, shared.ReasonStorage) {
			t.Fatalf("got %v, want STORAGE", err)
		}
		if _, _, err := c.Proof(id, 0); !errors.Is(err, shared.ReasonStorage) {
			t.Fatalf("got %v, want STORAGE", err)
		}
	})
}

func TestDamagedHashesAreNotSigned(t *testing.T) {
	c, db := openAt(t, filepath.Join(t.TempDir(), "market.db"))
	key := newKey(t) // without a mark
	for i := range 10 {
		publish(t, c, key, release("pack", fmt.Sprintf("1.%d.0", i), fmt.Sprint(i)))
	}
	id := c.Heads()[0].Publisher
	if err := db.Update(func(tx *bbolt.Tx) error {
		hashes := tx.Bucket([]byte("logs")).Bucket([]byte(id)).Bucket([]byte("hashes"))
		root := []byte{0, 0, 0, 0, 0, 0, 0, byte(tlog.StoredHashIndex(3, 0))} // of the first eight entries
		return hashes.Put(root, make([]byte, tlog.HashSize))
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Publish(key, release("pack", "2.0.0", "a")); !errors.Is(err, shared.ReasonStorage) || !strings.Contains(err.Error(), string(id)) {
		t.Fatalf("got %v, want STORAGE that names the publisher", err)
	}
}

// TestEntriesThatWereNotSigned swaps the entries and their hashes for others that
// fit together, but not under the head.
func TestEntriesThatWereNotSigned(t *testing.T) {
	key := newKey(t)
	_, from := openAt(t, filepath.Join(t.TempDir(), "from.db"))
	_, to := openAt(t, filepath.Join(t.TempDir(), "to.db"))
	var id shared.PublisherID
	for db, content := range map[*bbolt.DB]string{from: "a", to: "b"} {
		c, err := catalog.Open(db)
		if err != nil {
			t.Fatal(err)
		}
		publish(t, c, key, release("pack", "1.0.0", content))
		id = c.Heads()[0].Publisher
	}
	if err := from.View(func(read *bbolt.Tx) error {
		return to.Update(func(write *bbolt.Tx) error {
			for _, name := range []string{"entries", "hashes"} {
				target := write.Bucket([]byte("logs")).Bucket([]byte(id)).Bucket([]byte(name))
				if err := read.Bucket([]byte("logs")).Bucket([]byte(id)).Bucket([]byte(name)).ForEach(target.Put); err != nil {
					return err
				}
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := catalog.Open(to); !errors.Is(err, shared.ReasonStorage) {
		t.Fatalf("got %v, want STORAGE", err)
	}
}

// logOf makes a log of raw entries by other means than the catalogue.
type logOf struct {
	t      testing.TB
	key    *publisher.Keyring
	log    publisher.Log
	hashes memory
}

type memory []tlog.Hash

func (m *memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = (*m)[index]
	}
	return hashes, nil
}

func newLogOf(t testing.TB) *logOf {
	l := &logOf{t: t, key: newKey(t)}
	l.log.Hashes = &l.hashes
	return l
}

func (l *logOf) id() shared.PublisherID { return l.key.ID() }

func (l *logOf) append(entries ...[]byte) publisher.Update {
	l.t.Helper()
	ext, u, err := publisher.Append(l.key, l.log, entries, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	l.hashes = append(l.hashes, ext.Hashes...)
	l.log = ext.Log
	return u
}

// states is a release entry; a version with build metadata is possible, too.
func (l *logOf) states(name, version string) []byte {
	l.t.Helper()
	body := release(name, "9.9.9", version)
	raw, err := publisher.Entry{Kind: publisher.KindRelease, Publisher: l.id(), Time: time.Now().Unix(), Release: &body}.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	return []byte(strings.Replace(string(raw), `"9.9.9"`, `"`+version+`"`, 1))
}

func (l *logOf) yanks(kind publisher.Kind, name, version string) []byte {
	l.t.Helper()
	raw, err := publisher.Entry{Kind: kind, Publisher: l.id(), Time: time.Now().Unix(), Yank: &publisher.Yank{Name: name, Version: version}}.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	return raw
}

func TestEntriesOfNewerVersionsAreKeptAndHaveNoEffect(t *testing.T) {
	l := newLogOf(t)
	future := func(format int, kind string) []byte {
		return fmt.Appendf(nil, `{"v":%d,"kind":%q,"publisher":%q,"time":%d,"release":{"Any":["thing"]}}`, format, kind, l.id(), time.Now().Unix())
	}
	path := filepath.Join(t.TempDir(), "market.db")
	c, db := openAt(t, path)
	for _, u := range []publisher.Update{
		l.append(l.states("pack", "1.0.0")), l.append(future(2, "release")), l.append(future(1, "delegate"), l.states("pack", "1.1.0")),
	} {
		if _, err := c.Apply(u); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if got := c.Lookup("pack"); len(got) != 1 || len(got[0].Releases) != 2 || c.Held(l.id()) != 4 {
			t.Fatalf("got %+v", got)
		}
		other := open(t)
		follow(t, other, c) // they are passed on
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		c, db = openAt(t, path)
	}
}

func TestBuildMetadataMakesNoSecondRelease(t *testing.T) {
	t.Run("it is refused at publish", func(t *testing.T) {
		_, _, err := open(t).Publish(newKey(t), release("pack", "1.0.0+a", "a"))
		if !errors.Is(err, shared.ReasonInvalidManifest) || !strings.Contains(err.Error(), `leave out "+a"`) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("the second one that comes has no effect", func(t *testing.T) {
		l, c := newLogOf(t), open(t)
		change, err := c.Apply(l.append(l.states("pack", "1.0.0+b"), l.states("pack", "1.0.0+a"), l.states("pack", "1.0.0")))
		if err != nil || len(change.Releases) != 1 {
			t.Fatalf("got %+v, %v", change, err)
		}
		if got := c.Lookup("pack")[0].Releases; len(got) != 1 || got[0].Version != "1.0.0+b" {
			t.Fatalf("got %+v", got)
		}
		if r := c.Release("pack", l.id(), "1.0.0"); r == nil || r.Entry != 0 {
			t.Fatalf("got %+v", r)
		}
		if _, _, err := c.Publish(l.key, release("pack", "1.0.0", "else")); !errors.Is(err, shared.ReasonVersionExists) {
			t.Fatalf("got %v, want VERSION_EXISTS", err)
		}
	})
}

func TestProof(t *testing.T) {
	c, key := open(t), newKey(t)
	for i := range 9 {
		publish(t, c, key, release("pack", fmt.Sprintf("1.%d.0", i), fmt.Sprint(i)))
	}
	id := c.Heads()[0].Publisher
	_, head, _ := c.Head(id)
	for i := range int64(9) {
		entry, proof, err := c.Proof(id, i)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, head.Size, head.Hash, i, tlog.RecordHash(entry)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.Proof(id, 9); !errors.Is(err, shared.ReasonNotFound) {
		t.Fatalf("got %v, want NOT_FOUND", err)
	}
}
