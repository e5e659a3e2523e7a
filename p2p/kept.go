package p2p

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/p2p/cache"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/manifest"
	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

// This file decides what of other people's packages stays on this disk. What this node has
// published, what a user has pinned and what is installed here stays; of the rest, what
// was wanted lately does, as far as there is room.

// DefaultCacheSize is how many bytes are kept of packages that may go.
const DefaultCacheSize = 2 << 30

// CacheConfig bounds what is remembered and kept. The zero value has the defaults of
// package cache and [DefaultCacheSize].
type CacheConfig struct {
	Hot, Warm cache.Limits
	// Size bounds the content of packages that are neither pinned, installed nor published
	// here, in bytes, and Lifetime how long it is kept after it was wanted last, by whoever.
	Size     int64
	Lifetime time.Duration
}

const (
	// tidyEvery is how often it is looked for what has become too old.
	tidyEvery = time.Hour

	// tidyAgain is how long to wait while something is being installed.
	tidyAgain = time.Minute
)

// The buckets of the database.
var (
	pinnedBucket = []byte("kept")   // by publisher/name@version: pinnedPackage
	placedBucket = []byte("placed") // by folder: placedPackage, what was installed there
)

// contents are the blobs of one release.
type contents struct {
	Archive shared.Digest `json:"archive"`
	Index   shared.Digest `json:"index"`
}

func contentsOf(rel *catalog.Release) contents { return contents{rel.Archive.Digest, rel.Index.Digest} }

// pinnedPackage is a package that a user wants to keep, with what it depends on.
type pinnedPackage struct {
	Name      string             `json:"name"`
	Publisher shared.PublisherID `json:"publisher"`
	Version   string             `json:"version"`
	Since     time.Time          `json:"since"`
	Contents  []contents         `json:"contents"`
}

func (p pinnedPackage) key() []byte {
	return []byte(string(p.Publisher) + "/" + p.Name + "@" + p.Version)
}

// indexes is the cache of the lists of files: it costs a question to peers to get one,
// and time to verify and parse it. It is safe because the key is the digest of the list.
type indexes = cache.Cache[heldIndex]

// heldIndex is a list of files with the bytes that it was parsed from.
type heldIndex struct {
	*archive.Index
	data []byte
}

func (e *Engine) newIndexes() *indexes {
	return cache.New(cache.Config[heldIndex]{
		Hot: e.cfg.Cache.Hot, Warm: e.cfg.Cache.Warm, Cold: indexFiles{e.store}, ColdFor: forever,
		Encode: func(ix heldIndex) []byte { return ix.data },
		Decode: func(key string, data []byte) (heldIndex, error) {
			if shared.DigestOf(data) != shared.Digest(key) {
				return heldIndex{}, shared.NewError(shared.ReasonIntegrity, "the list of files %s is damaged", key)
			}
			ix, err := archive.ParseIndex(data, archive.DefaultLimits())
			return heldIndex{ix, data}, err
		},
	})
}

// manifests is the cache of the manifests of packages that are held here, by the digest of the
// package: below it are only the package's bytes, which are read and verified again. It is safe
// because the key determines the manifest; a package that was removed is not asked for its own.
type manifests = cache.Cache[parsedManifest]

// parsedManifest is a manifest with the bytes that it was parsed from.
type parsedManifest struct {
	*manifest.Manifest
	data []byte
}

func (e *Engine) newManifests() *manifests {
	return cache.New(cache.Config[parsedManifest]{
		Hot: e.cfg.Cache.Hot, Warm: e.cfg.Cache.Warm, Missing: -1,
		Encode: func(m parsedManifest) []byte { return m.data },
	})
}

// forever is how long an index is good for: the sweep of the store ends its life.
const forever = 1 << 62 * time.Nanosecond

// indexFiles are the indexes in the store, the cold tier of [indexes].
type indexFiles struct{ store *store.Store }

// Read implements [cache.Disk].
func (f indexFiles) Read(key string) ([]byte, time.Time, bool) {
	blob, err := f.store.Open(shared.Digest(key))
	if err != nil {
		return nil, time.Time{}, false
	}
	defer func() { _ = blob.Close() }() // only read
	data, err := io.ReadAll(io.NewSectionReader(blob, 0, min(blob.Size(), archive.MaxIndexSize+1)))
	return data, time.Now(), err == nil
}

