package p2p

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/cache"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

// CacheStats tells what is kept; see [shared.Cache].
func (e *Engine) CacheStats(ctx context.Context) (shared.CacheStats, error) {
	if err := ctx.Err(); err != nil {
		return shared.CacheStats{}, shared.AsError(err)
	}
	keep, err := e.kept()
	if err != nil {
		return shared.CacheStats{}, named(err, "cache stats")
	}
	all, err := e.store.Holdings()
	if err != nil {
		return shared.CacheStats{}, named(err, "cache stats")
	}
	size, lifetime := e.cfg.Cache.bounds()
	stats := shared.CacheStats{Tiers: e.tiers(len(all)), Limit: size, Lifetime: lifetime}
	archives := map[shared.Digest]bool{}
	for _, rel := range e.heldReleases() {
		archives[rel.Archive.Digest] = true
	}
	for _, h := range all {
		amount := &stats.Other
		switch because := keep[h.Digest]; {
		case because&published != 0:
			amount = &stats.Published
		case because&pinned != 0:
			amount = &stats.Pinned
		case because&installed != 0:
			amount = &stats.Installed
		}
		amount.Bytes += h.Bytes
		if archives[h.Digest] {
			amount.Packages++
		}
	}
	pins, err := e.pinnedPackages()
	if err != nil {
		return shared.CacheStats{}, named(err, "cache stats")
	}
	for _, p := range pins {
		stats.Pins = append(stats.Pins, e.asPinned(p))
	}
	return stats, nil
}

// bounds of what need not stay.
func (c CacheConfig) bounds() (size int64, lifetime time.Duration) {
	return cmp.Or(c.Size, DefaultCacheSize), cmp.Or(c.Lifetime, cache.DefaultColdLifetime)
}

// tiers adds up what is remembered. In the cold one also whole packages count.
func (e *Engine) tiers(blobs int) []shared.TierStats {
	caches := []cache.Counts{e.indexes.Counts(), e.manifests.Counts(), e.lookups.Counts()}
	tier := func(name cache.Tier, lifetime time.Duration, of func(cache.Counts) cache.TierCounts) shared.TierStats {
		stats := shared.TierStats{Name: string(name), Lifetime: lifetime}
		for _, c := range caches {
			counts := of(c)
			stats.Entries, stats.Limit = stats.Entries+counts.Entries, stats.Limit+counts.Most
			stats.Hits, stats.Misses = stats.Hits+counts.Hits, stats.Misses+counts.Misses
		}
		return stats
	}
	_, lifetime := e.cfg.Cache.bounds()
	cold := tier(cache.Cold, lifetime, func(c cache.Counts) cache.TierCounts { return c.Cold })
	cold.Entries, cold.Hits, cold.Misses = blobs, cold.Hits+e.traffic.hits.Load(), cold.Misses+e.traffic.misses.Load()
	return []shared.TierStats{
		tier(cache.Hot, cmp.Or(e.cfg.Cache.Hot.Lifetime, cache.DefaultHotLifetime), func(c cache.Counts) cache.TierCounts { return c.Hot }),
		tier(cache.Warm, cmp.Or(e.cfg.Cache.Warm.Lifetime, cache.DefaultWarmLifetime), func(c cache.Counts) cache.TierCounts { return c.Warm }),
		cold,
	}
}

// pinnedPackages lists the pins, by name and version.
func (e *Engine) pinnedPackages() (pins []pinnedPackage, err error) {
	err = e.db.View(func(tx *bbolt.Tx) error {
		return each(tx.Bucket(pinnedBucket), func(_ string, p pinnedPackage) { pins = append(pins, p) })
	})
	slices.SortFunc(pins, func(a, b pinnedPackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), compareVersions(a.Version, b.Version), strings.Compare(string(a.Publisher), string(b.Publisher)))
	})
	return pins, err
}

func compareVersions(a, b string) int {
	va, errA := semver.NewVersion(a)
	vb, errB := semver.NewVersion(b)
	if errA != nil || errB != nil {
		return strings.Compare(a, b)
	}
	return va.Compare(vb)
}

func (e *Engine) asPinned(p pinnedPackage) shared.PinnedContent {
	pin := shared.PinnedContent{Name: p.Name, Publisher: p.Publisher, Version: p.Version, Since: p.Since, Packages: len(p.Contents)}
	for _, c := range p.Contents {
		for _, d := range []shared.Digest{c.Archive, c.Index} {
			if size, err := e.store.Size(d); err == nil {
				pin.Bytes += size
			}
		}
	}
	return pin
}

