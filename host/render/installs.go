package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Installed is one package of an install.
type Installed struct {
	Package      string             `json:"package"`       // name of the package
	Version      string             `json:"version"`       // semantic version
	Path         string             `json:"path"`          // absolute path of the package's folder
	Dependencies []string           `json:"dependencies"`  // names of packages that it needs
	Publisher    shared.PublisherID `json:"publisher"`     // ID of the publisher that signed it
	Digest       shared.Digest      `json:"digest"`        // of the canonical archive, as sha256:HEX
	Title        string             `json:"title"`         // human name, if the manifest has one
	Description  string             `json:"description"`   // what it is, in its author's words
	Requested    bool               `json:"requested"`     // named by the user, and not only a dependency
	Unchanged    bool               `json:"unchanged"`     // was there already with this content
	FirstUse     bool               `json:"first_use"`     // its publisher was pinned by this install
	FetchedBytes int64              `json:"fetched_bytes"` // bytes that came from other peers
	Peers        int                `json:"peers"`         // peers that contributed
}

// Install is the result of an install. The first four fields are those of the
// first package that was asked for.
type Install struct {
	Package      string      `json:"package"`               // name of the package
	Version      string      `json:"version"`               // semantic version
	Path         string      `json:"path"`                  // absolute path of the package's folder
	Dependencies []string    `json:"dependencies"`          // names of packages that it needs
	Packages     []Installed `json:"packages"`              // in order
	Total        int         `json:"total"`                 // how many there are in all
	Lockfile     string      `json:"lockfile"`              // absolute path of the lockfile
	Saved        []string    `json:"saved"`                 // names entered into ggen.toml
	DryRun       bool        `json:"dry_run"`               // nothing was changed
	Diagnostics  []Remark    `json:"diagnostics,omitempty"` // remarks beside the result

	root string
}

// InstallFacts is what the host adds to an engine's receipt.
type InstallFacts struct {
	First    string   // name of the first package that was asked for
	Root     string   // folder below which packages lie
	Lockfile string   // absolute path
	Saved    []string // names that are in ggen.toml now
	DryRun   bool
}

// NewInstall takes over a receipt.
func NewInstall(r shared.InstallReceipt, facts InstallFacts) Install {
	doc := Install{
		Dependencies: []string{}, Packages: []Installed{}, Total: len(r.Packages), Lockfile: facts.Lockfile,
		Saved: orEmpty(facts.Saved), DryRun: facts.DryRun, Diagnostics: remarks(r.Diagnostics), root: facts.Root,
	}
	for _, pkg := range r.Packages {
		entry := Installed{
			Package: pkg.Name, Version: pkg.Version, Path: pkg.Path, Dependencies: orEmpty(pkg.Dependencies), Publisher: pkg.Publisher,
			Digest: pkg.Digest, Title: pkg.Title, Description: pkg.Description, Requested: pkg.Requested, Unchanged: pkg.Unchanged,
			FirstUse: pkg.FirstUse, FetchedBytes: pkg.Fetched, Peers: pkg.Peers,
		}
		if pkg.Name == facts.First {
			doc.Package, doc.Version, doc.Path, doc.Dependencies = entry.Package, entry.Version, entry.Path, entry.Dependencies
		}
		doc.Packages = append(doc.Packages, entry)
	}
	return doc
}

