package catalog_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

func openAt(t testing.TB, path string) (*catalog.Catalog, *bbolt.DB) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	c, err := catalog.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	return c, db
}

func open(t testing.TB) *catalog.Catalog {
	t.Helper()
	c, _ := openAt(t, filepath.Join(t.TempDir(), "market.db"))
	return c
}

func newKey(t testing.TB) *publisher.Keyring {
	t.Helper()
	key, err := publisher.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := publisher.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func release(name, version, content string) publisher.Release {
	return publisher.Release{
		Name: name, Version: version, Files: 1,
		Archive: publisher.Content{Digest: shared.DigestOf([]byte(content)), Size: int64(len(content))},
		Index:   publisher.Content{Digest: shared.DigestOf([]byte(content + "index")), Size: 100},
	}
}

func publish(t testing.TB, c *catalog.Catalog, key *publisher.Keyring, body publisher.Release) *publisher.Update {
	t.Helper()
	_, u, err := c.Publish(key, body)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestPublish(t *testing.T) {
	c, key := open(t), newKey(t)
	publish(t, c, key, release("pack", "1.0.0", "a"))
	t.Run("identical content is there already", func(t *testing.T) {
		r, u, err := c.Publish(key, release("pack", "1.0.0", "a"))
		if err != nil || u != nil || r.Entry != 0 {
			t.Fatalf("got %+v, %v, %v", r, u, err)
		}
	})
	t.Run("other content of a version is refused", func(t *testing.T) {
		if _, _, err := c.Publish(key, release("pack", "1.0.0", "b")); !errors.Is(err, shared.ReasonVersionExists) {
			t.Fatalf("got %v, want VERSION_EXISTS", err)
		}
	})
	t.Run("of two that conflict at once one wins", func(t *testing.T) {
		errs := make([]error, 2)
		var group sync.WaitGroup
		for i := range errs {
			group.Go(func() { _, _, errs[i] = c.Publish(key, release("pack", "2.0.0", fmt.Sprint(i))) })
		}
		group.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), shared.ReasonVersionExists) {
			t.Fatalf("got %v", errs)
		}
	})
}

func TestSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "market.db")
	c, db := openAt(t, path)
	key := newKey(t)
	publish(t, c, key, release("pack", "1.0.0", "a"))
	publish(t, c, key, release("pack", "1.1.0", "b"))
	heads := c.Heads()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	c, _ = openAt(t, path)
	if got := c.Heads(); len(got) != 1 || got[0] != heads[0] {
		t.Fatalf("heads %v, want %v", got, heads)
	}
	if p := c.Lookup("pack"); len(p) != 1 || len(p[0].Releases) != 2 || p[0].Newest().Version != "1.1.0" {
		t.Fatalf("lookup: %+v", p)
	}
}

// TestPagedSync moves a log in wire form, page by page, restarting from what the
// receiver holds.
func TestPagedSync(t *testing.T) {
	from, to, key := open(t), open(t), newKey(t)
	for i := range 200 {
		publish(t, from, key, release("pack", fmt.Sprintf("1.%d.0", i), fmt.Sprint(i)))
	}
	id := from.Heads()[0].Publisher
	for pages := 0; to.Held(id) < 200; pages++ {
		if pages > 200 {
			t.Fatal("no progress")
		}
		u, err := from.Since(id, to.Held(id), 20<<10)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := publisher.ParseUpdate(u.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Apply(parsed); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := from.Heads(), to.Heads(); len(b) != 1 || a[0] != b[0] {
		t.Fatalf("heads %v and %v", a, b)
	}
}

func TestEquivocationQuarantines(t *testing.T) {
	honest, liar, victim, key := open(t), open(t), open(t), newKey(t)
	a := publish(t, honest, key, release("pack", "1.0.0", "a"))
	b := publish(t, liar, key, release("pack", "1.0.0", "b"))
	if _, err := victim.Apply(*a); err != nil {
		t.Fatal(err)
	}
	var forked *publisher.EquivocationError
	if _, err := victim.Apply(*b); !errors.As(err, &forked) {
		t.Fatalf("got %v, want equivocation", err)
	}
	forks, err := victim.Forks()
	if err != nil || len(forks) != 1 {
		t.Fatalf("got %v, %v", forks, err)
	}
	if id, err := forks[0].Verify(); err != nil || id != victim.Lookup("pack")[0].Publisher {
		t.Fatalf("the proof does not convict: %v, %v", id, err)
	}
	if _, err := victim.Apply(*publish(t, honest, key, release("pack", "1.1.0", "c"))); err == nil {
		t.Fatal("a quarantined publisher was heard")
	}
}
