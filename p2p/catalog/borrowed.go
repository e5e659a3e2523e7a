package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

const (
	// MaxBorrowed bounds the packages that a [Borrowed] keeps: about 4 MB.
	MaxBorrowed = 1000

	// maxBorrowedBytes bounds their entries, as they came: those of typical packages are
	// 1 MB, and one answer may have half of that.
	maxBorrowedBytes = 4 << 20

	// BorrowedFor is how long what others have proven is used without asking again.
	BorrowedFor = 2 * time.Minute
)

// Borrowed is the packages that a node without logs of its own has been told of, each
// with proofs: what a [Catalog] is to a full node. It is kept in memory only, and
// forgets. Its methods may be called concurrently.
type Borrowed struct {
	mu       sync.Mutex // guards packages
	packages map[borrowedKey]borrowed
}

type borrowedKey struct {
	name      string
	publisher shared.PublisherID
}

type borrowed struct {
	Package
	chain publisher.Chain
	head  publisher.Head       // the newest
	said  map[int64]provenWord // all that was proven, by its place in the log
	bytes int
	whole bool // all releases, and not only the one that a search has found
	until time.Time
}

// provenWord is a statement, and the hash that the log's tree has at its place.
type provenWord struct {
	statement
	hash  tlog.Hash
	bytes int
}

// NewBorrowed keeps nothing yet.
func NewBorrowed() *Borrowed { return &Borrowed{packages: map[borrowedKey]borrowed{}} }

// Lent is verified entries of one log.
type Lent struct {
	whole bool
	chain publisher.Chain
	head  publisher.Head
	said  map[string]map[int64]provenWord // by package
}

// Prove verifies entries with their proofs. With a name they must be about that package,
// and are taken for all that the log says about it. Errors: publisher.ErrInvalid, which
// is the sender's fault, publisher.ErrStale.
func Prove(p publisher.Proven, name string, now time.Time) (Lent, error) {
	v, err := p.Verify(now)
	if err != nil {
		return Lent{}, err
	}
	l := Lent{whole: name != "", chain: v.Chain, head: v.Head, said: map[string]map[int64]provenWord{}}
	for i, entry := range v.Entries {
		at, raw := p.Entries[i].At, p.Entries[i].Entry
		s, ok := understand(entry, at, now)
		if !ok {
			continue
		}
		about := s.about()
		if name != "" && about != name {
			return Lent{}, fmt.Errorf("%w: entry %d is about %s, and not %s", publisher.ErrInvalid, at, about, name)
		}
		if l.said[about] == nil {
			l.said[about] = map[int64]provenWord{}
		}
		l.said[about][at] = provenWord{s, tlog.RecordHash(raw), len(raw)}
	}
	return l, nil
}

// ErrForked says that two answers prove that a publisher has signed two different logs.
var ErrForked = errors.New("its publisher has signed two different logs")

// Take keeps what was proven about packages, beside what was proven before: who keeps a
// statement to itself cannot take it away. Newer keys of the publisher make void what
// was proven under older ones. It returns the packages, and those that had to make room
// or, with [ErrForked], that contradict what is known; of those nothing is kept.
func (b *Borrowed) Take(l Lent, now time.Time) (taken, dropped []Package, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, said := range l.said {
		key := borrowedKey{name, l.chain.ID}
		known, ok := b.packages[key]
		if ok && known.chain.Order() > l.chain.Order() {
			continue // a peer that has not heard of the newest keys
		}
		one := borrowed{chain: l.chain, head: l.head, said: maps.Clone(said), whole: l.whole, until: now.Add(BorrowedFor)}
		if ok {
			if forkErr := one.add(known); forkErr != nil {
				delete(b.packages, key)
				err = forkErr
				if len(known.Releases) > 0 {
					dropped = append(dropped, known.Package)
				}
				continue
			}
		}
		one.assemble(name)
		b.packages[key] = one // also without a release, which the next answer may have
		if len(one.Releases) > 0 {
			taken = append(taken, one.Package)
		}
	}
	return taken, append(dropped, b.makeRoom()...), err
}

// add adds what was known before.
func (o *borrowed) add(known borrowed) error {
	if known.chain.Order() != o.chain.Order() {
		for _, word := range o.said { // a cool-down counts from the first time
			if word.release == nil {
				continue
			}
			if i := position(known.Releases, word.release.Version); i >= 0 {
				word.release.FirstSeen = known.Releases[i].FirstSeen
			}
		}
		return nil
	}
	if known.head.Size == o.head.Size && known.head.Hash != o.head.Hash {
		return ErrForked
	}
	for at, word := range known.said {
		if fresh, ok := o.said[at]; ok && fresh.hash != word.hash {
			return ErrForked
		}
		o.said[at] = word
	}
	if known.head.Newer(o.head) {
		o.head = known.head
	}
	if known.whole && !o.whole {
		o.whole, o.until = true, known.until
	}
	return nil
}

