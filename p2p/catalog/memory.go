package catalog

import (
	"slices"
	"time"

	"github.com/Masterminds/semver/v3"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// statement is an entry that has an effect: a release, a yank of one, or advice
// against a package.
type statement struct {
	at      int64 // position in the log
	time    time.Time
	release *Release
	yank    *publisher.Yank
	yanked  bool // what yank sets
	advice  *publisher.Advice
}

// about is the package that a statement is about.
func (s statement) about() string {
	switch {
	case s.release != nil:
		return s.release.Name
	case s.yank != nil:
		return s.yank.Name
	}
	return s.advice.Name
}

// understand tells what an entry does; ok is false if it has no effect here.
func understand(e publisher.Entry, at int64, seen time.Time) (s statement, ok bool) {
	switch {
	case e.Release != nil:
		version, err := semver.StrictNewVersion(e.Release.Version)
		if err != nil {
			return s, false // checked when the entry was parsed
		}
		r := &Release{Release: *e.Release, Publisher: e.Publisher, Entry: at, PublishedAt: time.Unix(e.Time, 0), FirstSeen: seen, version: version}
		return statement{at: at, release: r}, true
	case e.Yank != nil:
		return statement{at: at, yank: e.Yank, yanked: e.Kind == publisher.KindYank}, true
	case e.Advice != nil:
		return statement{at: at, time: time.Unix(e.Time, 0), advice: e.Advice}, true
	}
	return s, false
}

// remember makes what a log states visible to readers. The statements follow those
// that are known, in the log's order; however they are split over calls, the
// result is the same. With anew they are all that the log states, and what was known
// of it before is forgotten. It returns the releases that have an effect, and the names of
// all packages that something was said about.
func (c *Catalog) remember(l publisher.Log, said []statement, anew bool) (added []*Release, touched []string) {
	fresh := map[string][]*Release{}
	for _, s := range said {
		if s.release != nil {
			fresh[s.release.Name] = append(fresh[s.release.Name], s.release)
		}
	}
	for _, releases := range fresh {
		slices.SortStableFunc(releases, newestFirst) // of one version, the first stays first
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := l.Chain.ID
	c.logs[id] = l
	if anew {
		touched = c.forget(id)
	}
	for name, releases := range fresh {
		known := c.packages[name][id]
		merged := merge(known, releases)
		c.keep(name, id, merged)
		c.releases += len(merged) - len(known)
	}
	copied := map[string]bool{}
	for _, s := range said {
		if s.yank == nil {
			continue
		}
		if fresh[s.yank.Name] == nil && !copied[s.yank.Name] {
			// Readers may hold the old slice.
			c.keep(s.yank.Name, id, slices.Clone(c.packages[s.yank.Name][id]))
			copied[s.yank.Name] = true
		}
		setYanked(c.packages[s.yank.Name][id], s)
	}
	for _, s := range said {
		touched = append(touched, s.about())
		if s.release == nil && len(c.packages[s.about()][id]) > 0 {
			c.noteOther(s.about(), id, s.at)
		}
		switch {
		case s.advice != nil:
			c.advise(id, s)
		case s.release != nil:
			releases := c.packages[s.release.Name][id]
			if r := releases[position(releases, s.release.Version)]; r.Entry == s.at {
				added = append(added, r)
			}
		}
	}
	slices.Sort(touched)
	return added, slices.Compact(touched)
}

// forget drops all that a publisher states, and that it is quarantined, and names the
// packages.
func (c *Catalog) forget(id shared.PublisherID) (names []string) {
	delete(c.accused, id)
	for name, publishers := range c.packages {
		if releases, ok := publishers[id]; ok {
			names = append(names, name)
			c.releases -= len(releases)
			delete(publishers, id)
			delete(c.advice[name], id)
			delete(c.others[name], id)
		}
		if len(publishers) == 0 {
			delete(c.packages, name)
			delete(c.others, name)
		}
	}
	return names
}

// noteOther notes the place of a statement about a package that is no release.
func (c *Catalog) noteOther(name string, id shared.PublisherID, at int64) {
	if c.others[name] == nil {
		c.others[name] = map[shared.PublisherID][]int64{}
	}
	c.others[name][id] = append(c.others[name][id], at)
}

// advise notes or forgets advice against a package that was released before.
func (c *Catalog) advise(id shared.PublisherID, s statement) {
	name := s.advice.Name
	if !slices.ContainsFunc(c.packages[name][id], func(r *Release) bool { return r.Entry < s.at }) {
		return
	}
	if s.advice.Undo {
		delete(c.advice[name], id)
		return
	}
	if c.advice[name] == nil {
		c.advice[name] = map[shared.PublisherID]*shared.Deprecation{}
	}
	c.advice[name][id] = &shared.Deprecation{Successor: s.advice.Successor, Why: s.advice.Why, Since: s.time}
}

func (c *Catalog) keep(name string, id shared.PublisherID, releases []*Release) {
	if len(releases) == 0 {
		return
	}
	if c.packages[name] == nil {
		c.packages[name] = map[shared.PublisherID][]*Release{}
	}
	c.packages[name][id] = releases
}

func newestFirst(a, b *Release) int { return b.version.Compare(a.version) }

// merge makes one new list out of two that are sorted. A second release of a
// version has no effect: a release is immutable, whatever its publisher says later.
func merge(known, fresh []*Release) []*Release {
	merged := make([]*Release, 0, len(known)+len(fresh))
	add := func(r *Release) {
		if n := len(merged); n == 0 || newestFirst(merged[n-1], r) != 0 {
			merged = append(merged, r)
		}
	}
	for len(known) > 0 && len(fresh) > 0 {
		if newestFirst(known[0], fresh[0]) <= 0 {
			add(known[0])
			known = known[1:]
		} else {
			add(fresh[0])
			fresh = fresh[1:]
		}
	}
	for _, r := range append(slices.Clip(known), fresh...) {
		add(r)
	}
	return merged
}

// setYanked replaces the release that a yank means, if it was stated before.
func setYanked(releases []*Release, s statement) {
	i := position(releases, s.yank.Version)
	if i < 0 || releases[i].Entry >= s.at {
		return
	}
	changed := *releases[i]
	changed.Yanked = s.yanked
	releases[i] = &changed
}
