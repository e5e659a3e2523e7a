package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
)

// TestForksOfAnySize has a publisher that tells half of the world another log: the
// first two entries are the same ones, everything after differs.
func TestForksOfAnySize(t *testing.T) {
	for _, size := range []int{3, 6, 9} {
		t.Run(fmt.Sprintf("ours 6, theirs %d", size), func(t *testing.T) {
			key := newKey(t)
			ours, theirs := newFork(t, key, 6, "ours"), newFork(t, key, size, "theirs")
			id := ours.Heads()[0].Publisher

			// Whoever has less asks whoever has more.
			victim, other := ours, theirs
			if size < 6 {
				victim, other = theirs, ours
			}
			u, err := other.Since(id, victim.Held(id), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			_, err = victim.Apply(u)
			var forked *publisher.EquivocationError
			if !errors.As(err, &forked) || errors.Is(err, publisher.ErrInvalid) {
				t.Fatalf("got %v, want equivocation", err)
			}
			if got := len(victim.Lookup("pack")[0].Releases); got != min(6, size) {
				t.Fatalf("%d releases are left", got)
			}

			// An announcement of the smaller log convicts as well.
			small, err := victim.Since(id, victim.Held(id), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := other.Apply(small); !errors.As(err, &forked) {
				t.Fatalf("got %v, want equivocation", err)
			}

			// The proof convinces a stranger, who then listens to neither half.
			forks, err := victim.Forks()
			if err != nil || len(forks) != 1 {
				t.Fatalf("got %v, %v", forks, err)
			}
			wire, err := json.Marshal(forks[0])
			if err != nil {
				t.Fatal(err)
			}
			if len(wire) > 4<<10 {
				t.Fatalf("the proof has %d bytes", len(wire))
			}
			var received catalog.Fork
			if err := json.Unmarshal(wire, &received); err != nil {
				t.Fatal(err)
			}
			stranger := open(t)
			if convicted, err := stranger.Convict(received); err != nil || convicted != id {
				t.Fatalf("got %v, %v", convicted, err)
			}
			if _, err := stranger.Convict(received); !errors.Is(err, publisher.ErrStale) {
				t.Fatalf("again: got %v, want ErrStale", err)
			}
			all, err := ours.Since(id, 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stranger.Apply(all); !errors.Is(err, publisher.ErrStale) {
				t.Fatalf("got %v; want ErrStale: who passes it on may not know", err)
			}
		})
	}
}

func newFork(t *testing.T, key *publisher.Keyring, size int, teller string) *catalog.Catalog {
	t.Helper()
	c := open(t)
	l := &logOf{t: t, key: key}
	l.log.Hashes = &l.hashes
	for i := range size {
		name := "common"
		if i >= 2 {
			name = teller
		}
		body := release("pack", fmt.Sprintf("1.%d.0", i), name)
		raw, err := publisher.Entry{Kind: publisher.KindRelease, Publisher: l.id(), Time: 1_700_000_000, Release: &body}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Apply(l.append(raw)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestQuarantineSurvivesReopening(t *testing.T) {
	key := newKey(t)
	theirs := newFork(t, key, 4, "theirs")
	id := theirs.Heads()[0].Publisher
	path := filepath.Join(t.TempDir(), "market.db")
	c, db := openAt(t, path)
	follow(t, c, newFork(t, key, 4, "ours"))
	u, err := theirs.Since(id, 4, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(u); !errors.As(err, new(*publisher.EquivocationError)) {
		t.Fatalf("got %v, want equivocation", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	c, _ = openAt(t, path)
	if why, ok := c.Quarantined(id); !ok || why == "" {
		t.Fatal("forgotten")
	}
	if _, ok := c.Quarantined("nobody"); ok {
		t.Fatal("everybody is quarantined")
	}
}

func TestConvictNeedsAProof(t *testing.T) {
	c := open(t)
	honest := newFork(t, newKey(t), 4, "honest")
	id := honest.Heads()[0].Publisher
	chain, head, _ := honest.Head(id)
	fork := catalog.Fork{
		Roots: chain.Signed(), First: head.Signed, Second: head.Signed, Size: 4,
		FirstTree: publisher.Prefix{Hash: head.Hash}, SecondTree: publisher.Prefix{},
	}
	if _, err := c.Convict(fork); !errors.Is(err, publisher.ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
	if _, ok := c.Quarantined(id); ok {
		t.Fatal("convicted without proof")
	}
}

func FuzzFork(f *testing.F) {
	f.Add([]byte(`{"roots":["e30="],"first":"","second":"","size":-1,"first_tree":{},"second_tree":{"proof":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var fork catalog.Fork
		if json.Unmarshal(data, &fork) != nil {
			return
		}
		if id, err := fork.Verify(); err == nil && !id.Complete() {
			t.Fatal("nobody was convicted")
		}
	})
}
