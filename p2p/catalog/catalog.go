// Package catalog keeps the logs of all publishers that this node has heard of:
// verified, on disk, and in memory by package name. [Catalog.Apply] is the only
// way in for what others say, [Catalog.Publish] for what the user of this node
// says; both verify first and store in one transaction, so a crash at any moment
// leaves a consistent catalogue that lacks at most what was not acknowledged.
//
// It does not rank (package search does), choose versions (package resolve) or
// talk to anybody (packages gossip and replicate do).
package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"
	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// MaxPublishers bounds the logs that strangers can make this node keep. An
// idle log costs about 2 KB.
const MaxPublishers = 100_000

// Release is a release as this node knows it.
type Release struct {
	publisher.Release
	Publisher   shared.PublisherID
	Entry       int64     // position in the publisher's log
	PublishedAt time.Time // the publisher's clock
	FirstSeen   time.Time // ours: what a cool-down counts from
	Yanked      bool

	version *semver.Version
}

// Semver is the parsed version.
func (r *Release) Semver() *semver.Version { return r.version }

// Package is one publisher's package of a name, newest release first; it has at
// least one release.
type Package struct {
	Publisher   shared.PublisherID
	Releases    []*Release
	Deprecation *shared.Deprecation // nil: none; not to be changed
}

// Newest is the release that a bare name means: the newest stable one that is
// not yanked, else the newest that is not yanked, else the newest.
func (p Package) Newest() *Release {
	best := p.Releases[0]
	for _, fits := range []func(*Release) bool{
		func(r *Release) bool { return !r.Yanked && r.version.Prerelease() == "" },
		func(r *Release) bool { return !r.Yanked },
	} {
		if i := slices.IndexFunc(p.Releases, fits); i >= 0 {
			return p.Releases[i]
		}
	}
	return best
}

// HeadRef says how far a log is known.
type HeadRef struct {
	Publisher shared.PublisherID
	Size      int64
	Hash      tlog.Hash
}

// DB is the database. Its transactions work as bbolt's do, and must answer damage
// that they meet with an error; both end when the function that they run returns.
type DB interface {
	View(read func(*bbolt.Tx) error) error
	Update(write func(*bbolt.Tx) error) error
	Path() string
}

// Catalog is safe for concurrent use. Reading never waits for the disk.
type Catalog struct {
	db    DB
	clock func() time.Time

	writing sync.Mutex // held from verification to the end of the transaction

	mu       sync.RWMutex // guards the fields below; never held during I/O
	logs     map[shared.PublisherID]publisher.Log
	packages map[string]map[shared.PublisherID][]*Release
	advice   map[string]map[shared.PublisherID]*shared.Deprecation
	others   map[string]map[shared.PublisherID][]int64 // places of what is no release
	pins     map[string]Pin
	accused  map[shared.PublisherID]string
	refused  map[shared.PublisherID]HeadRef // see Refused
	releases int
}

// Open reads the catalogue in db; the database stays the caller's. Errors:
// STORAGE when the database is damaged.
func Open(db DB) (*Catalog, error) {
	return OpenOnly(db, func(shared.PublisherID) bool { return true })
}

// OpenOnly is [Open] for a node that keeps to some logs, those of the publishers that
// mine says yes to: the others stay on disk as they are, and must not be extended.
func OpenOnly(db DB, mine func(shared.PublisherID) bool) (*Catalog, error) {
	c := &Catalog{
		db: db, clock: time.Now,
		logs:     map[shared.PublisherID]publisher.Log{},
		packages: map[string]map[shared.PublisherID][]*Release{},
		advice:   map[string]map[shared.PublisherID]*shared.Deprecation{},
		others:   map[string]map[shared.PublisherID][]int64{},
		pins:     map[string]Pin{},
		accused:  map[shared.PublisherID]string{},
		refused:  map[shared.PublisherID]HeadRef{},
	}
	if err := c.load(mine); err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "read the catalogue in %s: %w", db.Path(), err).
			WithHint("move the file away: the catalogue comes back from other peers, pins do not")
	}
	return c, nil
}

// Change is what an update brought.
type Change struct {
	Publisher shared.PublisherID
	Releases  []*Release // new ones, in the log's order
	Packages  []string   // names of those that something was said about, sorted
	Complete  bool       // nothing is missing under the newest head
}