// CleanCache removes content that need not stay; see [shared.Cache].
func (e *Engine) CleanCache(ctx context.Context, req shared.CleanRequest) (receipt shared.CleanReceipt, err error) {
	if req.Unused < 0 {
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "clean: what was used in the next %s cannot be known", -req.Unused)
	}
	only, err := e.releasesOf(ctx, req.Packages)
	if err != nil {
		return receipt, named(err, "clean %s", refList(req.Packages))
	}
	e.adding.Lock() // after what is being installed
	defer e.adding.Unlock()
	keep, err := e.kept()
	if err != nil {
		return receipt, named(err, "clean")
	}
	wanted := map[shared.Digest]bool{}
	for _, rel := range only {
		if because := keep[rel.Archive.Digest]; because != 0 && e.store.Has(rel.Archive.Digest) {
			receipt.Diagnostics = append(receipt.Diagnostics, staysBecause(rel, because))
		}
		wanted[rel.Archive.Digest], wanted[rel.Index.Digest] = true, true
	}
	names := e.namesOfBlobs()
	policy := store.Policy{DryRun: req.DryRun, Keep: func(d shared.Digest) bool { return keep.has(d) || len(only) > 0 && !wanted[d] }}
	if req.Unused > 0 { // whatever fits stays, if it is not too old
		policy.Bytes, policy.Before = 1<<62, e.now().Add(-req.Unused)
	}
	removed, err := e.store.Evict(ctx, policy)
	for _, h := range removed {
		receipt.Bytes += h.Bytes
		if rel := names[h.Digest]; rel != nil && rel.Archive.Digest == h.Digest {
			receipt.Packages = append(receipt.Packages, shared.CleanedPackage{Name: rel.Name, Publisher: rel.Publisher, Version: rel.Version, Bytes: h.Bytes})
		}
		if !req.DryRun {
			e.indexes.Forget(string(h.Digest))
		}
	}
	slices.SortFunc(receipt.Packages, func(a, b shared.CleanedPackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), compareVersions(a.Version, b.Version))
	})
	return receipt, named(err, "clean")
}

// staysBecause says why a package that was to be removed is not.
func staysBecause(rel *catalog.Release, because why) shared.Diagnostic {
	d := shared.Diagnostic{Severity: shared.SeverityWarning}
	what := rel.Name + "@" + rel.Version
	switch {
	case because&published != 0:
		d.Message, d.Hint = what+" stays: it was published here, and others get it from this peer", "`ggen marketplace yank` withdraws a release"
	case because&pinned != 0:
		d.Message, d.Hint = what+" stays: it is pinned", "`ggen marketplace cache unpin "+what+"` lets go of it"
	default:
		d.Message, d.Hint = what+" stays: it is installed on this machine", "`ggen marketplace remove "+rel.Name+"` removes it from a project"
	}
	return d
}

// releasesOf are the releases that references mean: all of a name without a version.
func (e *Engine) releasesOf(ctx context.Context, refs []shared.Ref) (found []*catalog.Release, err error) {
	for _, ref := range refs {
		if err := shared.CheckName(ref.Name); err != nil {
			return nil, err
		}
		pkg, err := e.choose(ctx, ref)
		if err != nil {
			return nil, err
		}
		if ref.Constraint == "" {
			found = append(found, pkg.Releases...)
			continue
		}
		rel, err := pick(pkg, ref)
		if err != nil {
			return nil, err
		}
		found = append(found, rel)
	}
	return found, nil
}

// namesOfBlobs finds the releases that content belongs to, as far as they are known.
func (e *Engine) namesOfBlobs() map[shared.Digest]*catalog.Release {
	names := map[shared.Digest]*catalog.Release{}
	e.catalog.All(func(_ string, pkg catalog.Package) {
		for _, rel := range pkg.Releases {
			names[rel.Archive.Digest], names[rel.Index.Digest] = rel, rel
		}
	})
	return names
}

// VerifyCache reads all content that is kept; see [shared.Cache].
func (e *Engine) VerifyCache(ctx context.Context, report shared.ProgressFunc) (found shared.CacheReport, err error) {
	all, err := e.store.Holdings()
	if err != nil {
		return found, named(err, "verify the cache")
	}
	var total, done int64
	for _, h := range all {
		total += h.Bytes
	}
	var names map[shared.Digest]*catalog.Release
	for _, h := range all {
		report.Report(shared.Progress{Phase: shared.PhaseVerify, Done: done, Total: total})
		err := e.store.Verify(ctx, h.Digest)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // removed meanwhile
		case errors.Is(err, shared.ReasonIntegrity):
			if names == nil {
				names = e.namesOfBlobs()
			}
			found.Damaged = append(found.Damaged, e.damaged(h.Digest, names[h.Digest]))
			e.indexes.Forget(string(h.Digest))
		case err != nil:
			return found, named(err, "verify the cache")
		}
		done += h.Bytes
		found.Checked, found.Bytes = found.Checked+1, found.Bytes+h.Bytes
	}
	return found, nil
}

