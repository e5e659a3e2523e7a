package render

import (
	"fmt"
	"strconv"
	"time"

	"ggen.dev/marketplace/shared"
)

// CacheStats is what the peer keeps of packages.
type CacheStats struct {
	Tiers     []CacheTier `json:"tiers"`     // hot and warm in memory, cold on disk; since the engine started
	Limit     int64       `json:"limit"`     // bytes that content may have which need not stay
	Lifetime  string      `json:"lifetime"`  // for which that is kept after it was wanted last
	Published CacheAmount `json:"published"` // by this node; stays
	Pinned    CacheAmount `json:"pinned"`    // stays
	Installed CacheAmount `json:"installed"` // on this machine; stays
	Other     CacheAmount `json:"other"`     // need not stay
	Pins      []CachePin  `json:"pins"`      // by name and version
}

// CacheTier is one tier of the cache.
type CacheTier struct {
	Name     string   `json:"name"`               // hot, warm or cold
	Entries  int      `json:"entries"`            // that it holds
	Limit    int      `json:"limit"`              // entries that it may hold; 0: it is bounded by bytes
	Lifetime string   `json:"lifetime"`           // of an entry
	Hits     int64    `json:"hits"`               // found there
	Misses   int64    `json:"misses"`             // not found there
	HitRate  *float64 `json:"hit_rate,omitempty"` // 0 to 1; absent before the first
}

// CacheAmount is some content.
type CacheAmount struct {
	Packages int   `json:"packages"` // whose archive is here
	Bytes    int64 `json:"bytes"`    // of content
}

// CachePin is a release that is kept until it is unpinned.
type CachePin struct {
	Package   string             `json:"package"`   // name of the package
	Version   string             `json:"version"`   // semantic version
	Publisher shared.PublisherID `json:"publisher"` // full ID
	Since     *time.Time         `json:"since"`     // when it was pinned
	Packages  int                `json:"packages"`  // with what it depends on
	Bytes     int64              `json:"bytes"`     // of all of these
}

// NewCacheStats takes over an answer.
func NewCacheStats(s shared.CacheStats) CacheStats {
	doc := CacheStats{
		Tiers: []CacheTier{}, Limit: s.Limit, Lifetime: span(s.Lifetime), Pins: cachePins(s.Pins),
		Published: CacheAmount(s.Published), Pinned: CacheAmount(s.Pinned), Installed: CacheAmount(s.Installed), Other: CacheAmount(s.Other),
	}
	for _, t := range s.Tiers {
		tier := CacheTier{Name: t.Name, Entries: t.Entries, Limit: t.Limit, Lifetime: span(t.Lifetime), Hits: t.Hits, Misses: t.Misses}
		if all := t.Hits + t.Misses; all > 0 {
			rate := float64(t.Hits) / float64(all)
			tier.HitRate = &rate
		}
		doc.Tiers = append(doc.Tiers, tier)
	}
	return doc
}

// span writes a duration as people would: 7d, 24h, 90s.
func span(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		sign string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d >= unit.of && d%unit.of == 0 {
			return strconv.FormatInt(int64(d/unit.of), 10) + unit.sign
		}
	}
	return d.String()
}

func cachePins(pins []shared.PinnedContent) []CachePin {
	list := make([]CachePin, 0, len(pins))
	for _, p := range pins {
		list = append(list, CachePin{p.Name, p.Version, p.Publisher, stamp(p.Since), p.Packages, p.Bytes})
	}
	return list
}

// Text implements [Document].
func (d CacheStats) Text(p *Page) {
	p.Table([]string{"KEPT BECAUSE", "PACKAGES", "SIZE"}, [][]string{
		{"published here", strconv.Itoa(d.Published.Packages), Bytes(d.Published.Bytes)},
		{"pinned", strconv.Itoa(d.Pinned.Packages), Bytes(d.Pinned.Bytes)},
		{"installed", strconv.Itoa(d.Installed.Packages), Bytes(d.Installed.Bytes)},
		{"wanted lately", strconv.Itoa(d.Other.Packages), fmt.Sprintf("%s of %s", Bytes(d.Other.Bytes), Bytes(d.Limit))},
	})
	p.Line("")
	rows := make([][]string, 0, len(d.Tiers))
	for _, t := range d.Tiers {
		entries, rate := strconv.Itoa(t.Entries), "-"
		if t.Limit > 0 {
			entries += " of " + strconv.Itoa(t.Limit)
		}
		if t.HitRate != nil {
			rate = fmt.Sprintf("%.0f %%", 100**t.HitRate)
		}
		rows = append(rows, []string{t.Name, entries, t.Lifetime, strconv.FormatInt(t.Hits, 10), strconv.FormatInt(t.Misses, 10), rate})
	}
	p.Table([]string{"TIER", "ENTRIES", "LIFETIME", "HITS", "MISSES", "HIT RATE"}, rows)
	if len(d.Pins) > 0 {
		p.Line("")
		pinTable(p, d.Pins)
	}
}

func pinTable(p *Page, pins []CachePin) {
	rows := make([][]string, 0, len(pins))
	for _, pin := range pins {
		since := ""
		if pin.Since != nil {
			since = day(*pin.Since)
		}
		rows = append(rows, []string{pin.Package, pin.Version, pin.Publisher.Short(), strconv.Itoa(pin.Packages), Bytes(pin.Bytes), since})
	}
	p.Table([]string{"PINNED", "VERSION", "PUBLISHER", "PACKAGES", "SIZE", "SINCE"}, rows)
}

