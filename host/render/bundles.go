package render

import (
	"fmt"
	"strconv"
	"time"

	"ggen.dev/marketplace/shared"
)

// Bundled is a package in a bundle.
type Bundled struct {
	Package   string             `json:"package"`   // name of the package
	Version   string             `json:"version"`   // semantic version
	Publisher shared.PublisherID `json:"publisher"` // ID of who signed it
	Digest    shared.Digest      `json:"digest"`    // of the canonical archive, as sha256:HEX
}

func newBundled(packages []shared.LockedPackage) []Bundled {
	out := make([]Bundled, 0, len(packages))
	for _, pkg := range packages {
		out = append(out, Bundled{pkg.Name, pkg.Version, pkg.Publisher, pkg.Digest})
	}
	return out
}

func tableOf(p *Page, packages []Bundled) {
	rows := make([][]string, 0, len(packages))
	for _, pkg := range packages {
		rows = append(rows, []string{pkg.Package, pkg.Version, pkg.Publisher.Short()})
	}
	p.Table([]string{"NAME", "VERSION", "PUBLISHER"}, rows)
}

// Export is a bundle that was written.
type Export struct {
	File        string    `json:"file"`                  // absolute path
	Bytes       int64     `json:"bytes"`                 // of the file
	Packages    []Bundled `json:"packages"`              // in it, dependencies before dependants
	Total       int       `json:"total"`                 // how many there are
	Diagnostics []Remark  `json:"diagnostics,omitempty"` // remarks beside the result
}

// NewExport takes over a receipt.
func NewExport(r shared.ExportReceipt, file string) Export {
	return Export{File: file, Bytes: r.Bytes, Packages: newBundled(r.Packages), Total: len(r.Packages), Diagnostics: remarks(r.Diagnostics)}
}

// Text implements [Document].
func (d Export) Text(p *Page) {
	tableOf(p, d.Packages)
	if !p.Quiet {
		p.Line("")
		p.Line("Wrote %s, %s.", d.File, Bytes(d.Bytes))
	}
}

// Import is a bundle that was taken over.
type Import struct {
	Packages []Bundled `json:"packages"` // whose content is here now
	Total    int       `json:"total"`    // how many there are
	Entries  int64     `json:"entries"`  // of publishers' logs that were not known before
}

// NewImport takes over a receipt.
func NewImport(r shared.ImportReceipt) Import {
	return Import{Packages: newBundled(r.Packages), Total: len(r.Packages), Entries: r.Entries}
}

// Text implements [Document].
func (d Import) Text(p *Page) {
	tableOf(p, d.Packages)
	if !p.Quiet {
		p.Line("")
		p.Line("%s here now; %s new to this peer.", plural(d.Total, "package is", "packages are"), plural(int(d.Entries), "log entry was", "log entries were"))
	}
}

// SBOM is a bill of materials that was written.
type SBOM struct {
	File       string `json:"file"`       // absolute path
	Format     string `json:"format"`     // name and version
	Components int    `json:"components"` // packages in it
}

// Text implements [Document].
func (d SBOM) Text(p *Page) {
	p.Line("Wrote %s: %s, %s.", d.File, d.Format, plural(d.Components, "package", "packages"))
}

// Provenance is the way from a digest to a publisher; each step was verified.
type Provenance struct {
	Name       string             `json:"name"`           // of the package
	Version    string             `json:"version"`        // semantic version
	Publisher  shared.PublisherID `json:"publisher"`      // full ID
	File       *File              `json:"file,omitempty"` // that was asked about; absent if none was
	Index      shared.Digest      `json:"index"`          // digest of the list of files
	Archive    shared.Digest      `json:"archive"`        // digest of the canonical archive
	Entry      int64              `json:"entry"`          // position of the release in the publisher's log, from 0
	EntryHash  shared.Digest      `json:"entry_hash"`     // its leaf hash, as in RFC 6962
	EntryTime  *time.Time         `json:"entry_time"`     // by the publisher's clock
	PathLength int                `json:"path_length"`    // hashes between the leaf and the log's root hash
	LogSize    int64              `json:"log_size"`       // entries under the newest signed head
	LogHash    shared.Digest      `json:"log_hash"`       // its root hash, as in RFC 6962
	HeadTime   *time.Time         `json:"head_time"`      // when the head was signed, by the publisher's clock
	Roots      []ProvenRoot       `json:"roots"`          // documents that say whose keys count, the newest last
	Rule       shared.TrustRule   `json:"rule"`           // why the bare name means this publisher; empty if it does not
}

