// Package popularity estimates how many peers hold a package, without a server that
// could count: from the provider records that lookups in the DHT have found, of the
// packages that this peer's user has to do with. It also remembers some of the holders
// by name.
//
// Nothing vouches for a provider record, so one lookup counts few peers of one block of
// addresses and not many in all ([Count]); no lookup alone decides, and all of them fade
// ([Book]). A lookup tells others what somebody here is interested in, so there are few,
// one after the other, and never again within a day ([Survey]).
//
// It is not a count of downloads, and no reason to trust a package: whoever has hundreds
// of networks can still appear to be [MaxHolders] peers, and so can a peer that keeps the
// records and makes some up. It asks nobody itself; how to
// look up providers is for others to know (package routing), and how much their number
// is worth as well (package search).
package popularity

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/shared"
)

const (
	// MaxPackages bounds the book, which then takes 9 MB at most; the package that was
	// heard of longest ago gives way.
	MaxPackages = 20_000

	// HalfLife is how fast an observation fades: a day's change is worth a tenth of a
	// figure, and a burst of a day is nearly gone after a month.
	HalfLife = 7 * 24 * time.Hour

	// FreshFor is how long an observation need not be repeated.
	FreshFor = 24 * time.Hour

	// forgetAfter is when an observation is no longer worth anything: by then even
	// [MaxHolders] peers have faded to less than one.
	forgetAfter = 8 * HalfLife

	// maxKnown is how many holders of a package are remembered by name. Whether there
	// is a good one among them does not need all.
	maxKnown = 4
)

// Package tells packages apart.
type Package struct {
	Name      string
	Publisher shared.PublisherID
}

// DB is the database. Its transactions work as bbolt's do.
type DB interface {
	View(read func(*bbolt.Tx) error) error
	Update(write func(*bbolt.Tx) error) error
}

// Book holds the estimates. It is safe for concurrent use.
type Book struct {
	db     DB
	prefer func(peers []string) []string
	now    func() time.Time

	writing sync.Mutex // held from a change to the end of its transaction

	mu       sync.Mutex // guards packages; not held during I/O
	packages map[Package]record
}

// record is what is known of a package. Records are replaced and not changed.
type record struct {
	// sum and weight are of the counts of all observations, and of how much each counts:
	// half for every HalfLife that it is older than the last one.
	sum, weight float64
	observed    time.Time // the last one; zero: there was none
	heard       time.Time // when anything was last learnt
	holders     []string  // peer IDs, the best first; at most maxKnown
}

// Open reads the book from the database, which stays the caller's. prefer orders peers,
// the best first, and may leave some out; nil takes them as they come. Records that make
// no sense are dropped. Errors: the database's.
func Open(db DB, prefer func(peers []string) []string) (*Book, error) {
	if prefer == nil {
		prefer = func(peers []string) []string { return peers }
	}
	b := &Book{db: db, prefer: prefer, now: time.Now, packages: map[Package]record{}}
	return b, b.load()
}

// Observe notes what a lookup of a package's providers has found now: how many count,
// and who they are. Errors: the database's; it is noted in memory all the same.
func (b *Book) Observe(p Package, found []Peer) error {
	names := make([]string, 0, len(found))
	for _, peer := range found {
		names = append(names, peer.ID)
	}
	return b.change(p, names, func(r *record, now time.Time) {
		fade := fadeBetween(r.observed, now)
		r.sum, r.weight = r.sum*fade+float64(Count(found)), r.weight*fade+1
		r.observed = now
	})
}

// Provided notes that peers have given a package's content. Errors are those of
// [Book.Observe].
func (b *Book) Provided(p Package, peers []string) error {
	return b.change(p, peers, func(*record, time.Time) {})
}

// change adds holders to a record, and what more makes of it, here and on disk.
func (b *Book) change(p Package, holders []string, more func(r *record, now time.Time)) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	r, leaving := b.about(p)
	now := b.now()
	r.heard = now
	more(&r, now)
	all := slices.Clone(holders)
	for _, old := range r.holders {
		if !slices.Contains(all, old) {
			all = append(all, old)
		}
	}
	all = slices.DeleteFunc(all, func(id string) bool { return id == "" || len(id) > maxPeerID })
	best := b.prefer(all)
	r.holders = slices.Clone(best[:min(len(best), maxKnown)])
	b.mu.Lock()
	if leaving != nil {
		delete(b.packages, *leaving)
	}
	b.packages[p] = r
	b.mu.Unlock()
	return b.store(p, r, leaving)
}

// about gives the record of a package, which is empty if there is none, and which other
// one must go then.
func (b *Book) about(p Package) (r record, leaving *Package) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.packages[p]
	if ok || len(b.packages) < MaxPackages {
		return r, nil
	}
	for other, old := range b.packages {
		if leaving == nil || old.heard.Before(b.packages[*leaving].heard) {
			leaving = &other
		}
	}
	return r, leaving
}

// fadeBetween is what is left at now of what was worth 1 then.
func fadeBetween(then, now time.Time) float64 {
	if then.IsZero() {
		return 0
	}
	return math.Exp2(-float64(max(now.Sub(then), 0)) / float64(HalfLife))
}

// Holders estimates how many other peers hold a package: the mean of all counts, weighted
// by their age, and faded by the age of the last one. It is between 0 and [MaxHolders];
// ok is false if nothing is known.
func (b *Book) Holders(p Package) (about float64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.packages[p].estimate(b.now())
}

func (r record) estimate(now time.Time) (about float64, ok bool) {
	if r.observed.IsZero() || now.Sub(r.observed) > forgetAfter {
		return 0, false
	}
	return r.sum / r.weight * fadeBetween(r.observed, now), true
}

// Peers are some that hold a package, or did, the best first; not to be changed.
func (b *Book) Peers(p Package) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.packages[p].holders
}

// Fresh tells whether a package was observed within [FreshFor].
func (b *Book) Fresh(p Package) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.packages[p]
	return ok && !r.observed.IsZero() && b.now().Sub(r.observed) < FreshFor
}

// Known is what the book knows of one package.
type Known struct {
	Package Package
	About   float64  // see [Book.Holders]; -1 if nothing was observed
	Peers   []string // some that hold it, or did; not to be changed
}

// All lists what is known of all packages, in no order.
func (b *Book) All() []Known {
	b.mu.Lock()
	packages := maps.Clone(b.packages)
	b.mu.Unlock()
	all, now := make([]Known, 0, len(packages)), b.now()
	for p, r := range packages {
		known := Known{Package: p, About: -1, Peers: r.holders}
		if about, ok := r.estimate(now); ok {
			known.About = about
		}
		all = append(all, known)
	}
	return all
}
