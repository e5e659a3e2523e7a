package catalog_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// content is everything that a catalogue says, except when it heard of it.
func content(c *catalog.Catalog) map[string]map[shared.PublisherID][]catalog.Release {
	all := map[string]map[shared.PublisherID][]catalog.Release{}
	c.All(func(name string, p catalog.Package) {
		if all[name] == nil {
			all[name] = map[shared.PublisherID][]catalog.Release{}
		}
		for _, r := range p.Releases {
			all[name][p.Publisher] = append(all[name][p.Publisher], catalog.Release{
				Release: r.Release, Publisher: r.Publisher, Entry: r.Entry, PublishedAt: r.PublishedAt, Yanked: r.Yanked,
			})
		}
	})
	return all
}

// TestConverges applies pieces of growing logs, cut anywhere, in any order, some of
// them more than once and some never. In the end, and after a restart, the
// catalogue says the same as one that heard everything in order.
func TestConverges(t *testing.T) {
	keys := []*logOf{newLogOf(t), newLogOf(t)}
	rapid.Check(t, func(rt *rapid.T) {
		folder, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		openFast := func(name string) (*catalog.Catalog, *bbolt.DB) {
			db, err := bbolt.Open(filepath.Join(folder, name), 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
			if err != nil {
				rt.Fatal(err)
			}
			c, err := catalog.Open(db)
			if err != nil {
				rt.Fatal(err)
			}
			return c, db
		}
		source, sourceDB := openFast("source.db")
		target, targetDB := openFast("target.db")
		defer func() { _ = errors.Join(sourceDB.Close(), targetDB.Close(), os.RemoveAll(folder)) }()

		var pieces []publisher.Update
		logs := []*logOf{{t: t, key: keys[0].key}, {t: t, key: keys[1].key}}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			l := logs[rapid.IntRange(0, 1).Draw(rt, "log")]
			l.log.Hashes = &l.hashes
			var entries [][]byte
			for range rapid.IntRange(1, 6).Draw(rt, "entries") {
				name, version := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name"), fmt.Sprintf("1.%d.0", rapid.IntRange(0, 4).Draw(rt, "version"))
				switch rapid.IntRange(0, 5).Draw(rt, "kind") {
				case 0:
					entries = append(entries, l.yanks(publisher.KindYank, name, version))
				case 1:
					entries = append(entries, l.yanks(publisher.KindUnyank, name, version))
				case 2:
					entries = append(entries, l.states(name, version+"+build"))
				default:
					entries = append(entries, l.states(name, version))
				}
			}
			u := l.append(entries...)
			if _, err := source.Apply(u); err != nil {
				rt.Fatal(err)
			}
			pieces = append(pieces, u)
			for range rapid.IntRange(0, 4).Draw(rt, "pieces") {
				from := rapid.Int64Range(0, l.log.Size).Draw(rt, "from")
				piece, err := source.Since(l.id(), from, rapid.IntRange(0, 12_000).Draw(rt, "bytes"))
				if err != nil {
					rt.Fatal(err)
				}
				pieces = append(pieces, piece)
			}
		}
		for range rapid.IntRange(0, 3*len(pieces)).Draw(rt, "applied") {
			piece := rapid.SampledFrom(pieces).Draw(rt, "piece")
			if _, err := target.Apply(piece); err != nil && !errors.Is(err, publisher.ErrStale) && !errors.Is(err, publisher.ErrGap) {
				rt.Fatal(err)
			}
		}
		follow(t, target, source)
		if got, want := content(target), content(source); !reflect.DeepEqual(got, want) {
			rt.Fatalf("got %+v, want %+v", got, want)
		}
		if got, want := target.Heads(), source.Heads(); !reflect.DeepEqual(got, want) {
			rt.Fatalf("heads %v, want %v", got, want)
		}
		again, err := catalog.Open(targetDB)
		if err != nil {
			rt.Fatal(err)
		}
		if got, want := content(again), content(source); !reflect.DeepEqual(got, want) {
			rt.Fatalf("after a restart %+v, want %+v", got, want)
		}
	})
}
