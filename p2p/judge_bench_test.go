package p2p

import (
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/gossip"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// BenchmarkJudge is the gossip validator with the announcement of a release: by a
// publisher that is known, and by one that is not.
func BenchmarkJudge(b *testing.B) {
	e, err := Open(b.Context(), Config{Home: b.TempDir(), Version: "0.1.0", Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "market.db"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	theirs, err := catalog.Open(db)
	if err != nil {
		b.Fatal(err)
	}
	ring, err := publisher.OpenKeyring(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	states := func(version string) publisher.Update {
		content := publisher.Content{Digest: shared.DigestOf([]byte(version)), Size: 30_000}
		_, u, err := theirs.Publish(ring, publisher.Release{
			Name: "pack", Version: version, Title: "A pack of templates", Description: "Templates for services, with queries over an ontology of entities and relations",
			Authors: []string{"Ada"}, License: "MIT", Category: "backend", Tags: []string{"templates", "services"}, Files: 12, Archive: content, Index: content,
		})
		if err != nil {
			b.Fatal(err)
		}
		return *u
	}
	first, second := states("1.0.0"), states("1.1.0").Marshal()
	for _, publisher := range []string{"unknown", "known"} {
		b.Run(publisher, func(b *testing.B) {
			if publisher == "known" {
				if _, err := e.apply(first); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if e.judge(b.Context(), "somebody", second) != gossip.Accept {
					b.Fatal("not accepted")
				}
			}
		})
	}
}
