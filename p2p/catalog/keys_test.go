package catalog_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// rotated makes the keyring go over to a new key, keeping what of the log it is told,
// and says nothing to the catalogue.
func rotated(t *testing.T, c *catalog.Catalog, ring *publisher.Keyring, keep int64, recovery *publisher.Key) {
	t.Helper()
	fresh, err := publisher.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	chain := ring.Chain()
	stands, err := c.KeepAt(chain.ID, keep)
	if err != nil {
		t.Fatal(err)
	}
	root := chain.Current()
	root.Version, root.Keys, root.Keep, root.Recovers = root.Version+1, [][]byte{fresh.Public()}, &stands, recovery != nil
	signers := append(ring.Keys(), fresh)
	if recovery != nil {
		signers = []*publisher.Key{recovery, fresh}
	}
	signed, err := publisher.SignRoot(root, signers...)
	if err != nil {
		t.Fatal(err)
	}
	next, err := publisher.ParseChain(append(slices.Clone(chain.Signed()), signed))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ring.Add(fresh), ring.SetChain(next)); err != nil {
		t.Fatal(err)
	}
}

func renew(t *testing.T, c *catalog.Catalog, ring *publisher.Keyring) *publisher.Update {
	t.Helper()
	u, err := c.Renew(ring)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func texts(t *testing.T, c *catalog.Catalog, id shared.PublisherID) (texts []string) {
	t.Helper()
	lines, err := c.Lines(id, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		texts = append(texts, l.Text)
	}
	return texts
}

// TestACrashBetweenKeysAndLog: the new keys are on disk and the log has not heard of
// them. Whatever signs next says so first.
func TestACrashBetweenKeysAndLog(t *testing.T) {
	for name, next := range map[string]func(h *home){
		"the next start": func(h *home) {
			if u := renew(t, h.Catalog, h.key); u == nil {
				t.Error("nothing was made up for")
			}
			if u := renew(t, h.Catalog, h.key); u != nil {
				t.Error("it was made up for twice")
			}
		},
		"the next release": func(h *home) { publish(t, h.Catalog, h.key, release("pack", "2.0.0", "b")) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			publish(t, h.Catalog, h.key, release("pack", "1.0.0", "a"))
			rotated(t, h.Catalog, h.key, 1, nil)
			h.stop()
			h.start()
			next(h)
			if got := texts(t, h.Catalog, h.key.ID()); got[1] != "root document 2" {
				t.Fatalf("the log says %q", got)
			}
			h.stop()
			h.start() // it still verifies
			if chain, head, ok := h.Head(h.key.ID()); !ok || len(chain.Roots) != 2 || head.Size < 2 {
				t.Fatalf("%d root documents, %d entries", len(chain.Roots), head.Size)
			}
		})
	}
}

// TestARecoverySurvivesACrash at its worst moment, and gives the same log to everybody
// who holds whatever of the old one.
func TestARecoverySurvivesACrash(t *testing.T) {
	recovery, err := publisher.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(t)
	root := h.key.Chain().Current()
	root.Recovery = publisher.RecoveryHash(recovery.Public())
	signed, err := publisher.SignRoot(root, h.key.Keys()...)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := publisher.ParseChain([][]byte{signed})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.key.SetChain(chain); err != nil {
		t.Fatal(err)
	}
	var updates []*publisher.Update
	for _, version := range []string{"1.0.0", "1.1.0", "6.6.6"} {
		updates = append(updates, publish(t, h.Catalog, h.key, release("pack", version, version)))
	}
	id := h.key.ID()
	rotated(t, h.Catalog, h.key, 2, recovery)
	h.stop()
	h.start()
	u := renew(t, h.Catalog, h.key)
	if got := texts(t, h.Catalog, id); !slices.Equal(got, []string{"release pack@1.0.0", "release pack@1.1.0", "root document 2"}) {
		t.Fatalf("the log says %q", got)
	}
	if h.Release("pack", id, "6.6.6") != nil {
		t.Error("what is void is still there")
	}
	publish(t, h.Catalog, h.key, release("pack", "1.2.0", "c"))
	whole, err := h.Since(id, 0, publisher.MaxUpdateSize)
	if err != nil {
		t.Fatal(err)
	}
	for known := range len(updates) + 1 {
		other, db := openAt(t, t.TempDir()+"/market.db")
		for _, u := range updates[:known] {
			if _, err := other.Apply(*u); err != nil {
				t.Fatal(err)
			}
		}
		if known == 3 { // the announcement alone: what is void goes before the rest comes
			if change, err := other.Apply(*u); err != nil || !slices.Equal(change.Packages, []string{"pack"}) {
				t.Errorf("%+v, %v", change, err)
			}
		}
		if _, err := other.Apply(whole); err != nil {
			t.Errorf("a peer that holds %d: %v", known, err)
		}
		if other.Release("pack", id, "6.6.6") != nil || other.Release("pack", id, "1.2.0") == nil {
			t.Errorf("a peer that holds %d has not followed", known)
		}
		if _, err := catalog.Open(db); err != nil {
			t.Errorf("a peer that holds %d cannot read it again: %v", known, err)
		}
		for _, u := range updates {
			if _, err := other.Apply(*u); !errors.Is(err, publisher.ErrStale) {
				t.Errorf("a peer that holds %d took the old log back: %v", known, err)
			}
		}
	}
}

// TestBeacons: the head of a publisher that says nothing is renewed before it looks
// stale, and not more often.
func TestBeacons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, other, key := open(t), open(t), newKey(t)
		if u := renew(t, c, key); u != nil {
			t.Fatal("a beacon of a log that nothing is in")
		}
		tell := func(u *publisher.Update) {
			t.Helper()
			if _, err := other.Apply(*u); err != nil {
				t.Fatal(err)
			}
		}
		tell(publish(t, c, key, release("pack", "1.0.0", "a")))
		for range 3 {
			<-time.After(publisher.HeadLifetime / 2) // virtual time
			if u := renew(t, c, key); u != nil {
				t.Fatal("a beacon too early")
			}
			<-time.After(2 * time.Second)
			u := renew(t, c, key)
			if u == nil || len(u.Entries) != 0 {
				t.Fatalf("got %+v, want a head alone", u)
			}
			tell(u)
			if _, head, _ := other.Head(key.ID()); head.Size != 1 || time.Since(head.Time) > time.Second {
				t.Fatalf("the other peer has the head of %s", head.Time)
			}
		}
	})
}
