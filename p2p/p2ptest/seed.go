package p2ptest

import (
	"errors"
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
	if err := SeedHome(home, publishers, packages); err != nil {
		tb.Fatalf("seed %s: %v", home, err)
	}
}

// SeedHome is [Seed] for programs.
func SeedHome(home string, publishers, packages int) (err error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	db, err := store.OpenDB(filepath.Join(home, "market.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	c, err := catalog.Open(db)
	if err != nil {
		return err
	}
	for p := range publishers {
		update, err := seedLog(p, packages)
		if err != nil {
			return err
		}
		if _, err := c.Apply(update); err != nil {
			return err
		}
	}
	return nil
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

func seedLog(p, packages int) (publisher.Update, error) {
	key, err := publisher.GenerateKey()
	if err != nil {
		return publisher.Update{}, err
	}
	ring, err := publisher.NewKeyring(key)
	if err != nil {
		return publisher.Update{}, err
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
			return publisher.Update{}, err
		}
		entries[i] = raw
	}
	_, update, err := publisher.Append(ring, publisher.Log{Hashes: noHashes{}}, entries, time.Now())
	return update, err
}