// assemble computes the package by the rules of a catalogue: a release is immutable, a
// yank comes after it.
func (o *borrowed) assemble(name string) {
	rules := &Catalog{
		logs: map[shared.PublisherID]publisher.Log{}, packages: map[string]map[shared.PublisherID][]*Release{},
		advice: map[string]map[shared.PublisherID]*shared.Deprecation{}, others: map[string]map[shared.PublisherID][]int64{}, accused: map[shared.PublisherID]string{},
	}
	said := make([]statement, 0, len(o.said))
	o.bytes = 0
	for _, at := range slices.Sorted(maps.Keys(o.said)) {
		said = append(said, o.said[at].statement)
		o.bytes += o.said[at].bytes
	}
	rules.remember(publisher.Log{Chain: o.chain, Head: o.head}, said, true)
	id := o.chain.ID
	o.Package = Package{Publisher: id, Releases: rules.packages[name][id], Deprecation: rules.advice[name][id]}
}

// makeRoom drops those that were proven longest ago, while there is too much.
func (b *Borrowed) makeRoom() (dropped []Package) {
	bytes := 0
	for _, one := range b.packages {
		bytes += one.bytes
	}
	for len(b.packages) > MaxBorrowed || bytes > maxBorrowedBytes && len(b.packages) > 1 {
		var oldest borrowedKey
		for key, one := range b.packages {
			if oldest.name == "" || one.until.Before(b.packages[oldest].until) {
				oldest = key
			}
		}
		bytes -= b.packages[oldest].bytes
		if pkg := b.packages[oldest].Package; len(pkg.Releases) > 0 {
			dropped = append(dropped, pkg)
		}
		delete(b.packages, oldest)
	}
	return dropped
}

// Lookup lists the publishers that have a package of this name, by ID. fresh tells
// whether one of them is known as a whole, and not from too long ago.
func (b *Borrowed) Lookup(name string, now time.Time) (found []Package, fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, one := range b.packages {
		if key.name == name && len(one.Releases) > 0 {
			found = append(found, one.Package)
			fresh = fresh || one.whole && now.Before(one.until)
		}
	}
	slices.SortFunc(found, func(a, b Package) int { return cmp.Compare(a.Publisher, b.Publisher) })
	return found, fresh
}

// Release finds one release, or nil; see [Catalog.Release].
func (b *Borrowed) Release(name string, id shared.PublisherID, version string) *Release {
	b.mu.Lock()
	defer b.mu.Unlock()
	releases := b.packages[borrowedKey{name, id}].Releases
	if i := position(releases, version); i >= 0 {
		return releases[i]
	}
	return nil
}

// Size counts the packages.
func (b *Borrowed) Size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.packages)
}

// Lend is all that a publisher's log says about one package, with proofs, for a node
// that keeps no logs: of more than [publisher.MaxProven] entries the last ones, and not
// more than most bytes of them. Errors: NOT_FOUND, STORAGE.
func (c *Catalog) Lend(id shared.PublisherID, name string, most int) (publisher.Proven, error) {
	places := c.about(name, id) // before the head, which is to cover them
	l, _, _ := c.log(id)
	return c.lend(l, places[max(0, len(places)-publisher.MaxProven):], most)
}

// about lists the places of all that a log says about a package, in its order.
func (c *Catalog) about(name string, id shared.PublisherID) (places []int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, rel := range c.packages[name][id] {
		places = append(places, rel.Entry)
	}
	if places != nil {
		places = append(places, c.others[name][id]...)
	}
	slices.Sort(places)
	return places
}

// Remarks lists the places of the last statements, at most so many, that were made
// about a release's package after it and are no releases.
func (c *Catalog) Remarks(rel *Release, most int) (places []int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, at := range c.others[rel.Name][rel.Publisher] {
		if at > rel.Entry {
			places = append(places, at)
		}
	}
	return places[max(0, len(places)-most):]
}

// LendEntries is some entries of a log with proofs; see [Catalog.Lend].
func (c *Catalog) LendEntries(id shared.PublisherID, places []int64, most int) (publisher.Proven, error) {
	l, _, _ := c.log(id)
	return c.lend(l, slices.Compact(slices.Sorted(slices.Values(places))), most)
}

func (c *Catalog) lend(l publisher.Log, places []int64, most int) (publisher.Proven, error) {
	if l.Chain.ID == "" || !l.Complete() || len(places) == 0 {
		return publisher.Proven{}, shared.NewError(shared.ReasonNotFound, "there is nothing to lend")
	}
	p := publisher.Proven{Roots: l.Chain.Signed(), Head: l.Head.Signed}
	for _, root := range p.Roots {
		most -= len(root)
	}
	for _, at := range slices.Backward(places) { // the newest are worth most
		if at >= l.Size {
			return publisher.Proven{}, shared.NewError(shared.ReasonNotFound, "entry %d is not held any more", at)
		}
		// Under this head and no newer one: a proof for another size proves nothing.
		entries, err := c.entries(l, at, 0)
		if err != nil {
			return publisher.Proven{}, storageError(c.db, err)
		}
		proof, err := tlog.ProveRecord(l.Size, at, l.Hashes)
		if err != nil {
			return publisher.Proven{}, storageError(c.db, err)
		}
		if most -= len(entries[0]) + len(proof)*32 + 16; most < 0 {
			break
		}
		p.Entries = append(p.Entries, publisher.ProvenEntry{At: at, Entry: entries[0], Proof: proof})
	}
	slices.Reverse(p.Entries)
	if len(p.Entries) == 0 {
		return publisher.Proven{}, errors.New("not even one entry fits")
	}
	return p, nil
}