// Cleaned is content that was removed.
type Cleaned struct {
	Packages []CleanedPackage `json:"packages"` // that are known by name
	Total    int              `json:"total"`    // how many there are
	Bytes    int64            `json:"bytes"`    // of all that was removed
	DryRun   bool             `json:"dry_run"`  // nothing was removed, this is what would be
	Stays    []Remark         `json:"stays"`    // packages that were named and are kept, and why
}

// CleanedPackage is a package whose content is not here any more.
type CleanedPackage struct {
	Package   string             `json:"package"`   // name of the package
	Version   string             `json:"version"`   // semantic version
	Publisher shared.PublisherID `json:"publisher"` // full ID
	Bytes     int64              `json:"bytes"`     // of its archive
}

// NewCleaned takes over a receipt.
func NewCleaned(r shared.CleanReceipt, dryRun bool) Cleaned {
	doc := Cleaned{Packages: []CleanedPackage{}, Total: len(r.Packages), Bytes: r.Bytes, DryRun: dryRun, Stays: append([]Remark{}, remarks(r.Diagnostics)...)}
	for _, pkg := range r.Packages {
		doc.Packages = append(doc.Packages, CleanedPackage{pkg.Name, pkg.Version, pkg.Publisher, pkg.Bytes})
	}
	return doc
}

// Text implements [Document].
func (d Cleaned) Text(p *Page) {
	rows := make([][]string, 0, len(d.Packages))
	for _, pkg := range d.Packages {
		rows = append(rows, []string{pkg.Package, pkg.Version, pkg.Publisher.Short(), Bytes(pkg.Bytes)})
	}
	if len(rows) > 0 {
		p.Table([]string{"NAME", "VERSION", "PUBLISHER", "SIZE"}, rows)
	}
	switch {
	case d.Bytes == 0:
		p.Line("There is nothing to remove.")
	case d.DryRun:
		p.Line("%s would be removed.", Bytes(d.Bytes))
	default:
		p.Line("Removed %s.", Bytes(d.Bytes))
	}
}

// CacheReport is what reading all content has found.
type CacheReport struct {
	Checked int              `json:"checked"` // files of content
	Bytes   int64            `json:"bytes"`   // that were read
	Damaged []DamagedContent `json:"damaged"` // not kept any more
}

// DamagedContent was not what its digest says.
type DamagedContent struct {
	Digest  shared.Digest `json:"digest"`            // that it should have had
	Package string        `json:"package,omitempty"` // that it belongs to, if that is known
	Version string        `json:"version,omitempty"` // of the package
	Own     bool          `json:"own"`               // this node has published it
}

// NewCacheReport takes over a report.
func NewCacheReport(r shared.CacheReport) CacheReport {
	doc := CacheReport{Checked: r.Checked, Bytes: r.Bytes, Damaged: []DamagedContent{}}
	for _, d := range r.Damaged {
		doc.Damaged = append(doc.Damaged, DamagedContent{d.Digest, d.Name, d.Version, d.Own})
	}
	return doc
}

// Own lists damaged packages of this node, each once.
func (d CacheReport) Own() (names []string) {
	seen := map[string]bool{}
	for _, damaged := range d.Damaged {
		name := damaged.Package + "@" + damaged.Version
		if damaged.Own && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// Text implements [Document].
func (d CacheReport) Text(p *Page) {
	rows := make([][]string, 0, len(d.Damaged))
	for _, damaged := range d.Damaged {
		name := "(not known)"
		if damaged.Package != "" {
			name = damaged.Package + "@" + damaged.Version
		}
		rows = append(rows, []string{name, string(damaged.Digest)})
	}
	if len(rows) > 0 {
		p.Table([]string{"DAMAGED", "DIGEST"}, rows)
	}
	sound := d.Checked - len(d.Damaged)
	p.Line("%s, %s: %s as they should be.", plural(d.Checked, "file", "files"), Bytes(d.Bytes), soundness(sound, d.Checked))
}

func soundness(sound, all int) string {
	if sound == all {
		return "all are"
	}
	return strconv.Itoa(sound) + " are"
}

// PinnedContent is content that is pinned from now on, or not any more.
type PinnedContent struct {
	Packages []CachePin `json:"packages"` // that were named
	Pinned   bool       `json:"pinned"`   // they are pinned now
	Fetched  int64      `json:"fetched"`  // bytes that came from peers
}

// NewPinnedContent takes over what was changed.
func NewPinnedContent(pins []shared.PinnedContent, pinned bool, fetched int64) PinnedContent {
	return PinnedContent{Packages: cachePins(pins), Pinned: pinned, Fetched: fetched}
}

// Text implements [Document].
func (d PinnedContent) Text(p *Page) {
	for _, pin := range d.Packages {
		what := pin.Package + "@" + pin.Version
		switch {
		case d.Pinned && pin.Packages > 1:
			p.Line("%s and the %s that it needs are pinned: %s.", what, plural(pin.Packages-1, "package", "packages"), Bytes(pin.Bytes))
		case d.Pinned:
			p.Line("%s is pinned: %s.", what, Bytes(pin.Bytes))
		default:
			p.Line("%s is not pinned any more.", what)
		}
	}
}
