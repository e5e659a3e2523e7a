package catalog_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// home is a publisher's folder: its key, its database, and a backup of the latter.
type home struct {
	t      *testing.T
	folder string
	key    *publisher.Keyring
	*catalog.Catalog
	db *bbolt.DB
}

func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{t: t, folder: t.TempDir()}
	h.start()
	return h
}

func (h *home) path(name string) string { return filepath.Join(h.folder, name) }

func (h *home) start() {
	h.t.Helper()
	var err error
	if h.key, err = publisher.OpenKeyring(h.folder); err != nil {
		h.t.Fatal(err)
	}
	h.Catalog, h.db = openAt(h.t, h.path("market.db"))
}

func (h *home) stop() {
	h.t.Helper()
	if err := h.db.Close(); err != nil {
		h.t.Fatal(err)
	}
}

// backup copies a file away, restore copies it back; restoring what was never
// backed up removes the file.
func (h *home) backup(name string) {
	h.t.Helper()
	h.stop()
	h.copy(name, name+".backup")
	h.start()
}

func (h *home) restore(name string) {
	h.t.Helper()
	h.stop()
	h.copy(name+".backup", name)
	h.start()
}

func (h *home) copy(from, to string) {
	h.t.Helper()
	data, err := os.ReadFile(h.path(from))
	if errors.Is(err, os.ErrNotExist) {
		err = os.Remove(h.path(to))
	} else if err == nil {
		err = os.WriteFile(h.path(to), data, 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) publish(version string) {
	h.t.Helper()
	publish(h.t, h.Catalog, h.key, release("pack", version, version))
}

// follow brings to up to date with from, as two peers do.
func follow(t *testing.T, to, from *catalog.Catalog) {
	t.Helper()
	for _, head := range from.Heads() {
		for to.Held(head.Publisher) < head.Size {
			u, err := from.Since(head.Publisher, to.Held(head.Publisher), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := to.Apply(u); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPublisherNeverContradictsItself loses what a user may lose, in every case
// after a peer has seen everything. The peer must never see two logs.
func TestPublisherNeverContradictsItself(t *testing.T) {
	for _, tc := range []struct {
		name          string
		before, after int // releases before and after the backup
	}{
		{"the database is lost after one release", 0, 1},
		{"the database is lost", 0, 5},
		{"the backup lacks one release", 3, 1},
		{"the backup lacks some releases", 3, 4},
		{"the backup is up to date", 3, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, peer := newHome(t), open(t)
			for i := range tc.before {
				h.publish(fmt.Sprintf("1.%d.0", i))
			}
			if tc.before > 0 {
				h.backup("market.db")
			}
			for i := range tc.after {
				h.publish(fmt.Sprintf("2.%d.0", i))
			}
			follow(t, peer, h.Catalog)
			h.restore("market.db")

			_, u, err := h.Publish(h.key, release("pack", "3.0.0", "new"))
			if tc.after > 1 {
				if !errors.Is(err, shared.ReasonStorage) || shared.AsError(err).Hint == "" {
					t.Fatalf("got %v; want STORAGE with a hint", err)
				}
				follow(t, h.Catalog, peer)
				_, u, err = h.Publish(h.key, release("pack", "3.0.0", "new"))
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := peer.Apply(*u); err != nil && !errors.Is(err, publisher.ErrGap) {
				t.Fatalf("the peer says %v", err)
			}
			follow(t, peer, h.Catalog)
			if got := len(peer.Lookup("pack")[0].Releases); got != tc.before+tc.after+1 {
				t.Fatalf("the peer has %d releases", got)
			}
		})
	}
}

func TestCrashBetweenMarkAndStore(t *testing.T) {
	interrupted := func(t *testing.T) *home {
		h := newHome(t)
		h.publish("1.0.0")
		h.backup("market.db")
		h.publish("1.1.0") // never acknowledged: the database forgets it
		h.restore("market.db")
		if len(h.Lookup("pack")[0].Releases) != 1 {
			t.Fatal("not interrupted")
		}
		return h
	}
	t.Run("the same release is published then", func(t *testing.T) {
		h := interrupted(t)
		r, u, err := h.Publish(h.key, release("pack", "1.1.0", "1.1.0"))
		if err != nil || u == nil || r.Entry != 1 || len(u.Entries) != 1 {
			t.Fatalf("got %+v, %+v, %v", r, u, err)
		}
	})
	t.Run("another release comes after it", func(t *testing.T) {
		h := interrupted(t)
		r, u, err := h.Publish(h.key, release("pack", "1.2.0", "x"))
		if err != nil || u == nil || r.Entry != 2 || r.Version != "1.2.0" || len(u.Entries) != 2 {
			t.Fatalf("got %+v, %+v, %v", r, u, err)
		}
		if _, err := u.Verify(time.Now()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("other content for it is refused", func(t *testing.T) {
		h := interrupted(t)
		if _, _, err := h.Publish(h.key, release("pack", "1.1.0", "other")); !errors.Is(err, shared.ReasonVersionExists) {
			t.Fatalf("got %v, want VERSION_EXISTS", err)
		}
	})
	t.Run("crashing again and again loses nothing", func(t *testing.T) {
		h := interrupted(t)
		for i := range 5 {
			h.publish(fmt.Sprintf("2.%d.0", i))
			h.restore("market.db")
		}
		h.publish("3.0.0")
		if got := len(h.Lookup("pack")[0].Releases); got != 8 {
			t.Fatalf("%d releases", got)
		}
	})
}

func TestFailedStoreBurnsNoVersion(t *testing.T) {
	h := newHome(t)
	h.publish("1.0.0")
	before, err := h.key.Mark(h.Heads()[0].Publisher)
	if err != nil {
		t.Fatal(err)
	}
	h.stop()
	// The log can be read and the mark written, and then storing fails.
	db, err := bbolt.Open(h.path("market.db"), 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Publish(h.key, release("pack", "1.1.0", "a"))
	if !errors.Is(err, shared.ReasonStorage) {
		t.Fatalf("got %v, want STORAGE", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	h.start()
	if after, err := h.key.Mark(before.Publisher); err != nil || after.Size != 1 || after.Hash != before.Hash {
		t.Fatalf("the mark is %+v, %v", after, err)
	}
	if r, _, err := h.Publish(h.key, release("pack", "1.1.0", "b")); err != nil || r.Entry != 1 {
		t.Fatalf("got %+v, %v", r, err)
	}
}

func TestPublishNeedsTheWholeLog(t *testing.T) {
	h, peer := newHome(t), open(t)
	for i := range 4 {
		h.publish(fmt.Sprintf("1.%d.0", i))
	}
	follow(t, peer, h.Catalog)
	h.restore("market.db") // there is no backup
	id := peer.Heads()[0].Publisher
	u, err := peer.Since(id, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Apply(u); err != nil || h.Held(id) != 1 {
		t.Fatalf("got %v", err)
	}
	if _, _, err := h.Publish(h.key, release("pack", "2.0.0", "a")); !errors.Is(err, shared.ReasonStorage) {
		t.Fatalf("got %v, want STORAGE", err)
	}
}

func TestAnotherLogThanTheSignedOneIsNotContinued(t *testing.T) {
	h := newHome(t)
	h.publish("1.0.0")
	mark, err := h.key.Mark(h.Heads()[0].Publisher)
	if err != nil {
		t.Fatal(err)
	}
	mark.Hash[0] ^= 1
	if err := h.key.SetMark(mark); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Publish(h.key, release("pack", "1.1.0", "a")); !errors.Is(err, shared.ReasonStorage) {
		t.Fatalf("got %v, want STORAGE", err)
	}
}
