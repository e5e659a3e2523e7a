package render

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"ggen.dev/marketplace/shared"
)

// Remark is a diagnostic in JSON.
type Remark struct {
	Severity shared.Severity `json:"severity"`         // info or warning
	Reason   shared.Reason   `json:"reason,omitempty"` // stable name of what went wrong; see the exit codes in CLI.md
	Message  string          `json:"message"`          // what happened, in one line for people
	Hint     string          `json:"hint,omitempty"`   // what to do next
}

// remarks go into a document beside being printed on standard error.
func remarks(diagnostics []shared.Diagnostic) []Remark {
	var list []Remark
	for _, d := range diagnostics {
		list = append(list, Remark(d))
	}
	return list
}

// Package is a line of a search.
type Package struct {
	Name        string             `json:"name"`              // name of the package
	Version     string             `json:"version"`           // semantic version
	Description string             `json:"description"`       // what it is, in its author's words
	Author      string             `json:"author"`            // as the manifest states it
	Publisher   shared.PublisherID `json:"publisher"`         // ID of the publisher that signed it
	Title       string             `json:"title"`             // human name, if the manifest has one
	Category    string             `json:"category"`          // as the manifest states it
	License     string             `json:"license"`           // as the manifest states it, usually an SPDX expression
	Tags        []string           `json:"tags"`              // in the manifest's order
	PublishedAt *time.Time         `json:"published_at"`      // by the publisher's clock; null if unknown
	Score       float64            `json:"score"`             // of this search; higher is better
	Deprecated  bool               `json:"deprecated"`        // its publisher advises against it
	Matches     []string           `json:"matches,omitempty"` // words of it, in lower case, that the search has found
}

func newPackage(s shared.PackageSummary) Package {
	return Package{
		Name: s.Name, Version: s.Version, Description: s.Description, Author: s.Author, Publisher: s.Publisher,
		Title: s.Title, Category: s.Category, License: s.License, Tags: orEmpty(s.Tags), PublishedAt: stamp(s.PublishedAt), Score: s.Score,
		Deprecated: s.Deprecated, Matches: s.Matches,
	}
}

// Search is the result of a search.
type Search struct {
	Packages    []Package `json:"packages"`              // best match first
	Total       int       `json:"total"`                 // how many there are in all
	Diagnostics []Remark  `json:"diagnostics,omitempty"` // remarks beside the result
}

// NewSearch takes over a result.
func NewSearch(result shared.SearchResult) Search {
	doc := Search{Packages: []Package{}, Total: result.Total, Diagnostics: remarks(result.Diagnostics)}
	for _, s := range result.Packages {
		doc.Packages = append(doc.Packages, newPackage(s))
	}
	return doc
}

// Text implements [Document].
func (d Search) Text(p *Page) {
	rows := make([][]string, 0, len(d.Packages))
	var matches []string
	for _, pkg := range d.Packages {
		matches = append(matches, pkg.Matches...)
		description := cmp.Or(pkg.Description, pkg.Title)
		if pkg.Deprecated {
			description = "(deprecated) " + description
		}
		rows = append(rows, []string{pkg.Name, pkg.Version, pkg.Publisher.Short(), description})
	}
	p.highlight = matches
	p.Table([]string{"NAME", "VERSION", "PUBLISHER", "DESCRIPTION"}, rows)
	switch {
	case d.Total == 0:
		p.Line("No package was found.")
	case p.Quiet:
	case d.Total > len(d.Packages):
		p.Line("")
		p.Line("%d of %s; --limit and --offset show more.", len(d.Packages), plural(d.Total, "package", "packages"))
	}
}

// Dependency is a requirement in JSON.
type Dependency struct {
	Publisher  shared.PublisherID `json:"publisher,omitempty"` // ID of the publisher that it has to come from; absent if any
	Name       string             `json:"name"`                // name of the package
	Constraint string             `json:"constraint"`          // semver range; empty for any release
	Optional   bool               `json:"optional"`            // installed only when asked for
}

func newDependencies(deps []shared.Dependency) []Dependency {
	list := make([]Dependency, 0, len(deps))
	for _, d := range deps {
		list = append(list, Dependency(d))
	}
	return list
}

func (d Dependency) String() string {
	text := shared.Ref{Publisher: shared.PublisherID(d.Publisher.Short()), Name: d.Name, Constraint: d.Constraint}.String()
	if d.Optional {
		text += " (optional)"
	}
	return text
}

// Version is a release in a list of them.
type Version struct {
	Version     string        `json:"version"`      // semantic version
	Digest      shared.Digest `json:"digest"`       // of the canonical archive, as sha256:HEX
	Size        int64         `json:"size"`         // of the canonical archive, in bytes
	PublishedAt *time.Time    `json:"published_at"` // by the publisher's clock; null if unknown
	FirstSeen   *time.Time    `json:"first_seen"`   // when this peer learnt of it; null if unknown
	Yanked      bool          `json:"yanked"`       // withdrawn by its publisher: only locked installs still use it
}