// Text implements [Document].
func (d Install) Text(p *Page) {
	rows := make([][]string, 0, len(d.Packages))
	changed, first := 0, []Installed{}
	for _, pkg := range d.Packages {
		if !pkg.Unchanged {
			changed++
		}
		if pkg.FirstUse {
			first = append(first, pkg)
		}
		rows = append(rows, []string{pkg.Package, pkg.Version, pkg.Publisher.Short(), pkg.how(d.DryRun)})
	}
	p.Table([]string{"NAME", "VERSION", "PUBLISHER", "HOW"}, rows)
	if p.Quiet {
		return
	}
	p.Line("")
	switch {
	case d.DryRun:
		p.Line("%s would be installed below %s; nothing was touched.", plural(changed, "package", "packages"), d.root)
	case changed == 0:
		p.Line("Everything was in place already, below %s.", d.root)
	default:
		p.Line("%s installed below %s.", plural(changed, "package", "packages"), d.root)
	}
	if len(first) > 0 {
		what := "From now on these names are accepted from these publishers only"
		if d.DryRun {
			what = "On first use these names would be bound to their publishers"
		}
		p.Line("%s: %s.", what, strings.Join(publishers(first), ", "))
	}
	if len(d.Saved) > 0 {
		p.Line("In ggen.toml: %s.", strings.Join(d.Saved, ", "))
	}
}

// InstallPlan is what an install is going to do.
type InstallPlan struct{ Install }

// NewInstallPlan takes over the receipt of a dry run; root is where packages go.
func NewInstallPlan(r shared.InstallReceipt, root string) InstallPlan {
	return InstallPlan{NewInstall(r, InstallFacts{Root: root, DryRun: true})}
}

// Empty says that everything is in place already.
func (d InstallPlan) Empty() bool {
	return !slices.ContainsFunc(d.Packages, func(pkg Installed) bool { return !pkg.Unchanged })
}

// Text implements [Document].
func (d InstallPlan) Text(p *Page) {
	if d.Empty() {
		return
	}
	p.Line("This will be installed below %s:", d.root)
	p.Line("")
	var rows [][]string
	first := map[shared.PublisherID][]string{}
	for _, pkg := range d.Packages {
		if pkg.Unchanged {
			continue
		}
		rows = append(rows, []string{pkg.Package, pkg.Version, string(pkg.Publisher), pkg.how(true)})
		if pkg.FirstUse {
			first[pkg.Publisher] = append(first[pkg.Publisher], pkg.Package)
		}
	}
	p.Table([]string{"NAME", "VERSION", "PUBLISHER", "HOW"}, rows)
	p.Line("")
	for _, id := range slices.Sorted(maps.Keys(first)) {
		p.Line("Nobody on this machine has used publisher %s before. Installing makes it the only one for %s.", id.Short(), strings.Join(first[id], ", "))
	}
	if len(first) > 0 {
		p.Line("")
	}
}

func (i Installed) how(dryRun bool) string {
	var how []string
	switch {
	case i.Unchanged:
		how = append(how, "in place")
	case dryRun:
		how = append(how, "new")
	case i.FetchedBytes > 0:
		how = append(how, fmt.Sprintf("%s from %s", Bytes(i.FetchedBytes), plural(i.Peers, "peer", "peers")))
	default:
		how = append(how, "from local content")
	}
	if !i.Requested {
		how = append(how, "as a dependency")
	}
	if i.FirstUse {
		how = append(how, "publisher's first use")
	}
	return strings.Join(how, ", ")
}

// Listed is one installed package.
type Listed struct {
	Name         string             `json:"name"`         // name of the package
	Version      string             `json:"version"`      // semantic version
	Title        string             `json:"title"`        // human name, if the manifest has one
	Description  string             `json:"description"`  // what it is, in its author's words
	Publisher    shared.PublisherID `json:"publisher"`    // ID of the publisher that signed it
	Digest       shared.Digest      `json:"digest"`       // of the canonical archive, as sha256:HEX
	Dependencies []string           `json:"dependencies"` // names of packages that it needs
	Path         string             `json:"path"`         // absolute path of the package's folder
	Requested    bool               `json:"requested"`    // named by the user, and not only a dependency
	Present      bool               `json:"present"`      // its folder is there
}

// List is what is installed.
type List struct {
	Packages []Listed `json:"packages"` // in order
	Total    int      `json:"total"`    // how many there are in all
	Root     string   `json:"root"`     // folder below which packages are installed
}