func (e *Engine) damaged(digest shared.Digest, rel *catalog.Release) shared.DamagedContent {
	d := shared.DamagedContent{Digest: digest}
	if rel != nil {
		d.Name, d.Version, d.Own = rel.Name, rel.Version, rel.Publisher == e.ring.ID()
	}
	return d
}

// PinContent keeps packages; see [shared.Cache].
func (e *Engine) PinContent(ctx context.Context, req shared.PinRequest, report shared.ProgressFunc) (receipt shared.PinReceipt, err error) {
	if len(req.Packages) == 0 {
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "pin: no package is named")
	}
	e.adding.RLock() // nothing of it is swept before it is pinned
	defer e.adding.RUnlock()
	var pins []pinnedPackage
	for _, ref := range req.Packages {
		p, err := e.gather(ctx, ref, req.Offline, report, &receipt)
		if err != nil {
			return receipt, named(err, "pin %s", ref)
		}
		pins = append(pins, p)
	}
	err = e.db.Update(func(tx *bbolt.Tx) error {
		for i, p := range pins {
			if b := tx.Bucket(pinnedBucket); b != nil {
				var before pinnedPackage
				if json.Unmarshal(b.Get(p.key()), &before) == nil {
					pins[i].Since = before.Since
				}
			}
			if err := putJSON(tx, pinnedBucket, p.key(), pins[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return receipt, named(err, "pin %s", refList(req.Packages))
	}
	for _, p := range pins {
		receipt.Packages = append(receipt.Packages, e.asPinned(p))
	}
	return receipt, nil
}

// gather gets a package and what it depends on. Whoever installs it decides whom to trust.
func (e *Engine) gather(ctx context.Context, ref shared.Ref, offline bool, report shared.ProgressFunc, receipt *shared.PinReceipt) (pin pinnedPackage, err error) {
	install := shared.InstallRequest{Packages: []shared.Ref{ref}, Root: e.cfg.Home, Offline: offline, Trust: true}
	plan, err := e.plan(ctx, install)
	if err != nil {
		return pin, err
	}
	receipt.Diagnostics = append(receipt.Diagnostics, plan.diagnostics...)
	for _, s := range plan.steps {
		if err := e.fetch(ctx, install, s, report); err != nil {
			return pin, err
		}
		receipt.Fetched += s.fetched
		pin.Contents = append(pin.Contents, contentsOf(s.release))
		if s.requested {
			pin.Name, pin.Publisher, pin.Version, pin.Since = s.release.Name, s.release.Publisher, s.release.Version, e.now().UTC()
		}
	}
	return pin, nil
}

// UnpinContent lets go of packages; see [shared.Cache].
func (e *Engine) UnpinContent(ctx context.Context, ref shared.Ref) (released []shared.PinnedContent, err error) {
	if err := ctx.Err(); err != nil {
		return nil, shared.AsError(err)
	}
	if err := shared.CheckName(ref.Name); err != nil {
		return nil, named(err, "unpin")
	}
	pins, err := e.pinnedPackages()
	if err != nil {
		return nil, named(err, "unpin %s", ref)
	}
	pins = slices.DeleteFunc(pins, func(p pinnedPackage) bool { return !meant(p, ref) })
	if len(pins) == 0 {
		return nil, shared.NewError(shared.ReasonNotFound, "no content of %s is pinned", ref).
			WithHint("`ggen marketplace cache stats` lists what is")
	}
	err = e.db.Update(func(tx *bbolt.Tx) error {
		for _, p := range pins {
			if err := tx.Bucket(pinnedBucket).Delete(bytes.Clone(p.key())); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, named(err, "unpin %s", ref)
	}
	e.hasAdded() // to what may go
	for _, p := range pins {
		released = append(released, e.asPinned(p))
	}
	return released, nil
}

// meant tells whether a reference means a pinned release.
func meant(p pinnedPackage, ref shared.Ref) bool {
	if p.Name != ref.Name || !strings.HasPrefix(string(p.Publisher), string(ref.Publisher)) {
		return false
	}
	if ref.Constraint == "" || ref.Constraint == p.Version {
		return true
	}
	wanted, err := semver.NewConstraint(ref.Constraint)
	version, versionErr := semver.NewVersion(p.Version)
	return err == nil && versionErr == nil && wanted.Check(version)
}
