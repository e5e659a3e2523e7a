package p2ptest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

// Seed fills the catalogue of a home that no engine has open with signed logs: each of
// so many publishers has released so many packages, once, with descriptions of about
// 200 bytes. The content of the packages exists nowhere.
func Seed(tb testing.TB, home string, publishers, packages int) {
	tb.Helper()
	if err := os.MkdirAll(home, 0o700); err != nil {
		tb.Fatal(err)
	}
	db, err := store.OpenDB(filepath.Join(home, "market.db"))
	if err != nil {
		tb.Fatal(err)
	}
	c, err := catalog.Open(db)
	if err != nil {
		tb.Fatal(err)
	}
	for p := range publishers {
		if _, err := c.Apply(seedLog(tb, p, packages)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
}

// noHashes is the tree of a log that has no entries yet.
type noHashes struct{}

// ReadHashes implements tlog.HashReader.
func (noHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	if len(indexes) > 0 {
		return nil, fmt.Errorf("an empty log has no hashes %v", indexes)
	}
	return nil, nil
}

func seedLog(tb testing.TB, p, packages int) publisher.Update {
	tb.Helper()
	key, err := publisher.GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	ring, err := publisher.NewKeyring(key)
	if err != nil {
		tb.Fatal(err)
	}
	entries := make([][]byte, packages)
	for i := range entries {
		name := fmt.Sprintf("seed-%d-%d", p, i)
		content := shared.DigestOf([]byte(name))
		rel := publisher.Release{
			Name: name, Version: "1.0.0", Title: fmt.Sprintf("Package %d of publisher %d", i, p),
			Description: fmt.Sprintf("Templates and queries number %d for the services of team %d: handlers, routes, migrations, "+
				"typed clients and their tests, with an ontology of entity %d and its relations.", i, p, (i*7919+p)%5000),
			Keywords: []string{"rest", "service", fmt.Sprint("team", p%97)}, Category: "backend", License: "MIT",
			Files: 12, Archive: publisher.Content{Digest: content, Size: 30 << 10}, Index: publisher.Content{Digest: content, Size: 900},
		}
		raw, err := publisher.Entry{Kind: publisher.KindRelease, Publisher: ring.ID(), Time: time.Now().Unix(), Release: &rel}.Encode()
		if err != nil {
			tb.Fatal(err)
		}
		entries[i] = raw
	}
	_, update, err := publisher.Append(ring, publisher.Log{Hashes: noHashes{}}, entries, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return update
}