// Text implements [Document].
func (d List) Text(p *Page) {
	rows := make([][]string, 0, len(d.Packages))
	for _, pkg := range d.Packages {
		text := cmp.Or(pkg.Description, pkg.Title)
		if !pkg.Present {
			text = "(its folder is missing) " + text
		}
		rows = append(rows, []string{pkg.Name, pkg.Version, pkg.Publisher.Short(), text})
	}
	p.Table([]string{"NAME", "VERSION", "PUBLISHER", "DESCRIPTION"}, rows)
	if len(rows) == 0 {
		p.Line("No packages are installed in %s.", d.Root)
	}
}

// Removed is a package that was removed.
type Removed struct {
	Name    string `json:"name"`    // name of the package
	Version string `json:"version"` // semantic version
	Path    string `json:"path"`    // absolute path of the folder that was removed
}

// Remove is the result of removing packages.
type Remove struct {
	Removed []Removed `json:"removed"` // what was removed
	Total   int       `json:"total"`   // how many there are in all
	Unused  []string  `json:"unused"`  // dependencies that nothing needs any more
}

// Text implements [Document].
func (d Remove) Text(p *Page) {
	for _, pkg := range d.Removed {
		p.Line("Removed %s %s", pkg.Name, pkg.Version)
	}
}

// Verified is the check of one installed package.
type Verified struct {
	Name     string        `json:"name"`     // name of the package
	Version  string        `json:"version"`  // semantic version
	OK       bool          `json:"ok"`       // no difference and no problem was found
	Expected shared.Digest `json:"expected"` // digest that it should have
	Found    shared.Digest `json:"found"`    // digest that it has; empty if it cannot be told
	Modified []string      `json:"modified"` // files whose content differs, relative paths
	Missing  []string      `json:"missing"`  // files that are not there, relative paths
	Extra    []string      `json:"extra"`    // files that do not belong there, relative paths
	Problem  string        `json:"problem"`  // what else is wrong; empty if nothing
}

// Verify is the result of checking installed packages.
type Verify struct {
	Packages    []Verified `json:"packages"`              // in order
	Total       int        `json:"total"`                 // how many there are in all
	OK          bool       `json:"ok"`                    // no difference and no problem was found
	Diagnostics []Remark   `json:"diagnostics,omitempty"` // remarks beside the result
}

// NewVerify takes over a report.
func NewVerify(report shared.VerifyReport) Verify {
	doc := Verify{Packages: []Verified{}, Total: len(report.Packages), OK: true, Diagnostics: remarks(report.Diagnostics)}
	for _, r := range report.Packages {
		doc.OK = doc.OK && r.OK
		doc.Packages = append(doc.Packages, Verified{
			Name: r.Name, Version: r.Version, OK: r.OK, Expected: r.Expected, Found: r.Found,
			Modified: orEmpty(r.Modified), Missing: orEmpty(r.Missing), Extra: orEmpty(r.Extra), Problem: r.Problem,
		})
	}
	return doc
}

// Differing names the packages that are not as they were installed.
func (d Verify) Differing() []string {
	var names []string
	for _, pkg := range d.Packages {
		if !pkg.OK {
			names = append(names, pkg.Name)
		}
	}
	return names
}

// Text implements [Document].
func (d Verify) Text(p *Page) {
	for _, pkg := range d.Packages {
		if pkg.OK {
			if !p.Quiet {
				p.Line("ok       %s %s", pkg.Name, pkg.Version)
			}
			continue
		}
		p.Heading("DIFFERS  %s %s", pkg.Name, pkg.Version)
		if pkg.Problem != "" {
			p.Line("  %s", Clean(pkg.Problem))
		}
		for _, group := range []struct {
			label string
			paths []string
		}{{"modified", pkg.Modified}, {"missing", pkg.Missing}, {"extra", pkg.Extra}} {
			for _, path := range group.paths {
				p.Line("  %-8s %s", group.label, Clean(path))
			}
		}
	}
}