// Info is what is known of one package.
type Info struct {
	Package
	Digest       shared.Digest      `json:"digest"`                // of the canonical archive, as sha256:HEX
	Size         int64              `json:"size"`                  // of the canonical archive, in bytes
	FileCount    int                `json:"file_count"`            // files in the archive
	Keywords     []string           `json:"keywords"`              // in the manifest's order
	Repository   string             `json:"repository"`            // where its sources are
	Dependencies []Dependency       `json:"dependencies"`          // what it needs
	Versions     []Version          `json:"versions"`              // releases, newest first
	Readme       string             `json:"readme,omitempty"`      // path in the package; this and the next three are known while this peer has the content
	Ggen         string             `json:"ggen,omitempty"`        // range of versions of ggen that can use it; absent for any
	Inputs       []Input            `json:"inputs"`                // what the templates ask for
	Extra        map[string]string  `json:"extra"`                 // keys of the manifest that are not known here
	Held         bool               `json:"held"`                  // this peer has the content
	Providers    int                `json:"providers"`             // other peers known to hold it; -1 when nobody was asked
	Holders      int                `json:"holders"`               // other peers that hold it, about: an estimate that fades with time; -1 if unknown
	PinnedTo     shared.PublisherID `json:"pinned_to"`             // publisher that this name is pinned to; empty if none
	Deprecation  *Deprecation       `json:"deprecation,omitempty"` // absent if it is not deprecated
	Diagnostics  []Remark           `json:"diagnostics,omitempty"` // remarks beside the result
}

// Deprecation is a publisher's advice against a package.
type Deprecation struct {
	Successor string     `json:"successor"` // what to use instead; empty if nothing is named
	Why       string     `json:"why"`       // in the publisher's words
	Since     *time.Time `json:"since"`     // by the publisher's clock; null if unknown
}

// NewInfo takes over a package's details.
func NewInfo(d shared.PackageDetails) Info {
	doc := Info{
		Package: newPackage(d.PackageSummary), Digest: d.Digest, Size: d.Size, FileCount: d.FileCount, Keywords: orEmpty(d.Keywords),
		Repository: d.Repository, Dependencies: newDependencies(d.Dependencies), Versions: []Version{}, Extra: d.Extra,
		Readme: d.Readme, Ggen: d.Ggen, Inputs: newInputs(d.Inputs),
		Held: d.Held, Providers: d.Providers, Holders: d.Holders, PinnedTo: d.PinnedTo, Diagnostics: remarks(d.Diagnostics),
	}
	if d.Deprecation != nil {
		doc.Deprecation = &Deprecation{d.Deprecation.Successor, d.Deprecation.Why, stamp(d.Deprecation.Since)}
	}
	if doc.Extra == nil {
		doc.Extra = map[string]string{}
	}
	for _, v := range d.Versions {
		doc.Versions = append(doc.Versions, Version{v.Version, v.Digest, v.Size, stamp(v.PublishedAt), stamp(v.FirstSeen), v.Yanked})
	}
	return doc
}

func (d Deprecation) String() string {
	text := "It is deprecated by its publisher"
	if d.Why != "" {
		text += ": " + Clean(d.Why)
	}
	if d.Successor != "" {
		text += "; use " + Clean(d.Successor) + " instead"
	}
	return text
}

// Text implements [Document].
func (d Info) Text(p *Page) {
	p.Heading("%s %s", d.Name, d.Version)
	if d.Title != "" && Clean(d.Title) != d.Name {
		p.Line("%s", Clean(d.Title))
	}
	if d.Description != "" {
		p.Line("%s", Clean(d.Description))
	}
	if d.Deprecation != nil {
		p.Line("%s", d.Deprecation)
	}
	p.Line("")
	var deps, versions []string
	for _, dep := range d.Dependencies {
		deps = append(deps, dep.String())
	}
	for _, v := range d.Versions {
		text := v.Version
		if v.Yanked {
			text += " (yanked)"
		}
		versions = append(versions, text)
	}
	held := "not here"
	if d.Held {
		held = "here"
	}
	if d.Providers >= 0 {
		held += ", and with " + plural(d.Providers, "other peer", "other peers")
	}
	holders := ""
	if d.Holders >= 0 {
		holders = "about " + plural(d.Holders, "other peer", "other peers")
	}
	published := ""
	if d.PublishedAt != nil {
		published = day(*d.PublishedAt)
	}
	pinned := ""
	if d.PinnedTo != "" {
		pinned = "to this publisher"
		if d.PinnedTo != d.Publisher {
			pinned = "to another publisher: " + string(d.PinnedTo)
		}
	}
	p.Fields(
		"Publisher", string(d.Publisher), "Pinned", pinned, "Author", d.Author, "License", d.License, "Category", d.Category,
		"Tags", strings.Join(d.Tags, ", "), "Keywords", strings.Join(d.Keywords, ", "), "Repository", d.Repository,
		"Published", published, "Size", fmt.Sprintf("%s in %s", Bytes(d.Size), plural(d.FileCount, "file", "files")),
		"Digest", string(d.Digest), "Content", held, "Held by", holders, "Readme", d.Readme, "Needs", strings.Join(deps, ", "), "For ggen", d.Ggen, "Versions", strings.Join(versions, ", "),
	)
	if len(d.Inputs) > 0 {
		p.Line("")
		p.Line("Inputs of the templates:")
		for _, input := range d.Inputs {
			p.Line("  %s", input)
		}
	}
	if len(d.Extra) > 0 {
		p.Line("")
		p.Line("Also in the manifest:")
		for _, key := range sortedKeys(d.Extra) {
			p.Line("  %s = %s", Clean(key), Clean(d.Extra[key]))
		}
	}
}