// Apply verifies an update and stores what it adds. Where it changes the publisher's
// keys, what they make void (see [publisher.Root]) goes at once, even if the result is
// ErrGap: the Change then says for which packages that matters. Errors: publisher.ErrInvalid,
// ErrStale, ErrGap, a *publisher.EquivocationError (the publisher is then
// quarantined: what was verified stays, everything more is ErrStale),
// LIMIT_EXCEEDED, STORAGE, or STORAGE_FULL. Only ErrInvalid is the sender's fault.
func (c *Catalog) Apply(u publisher.Update) (Change, error) {
	chain, err := c.Chain(u.Roots)
	if err != nil {
		return Change{}, err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	old, why, count := c.log(chain.ID)
	lift := false
	if why != "" {
		if lift, err = c.forgiven(chain); err != nil {
			return Change{}, err
		}
		if !lift {
			c.refuse(chain, u)
			return Change{}, fmt.Errorf("%w: publisher %s is quarantined: %s", publisher.ErrStale, chain.ID.Short(), why)
		}
	}
	if old.Chain.ID == "" && count >= MaxPublishers {
		return Change{}, shared.NewError(shared.ReasonLimitExceeded, "%d publishers are known; that is the limit", MaxPublishers)
	}
	base, ext, err := c.extend(old, chain, u)
	cut := lift || base.Size < old.Size
	var forked *publisher.EquivocationError
	switch {
	case errors.As(err, &forked):
		if len(old.Chain.Roots) > len(chain.Roots) {
			chain = old.Chain // the sender had not heard of newer keys
		}
		return Change{}, errors.Join(err, c.quarantine(chain, forked))
	case errors.Is(err, publisher.ErrGap) && cut:
		change, cutErr := c.cut(old, base, u)
		return change, errors.Join(err, cutErr)
	case errors.Is(err, publisher.ErrStale):
		c.refuse(chain, u)
		return Change{}, err
	case err != nil:
		return Change{}, err
	}
	added, touched, err := c.store(base, ext, cut, nothing)
	if err != nil {
		return Change{}, err
	}
	return Change{Publisher: chain.ID, Releases: added, Packages: touched, Complete: ext.Log.Complete()}, nil
}

// Chain verifies a chain of root documents, which is quick if it is held already. Errors:
// publisher.ErrInvalid, ErrStale.
func (c *Catalog) Chain(signed [][]byte) (publisher.Chain, error) {
	return publisher.RecallChain(signed, func(id shared.PublisherID) publisher.Chain {
		c.mu.RLock()
		defer c.mu.RUnlock()
		return c.logs[id].Chain
	})
}

func (c *Catalog) log(id shared.PublisherID) (l publisher.Log, quarantined string, count int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	l, ok := c.logs[id]
	if !ok {
		l.Hashes = &storedHashes{c.db, id}
	}
	return l, c.accused[id], len(c.logs)
}

// Lookup lists the publishers that have a package of this name, by ID.
func (c *Catalog) Lookup(name string) []Package {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found := make([]Package, 0, len(c.packages[name]))
	for id, releases := range c.packages[name] {
		found = append(found, Package{Publisher: id, Releases: releases, Deprecation: c.advice[name][id]})
	}
	slices.SortFunc(found, func(a, b Package) int { return cmp.Compare(a.Publisher, b.Publisher) })
	return found
}

// Release finds one release, or nil. Versions that differ in build metadata alone
// are one release: the one that was stated first.
func (c *Catalog) Release(name string, id shared.PublisherID, version string) *Release {
	c.mu.RLock()
	defer c.mu.RUnlock()
	releases := c.packages[name][id]
	if i := position(releases, version); i >= 0 {
		return releases[i]
	}
	return nil
}

// position finds a version among releases that are sorted, newest first.
func position(releases []*Release, version string) int {
	wanted, err := semver.StrictNewVersion(version)
	if err != nil {
		return -1
	}
	i, found := slices.BinarySearchFunc(releases, wanted, func(r *Release, v *semver.Version) int { return v.Compare(r.version) })
	if !found {
		return -1
	}
	return i
}

// All visits every package, in no order. visit must not call the catalogue.
func (c *Catalog) All(visit func(name string, p Package)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for name, publishers := range c.packages {
		for id, releases := range publishers {
			visit(name, Package{Publisher: id, Releases: releases, Deprecation: c.advice[name][id]})
		}
	}
}

// Names lists the packages of a publisher, in no order.
func (c *Catalog) Names(id shared.PublisherID) (names []string) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for name, publishers := range c.packages {
		if publishers[id] != nil {
			names = append(names, name)
		}
	}
	return names
}

// Count says how many publishers and releases are known.
func (c *Catalog) Count() (publishers, releases int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.logs), c.releases
}

// Extent says how many log entries are held, and when the newest head was signed.
func (c *Catalog) Extent() (entries int64, newest time.Time) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, l := range c.logs {
		entries += l.Size
		if l.Head.Time.After(newest) {
			newest = l.Head.Time
		}
	}
	return entries, newest
}

// Heads lists the logs that are completely held, by publisher.
func (c *Catalog) Heads() []HeadRef {
	c.mu.RLock()
	heads := make([]HeadRef, 0, len(c.logs))
	for id, l := range c.logs {
		if l.Complete() {
			heads = append(heads, HeadRef{Publisher: id, Size: l.Size, Hash: l.Head.Hash})
		}
	}
	c.mu.RUnlock()
	slices.SortFunc(heads, func(a, b HeadRef) int { return cmp.Compare(a.Publisher, b.Publisher) })
	return heads
}

// Head is the newest verified head of a publisher and the chain that signs it;
// ok is false when the publisher is not known.
func (c *Catalog) Head(id shared.PublisherID) (chain publisher.Chain, head publisher.Head, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	l, ok := c.logs[id]
	return l.Chain, l.Head, ok
}

// Held says how many entries of a publisher's log are here.
func (c *Catalog) Held(id shared.PublisherID) int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.logs[id].Size
}