// ProvenRoot is a root document.
type ProvenRoot struct {
	Version   int           `json:"version"`            // 1, 2, 3…
	Digest    shared.Digest `json:"digest"`             // of what its keys signed; that of the first is the publisher's ID
	Keys      []string      `json:"keys"`               // Ed25519 public keys in base64
	Threshold int           `json:"threshold"`          // signatures that are needed
	Recovers  bool          `json:"recovers,omitempty"` // the recovery key of the document before has signed it, and not its keys
}

// NewProvenance takes over a proof.
func NewProvenance(proven shared.Provenance) Provenance {
	doc := Provenance{
		Name: proven.Name, Version: proven.Version, Publisher: proven.Publisher, Index: proven.Index, Archive: proven.Archive,
		Entry: proven.Entry, EntryHash: proven.EntryHash, EntryTime: stamp(proven.EntryTime), PathLength: proven.PathLength,
		LogSize: proven.LogSize, LogHash: proven.LogHash, HeadTime: stamp(proven.HeadTime), Rule: proven.Rule, Roots: []ProvenRoot{},
	}
	if proven.File.Path != "" {
		file := File(proven.File)
		doc.File = &file
	}
	for _, root := range proven.Roots {
		doc.Roots = append(doc.Roots, ProvenRoot(root))
	}
	return doc
}

// Text implements [Document].
func (d Provenance) Text(p *Page) {
	p.Heading("%s %s, verified step by step", d.Name, d.Version)
	p.Line("")
	step := 0
	say := func(format string, args ...any) {
		step++
		p.Line("%s. "+format, append([]any{strconv.Itoa(step)}, args...)...)
	}
	if d.File != nil {
		say("The file %s has the digest %s.", Clean(d.File.Path), d.File.Digest)
		say("The list of the package's files says so; its digest is %s.", d.Index)
	}
	say("The release says that its files are listed in %s, and that its archive is %s.", d.Index, d.Archive)
	say("The release is entry %d of the publisher's log%s; its hash is %s.", d.Entry, when(", dated ", d.EntryTime), d.EntryHash)
	say("With %s the entry's hash leads to %s, the root hash of the log of %s.", plural(d.PathLength, "other hash", "other hashes"), d.LogHash, plural(int(d.LogSize), "entry", "entries"))
	newest := ProvenRoot{Threshold: 1}
	if len(d.Roots) > 0 {
		newest = d.Roots[len(d.Roots)-1]
	}
	say("That root hash is signed%s by %s.", when(" on ", d.HeadTime), keys(newest))
	for i := len(d.Roots) - 1; i > 0; i-- {
		if d.Roots[i].Recovers {
			say("Root document %d names these keys (%s); it is a recovery, signed by them and by the recovery key that document %d names.", d.Roots[i].Version, d.Roots[i].Digest, d.Roots[i-1].Version)
			continue
		}
		say("Root document %d names these keys (%s); it is signed by them and by those of document %d: %s.", d.Roots[i].Version, d.Roots[i].Digest, d.Roots[i-1].Version, keys(d.Roots[i-1]))
	}
	say("Root document 1 names these keys. Its hash is the publisher's ID: %s.", d.Publisher)
	switch d.Rule {
	case shared.RulePin:
		say("The name %s is pinned to this publisher here.", d.Name)
	case shared.RuleCatalogue:
		say("A trust catalogue that is followed here says that %s is this publisher's.", d.Name)
	case shared.RuleOnly:
		say("Nobody else offers a package %s. Nobody here has vouched for this publisher yet.", d.Name)
	default:
		say("The name %s does not mean this publisher here.", d.Name)
	}
}

func when(before string, t *time.Time) string {
	if t == nil {
		return ""
	}
	return before + t.Format(time.RFC3339)
}

func keys(root ProvenRoot) string {
	text := ""
	for i, key := range root.Keys {
		if i > 0 {
			text += ", "
		}
		text += Clean(key)
	}
	if len(root.Keys) == 1 {
		return "the key " + text
	}
	return fmt.Sprintf("%d of the keys %s", root.Threshold, text)
}