// Write implements [cache.Disk]: who fetched an index has put it into the store, which
// could have failed.
func (f indexFiles) Write(string, []byte) {}

// Drop implements [cache.Disk].
func (f indexFiles) Drop(key string) {
	_ = f.store.Delete(shared.Digest(key)) // it is found damaged again
}

// keepTidy removes what is too much or too old, now and then and when something was added.
func (e *Engine) keepTidy(ctx context.Context) {
	next := time.NewTimer(tidyAgain)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.added:
		case <-next.C:
		}
		pause := tidyEvery
		removed, done, err := e.tidy(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			e.log.Warn("remove what nobody has wanted for long", "error", err)
		case !done:
			pause = tidyAgain
		case len(removed) > 0:
			e.log.Info("removed what nobody has wanted for long", "blobs", len(removed))
		}
		next.Reset(pause)
	}
}

// hasAdded asks for a sweep.
func (e *Engine) hasAdded() {
	select {
	case e.added <- struct{}{}:
	default: // one is asked for already
	}
}

// tidy does one sweep, unless content is in use that nothing names yet.
func (e *Engine) tidy(ctx context.Context) (removed []store.Held, done bool, err error) {
	if !e.adding.TryLock() {
		return nil, false, nil
	}
	defer e.adding.Unlock()
	keep, err := e.kept()
	if err != nil {
		return nil, false, err
	}
	size, lifetime := e.cfg.Cache.bounds()
	removed, err = e.store.Evict(ctx, store.Policy{Bytes: size, Before: e.now().Add(-lifetime), Keep: keep.has})
	return removed, true, err
}

// why content is kept.
type why byte

const (
	published why = 1 << iota
	pinned
	installed
)

// keeping is what must stay, and why.
type keeping map[shared.Digest]why

func (k keeping) has(d shared.Digest) bool { return k[d] != 0 }

func (k keeping) add(c contents, because why) {
	k[c.Archive] |= because
	k[c.Index] |= because
}

// kept lists what must stay. What is installed is asked of the disk: a folder that was
// removed needs nothing any more.
func (e *Engine) kept() (keeping, error) {
	keep := keeping{}
	own := e.ring.ID()
	e.catalog.All(func(_ string, pkg catalog.Package) {
		if pkg.Publisher == own {
			for _, rel := range pkg.Releases {
				keep.add(contentsOf(rel), published)
			}
		}
	})
	err := e.db.View(func(tx *bbolt.Tx) error {
		err := each(tx.Bucket(pinnedBucket), func(_ string, p pinnedPackage) {
			for _, c := range p.Contents {
				keep.add(c, pinned)
			}
		})
		return errors.Join(err, each(tx.Bucket(placedBucket), func(folder string, c contents) {
			if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
				keep.add(c, installed)
			}
		}))
	})
	return keep, err
}

// each visits what is in a bucket. What cannot be read keeps nothing.
func each[T any](bucket *bbolt.Bucket, visit func(key string, value T)) error {
	if bucket == nil {
		return nil
	}
	return bucket.ForEach(func(key, data []byte) error {
		var value T
		if json.Unmarshal(data, &value) == nil {
			visit(string(key), value)
		}
		return nil
	})
}

// putJSON writes one value of a bucket.
func putJSON(tx *bbolt.Tx, bucket, key []byte, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists(bucket)
	if err != nil {
		return err
	}
	return b.Put(key, data)
}

// hasPlaced remembers what was installed where, and forgets folders that are gone.
func (e *Engine) hasPlaced(steps []*step) error {
	return e.db.Update(func(tx *bbolt.Tx) error {
		for _, s := range steps {
			if err := putJSON(tx, placedBucket, []byte(s.dest), contentsOf(s.release)); err != nil {
				return err
			}
		}
		var gone []string
		bucket := tx.Bucket(placedBucket)
		if err := each(bucket, func(folder string, _ contents) {
			if _, err := os.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
				gone = append(gone, folder)
			}
		}); err != nil {
			return err
		}
		for _, folder := range gone {
			if err := bucket.Delete([]byte(folder)); err != nil {
				return err
			}
		}
		return nil
	})
}