// File is a file of a package.
type File struct {
	Path       string        `json:"path"`       // relative to the package, with slashes
	Size       int64         `json:"size"`       // in bytes
	Executable bool          `json:"executable"` // has the executable bit
	Digest     shared.Digest `json:"digest"`     // of the content, as sha256:HEX
}

// Publish is the result of publishing.
type Publish struct {
	Package      string             `json:"package"`               // name of the package
	Version      string             `json:"version"`               // semantic version
	Publisher    shared.PublisherID `json:"publisher"`             // ID of the publisher that signs it
	Digest       shared.Digest      `json:"digest"`                // of the canonical archive, as sha256:HEX
	Size         int64              `json:"size"`                  // of the canonical archive, in bytes
	Files        []File             `json:"files"`                 // of the package
	Dependencies []Dependency       `json:"dependencies"`          // what it needs
	LogSize      int64              `json:"log_size"`              // entries in the publisher's log that contain it
	Unchanged    bool               `json:"unchanged"`             // was there already with this content
	DryRun       bool               `json:"dry_run"`               // nothing was changed
	Announced    int                `json:"announced"`             // peers that it was announced to
	Recorded     int                `json:"recorded"`              // DHT records stored; 0 unless waited for
	Manifest     string             `json:"manifest,omitempty"`    // in its normal form, as TOML; only of a dry run
	Statement    json.RawMessage    `json:"statement,omitempty"`   // the log entry that would be signed; only of a dry run
	Diagnostics  []Remark           `json:"diagnostics,omitempty"` // remarks beside the result

	waited bool
}

// NewPublish takes over a receipt; waited says that it waited for the DHT records.
func NewPublish(r shared.PublishReceipt, waited bool) Publish {
	doc := Publish{
		Package: r.Package, Version: r.Version, Publisher: r.Publisher, Digest: r.Digest, Size: r.Size, Files: []File{},
		Dependencies: newDependencies(r.Dependencies), LogSize: r.LogSize, Unchanged: r.Unchanged, DryRun: r.DryRun,
		Announced: r.Announced, Recorded: r.Recorded, Diagnostics: remarks(r.Diagnostics), waited: waited,
	}
	for _, f := range r.Files {
		doc.Files = append(doc.Files, File(f))
	}
	if json.Valid([]byte(r.Statement)) {
		doc.Statement = json.RawMessage(r.Statement)
	}
	doc.Manifest = r.Manifest
	return doc
}

// Text implements [Document].
func (d Publish) Text(p *Page) {
	switch {
	case d.DryRun:
		p.Heading("%s %s would be published", d.Package, d.Version)
	case d.Unchanged:
		p.Heading("%s %s had been published before, with this very content", d.Package, d.Version)
	default:
		p.Heading("Published %s %s", d.Package, d.Version)
	}
	if p.Quiet {
		return
	}
	var deps []string
	for _, dep := range d.Dependencies {
		deps = append(deps, dep.String())
	}
	p.Fields("Publisher", string(d.Publisher), "Digest", string(d.Digest),
		"Size", fmt.Sprintf("%s in %s", Bytes(d.Size), plural(len(d.Files), "file", "files")), "Needs", strings.Join(deps, ", "))
	if d.DryRun || p.Verbose {
		rows := make([][]string, 0, len(d.Files))
		for _, f := range d.Files {
			mode := ""
			if f.Executable {
				mode = "x"
			}
			rows = append(rows, []string{Bytes(f.Size), mode, f.Path})
		}
		p.Line("")
		p.Table([]string{"SIZE", "MODE", "FILE"}, rows)
	}
	if d.DryRun {
		d.plan(p)
		return
	}
	reached := fmt.Sprintf("Announced to %s", plural(d.Announced, "peer", "peers"))
	if d.waited {
		reached += fmt.Sprintf("; %s in the DHT", plural(d.Recorded, "record", "records"))
	}
	p.Line("%s.", reached)
}

// plan shows what a dry run tells besides the files.
func (d Publish) plan(p *Page) {
	if d.Manifest != "" {
		p.Line("")
		p.Line("The manifest, as everybody will read it:")
		p.Line("")
		p.block(d.Manifest)
	}
	var statement bytes.Buffer
	if len(d.Statement) > 0 && json.Indent(&statement, d.Statement, "", "  ") == nil {
		p.Line("")
		p.Line("What would be signed:")
		p.Line("")
		p.block(statement.String())
	}
}

// publishers lists the distinct publishers of a list, shortened.
func publishers(packages []Installed) []string {
	var ids []string
	for _, pkg := range packages {
		if id := pkg.Publisher.Short(); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
