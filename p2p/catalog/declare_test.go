package catalog_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// TestDeclare: what is stated holds here, after a restart, and at whoever gets the
// log whole or entry by entry.
func TestDeclare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "market.db")
	mine, db := openAt(t, path)
	key := newKey(t)
	id := key.ID()
	whole, pieces := open(t), open(t)
	tell := func(u *publisher.Update) {
		t.Helper()
		if u == nil {
			t.Fatal("nothing was stated")
		}
		change, err := pieces.Apply(*u)
		if err != nil || len(change.Packages) != 1 || change.Packages[0] != "app" {
			t.Fatalf("%+v, %v", change, err)
		}
	}
	declare := func(e publisher.Entry) {
		t.Helper()
		size, u, err := mine.Declare(key, e)
		if err != nil {
			t.Fatal(err)
		}
		tell(u)
		if again, u, err := mine.Declare(key, e); err != nil || u != nil || again != size {
			t.Fatalf("again: %d, %v, %v", again, u, err)
		}
	}
	tell(publish(t, mine, key, release("app", "1.0.0", "a")))
	tell(publish(t, mine, key, release("app", "2.0.0", "b")))
	declare(publisher.Entry{Kind: publisher.KindYank, Yank: &publisher.Yank{Name: "app", Version: "2.0.0", Why: "bad"}})
	declare(publisher.Entry{Kind: publisher.KindYank, Yank: &publisher.Yank{Name: "app", Version: "1.0.0"}})
	declare(publisher.Entry{Kind: publisher.KindUnyank, Yank: &publisher.Yank{Name: "app", Version: "1.0.0"}})
	declare(publisher.Entry{Kind: publisher.KindDeprecate, Advice: &publisher.Advice{Name: "app", Why: "old"}})
	declare(publisher.Entry{Kind: publisher.KindDeprecate, Advice: &publisher.Advice{Name: "app", Undo: true}})
	declare(publisher.Entry{Kind: publisher.KindDeprecate, Advice: &publisher.Advice{Name: "app", Successor: "next", Why: "old"}})

	for _, entry := range []publisher.Entry{
		{Kind: publisher.KindYank, Yank: &publisher.Yank{Name: "app", Version: "3.0.0"}},
		{Kind: publisher.KindYank, Yank: &publisher.Yank{Name: "other", Version: "1.0.0"}},
		{Kind: publisher.KindDeprecate, Advice: &publisher.Advice{Name: "other"}},
	} {
		if _, _, err := mine.Declare(key, entry); !errors.Is(err, shared.ReasonNotFound) {
			t.Errorf("%+v: %v", entry, err)
		}
	}
	all, err := mine.Since(id, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := whole.Apply(all); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	reopened, _ := openAt(t, path)
	for name, c := range map[string]*catalog.Catalog{"entry by entry": pieces, "at once": whole, "after a restart": reopened} {
		found := c.Lookup("app")
		if len(found) != 1 {
			t.Fatalf("%s: %+v", name, found)
		}
		app := found[0]
		if app.Newest().Version != "1.0.0" || !app.Releases[0].Yanked || app.Releases[1].Yanked {
			t.Errorf("%s: yanked is %v and %v", name, app.Releases[0].Yanked, app.Releases[1].Yanked)
		}
		if d := app.Deprecation; d == nil || d.Successor != "next" || d.Why != "old" || d.Since.IsZero() {
			t.Errorf("%s: deprecation %+v", name, d)
		}
	}
}

// TestAdviceBeforeTheReleaseHasNoEffect, so that nobody can fill this node's memory
// with advice against packages that are not there.
func TestAdviceBeforeTheReleaseHasNoEffect(t *testing.T) {
	key := newKey(t)
	id, chain := key.ID(), key.Chain()
	var entries [][]byte
	body := release("app", "1.0.0", "a")
	for _, e := range []publisher.Entry{
		{Kind: publisher.KindDeprecate, Advice: &publisher.Advice{Name: "app"}},
		{Kind: publisher.KindRelease, Release: &body},
	} {
		e.Publisher, e.Time = id, 1_700_000_000
		raw, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, raw)
	}
	_, u, err := publisher.Append(key, publisher.Log{Chain: chain}, entries, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := open(t)
	if _, err := c.Apply(u); err != nil {
		t.Fatal(err)
	}
	if found := c.Lookup("app"); len(found) != 1 || found[0].Deprecation != nil {
		t.Fatalf("%+v", found)
	}
}
