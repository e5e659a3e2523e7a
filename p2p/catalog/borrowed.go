package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

const (
	// MaxBorrowed bounds the packages that a [Borrowed] keeps: about 4 MB.
	MaxBorrowed = 1000

	// BorrowedFor is how long what others have proven is used without asking again.
	BorrowedFor = 10 * time.Minute
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
	order string // of two answers about one package the one with the greater order counts
	whole bool   // all releases, and not only the one that a search has found
	until time.Time
}

// NewBorrowed keeps nothing yet.
func NewBorrowed() *Borrowed { return &Borrowed{packages: map[borrowedKey]borrowed{}} }

// Take verifies entries with their proofs and keeps what they say about packages. With
// whole they are all that the log says about each. It returns the packages, and those that
// had to make room. Errors: publisher.ErrInvalid, which is the sender's fault,
// publisher.ErrStale.
func (b *Borrowed) Take(p publisher.Proven, whole bool, now time.Time) (taken, dropped []Package, err error) {
	v, err := p.Verify(now)
	if err != nil {
		return nil, nil, err
	}
	var said []statement
	for i, entry := range v.Entries {
		if s, ok := understand(entry, p.Entries[i].At, now); ok {
			said = append(said, s)
		}
	}
	// The rules of a catalogue apply: a release is immutable, a yank comes after it.
	rules := &Catalog{
		logs: map[shared.PublisherID]publisher.Log{}, packages: map[string]map[shared.PublisherID][]*Release{},
		advice: map[string]map[shared.PublisherID]*shared.Deprecation{}, accused: map[shared.PublisherID]string{},
	}
	rules.remember(publisher.Log{Chain: v.Chain, Head: v.Head}, said, true)
	order := fmt.Sprintf("%s/%012d/%012d", v.Chain.Order(), v.Head.Size, v.Head.Time.Unix())
	b.mu.Lock()
	defer b.mu.Unlock()
	rules.All(func(name string, pkg Package) {
		key := borrowedKey{name, pkg.Publisher}
		known, ok := b.packages[key]
		if ok && now.Before(known.until) && (known.order > order || known.whole && !whole) {
			return // a peer that is behind, or says less
		}
		for _, rel := range pkg.Releases { // a cool-down counts from the first time
			if i := position(known.Releases, rel.Version); i >= 0 {
				rel.FirstSeen = known.Releases[i].FirstSeen
			}
		}
		b.packages[key] = borrowed{pkg, order, whole, now.Add(BorrowedFor)}
		taken = append(taken, pkg)
	})
	for len(b.packages) > MaxBorrowed {
		var oldest borrowedKey
		for key, one := range b.packages {
			if oldest.name == "" || one.until.Before(b.packages[oldest].until) {
				oldest = key
			}
		}
		dropped = append(dropped, b.packages[oldest].Package)
		delete(b.packages, oldest)
	}
	return taken, dropped, nil
}

// Lookup lists the publishers that have a package of this name, by ID. fresh tells
// whether one of them is known as a whole, and not from too long ago.
func (b *Borrowed) Lookup(name string, now time.Time) (found []Package, fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, one := range b.packages {
		if key.name == name {
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
	l, _, _ := c.log(id)
	var places []int64
	for from := int64(0); from < l.Size; {
		lines, err := c.entries(l, from, publisher.MaxUpdateSize)
		if err != nil {
			return publisher.Proven{}, storageError(c.db, err)
		}
		for i, raw := range lines {
			entry, err := publisher.DecodeEntry(raw)
			if err != nil {
				continue // of a newer version: it has no effect here
			}
			if s, ok := understand(entry, from+int64(i), time.Time{}); ok && s.about() == name {
				places = append(places, s.at)
			}
		}
		from += int64(len(lines))
	}
	return c.lend(l, places[max(0, len(places)-publisher.MaxProven):], most)
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
		entry, proof, err := c.Proof(l.Chain.ID, at)
		if err != nil {
			return publisher.Proven{}, err
		}
		if most -= len(entry) + len(proof)*32 + 16; most < 0 {
			break
		}
		p.Entries = append(p.Entries, publisher.ProvenEntry{At: at, Entry: entry, Proof: proof})
	}
	slices.Reverse(p.Entries)
	if len(p.Entries) == 0 {
		return publisher.Proven{}, errors.New("not even one entry fits")
	}
	return p, nil
}
