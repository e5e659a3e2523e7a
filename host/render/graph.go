package render

import (
	"fmt"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Tree is what is installed, as packages and what they need.
type Tree struct {
	Packages []TreePackage `json:"packages"` // each followed by what it needs, one deeper
	Total    int           `json:"total"`    // installed packages in all

	roots []TreeNode
}

// TreePackage is a package at a place in a tree.
type TreePackage struct {
	Name     string `json:"name"`               // of the package
	Version  string `json:"version"`            // that is installed; empty if it is missing
	Depth    int    `json:"depth"`              // 0 at the top
	Repeated bool   `json:"repeated,omitempty"` // what it needs was shown before
	Missing  bool   `json:"missing,omitempty"`  // ggen.lock does not list it
}

// TreeNode is a package with what it needs, by name.
type TreeNode struct {
	Name, Version     string
	Repeated, Missing bool
	Dependencies      []TreeNode
}

// NewTree takes over trees; total is how many packages are installed.
func NewTree(roots []TreeNode, total int) Tree {
	doc := Tree{Packages: []TreePackage{}, Total: total, roots: roots}
	var add func(nodes []TreeNode, depth int)
	add = func(nodes []TreeNode, depth int) {
		for _, n := range nodes {
			doc.Packages = append(doc.Packages, TreePackage{n.Name, n.Version, depth, n.Repeated, n.Missing})
			add(n.Dependencies, depth+1)
		}
	}
	add(roots, 0)
	return doc
}

// Text implements [Document].
func (d Tree) Text(p *Page) {
	for _, n := range d.roots {
		p.Line("%s", n.label())
		n.below(p, "")
	}
	if len(d.roots) == 0 {
		p.Line("Nothing is installed.")
	}
}

func (n TreeNode) label() string {
	text := n.Name + " " + n.Version
	switch {
	case n.Missing:
		text = n.Name + " (not in ggen.lock)"
	case n.Repeated:
		text += " (see above)"
	}
	return text
}

func (n TreeNode) below(p *Page, indent string) {
	for i, dep := range n.Dependencies {
		branch, next := "├── ", "│   "
		if i == len(n.Dependencies)-1 {
			branch, next = "└── ", "    "
		}
		p.Line("%s%s%s", indent, branch, dep.label())
		dep.below(p, indent+next)
	}
}

// Why says what an installed package is there for.
type Why struct {
	Package   string     `json:"package"`   // name of the package
	Version   string     `json:"version"`   // that is installed
	Requested bool       `json:"requested"` // somebody asked for it
	Paths     [][]string `json:"paths"`     // ways to it from packages that were asked for, at most 20
}

// Text implements [Document].
func (d Why) Text(p *Page) {
	if d.Requested {
		p.Line("%s %s was asked for.", d.Package, d.Version)
	}
	for _, path := range d.Paths {
		p.Line("%s", strings.Join(path, " → "))
	}
	if !d.Requested && len(d.Paths) == 0 {
		p.Line("Nothing needs %s %s any more.", d.Package, d.Version)
	}
}

// Outdated are installed packages of which there are newer releases.
type Outdated struct {
	Packages []OutdatedPackage `json:"packages"` // by name
	Total    int               `json:"total"`    // how many there are
}

// OutdatedPackage is one of them.
type OutdatedPackage struct {
	Name      string             `json:"name"`      // of the package
	Current   string             `json:"current"`   // version that is installed
	Wanted    string             `json:"wanted"`    // version that update would install
	Latest    string             `json:"latest"`    // newest one of its publisher, without pre-releases
	Publisher shared.PublisherID `json:"publisher"` // ID of who signs it
}

// Text implements [Document].
func (d Outdated) Text(p *Page) {
	if d.Total == 0 {
		p.Line("Everything is up to date.")
		return
	}
	rows := make([][]string, 0, len(d.Packages))
	for _, pkg := range d.Packages {
		rows = append(rows, []string{pkg.Name, pkg.Current, pkg.Wanted, pkg.Latest, pkg.Publisher.Short()})
	}
	p.Table([]string{"NAME", "CURRENT", "WANTED", "LATEST", "PUBLISHER"}, rows)
}

// Update is what an update changed, or would change.
type Update struct {
	Changes []Move `json:"changes"` // by name
	Total   int    `json:"total"`   // how many there are
	DryRun  bool   `json:"dry_run"` // nothing was touched
}

// Move is a package that moved from one version to another.
type Move struct {
	Name      string             `json:"name"`      // of the package
	From      string             `json:"from"`      // version of before; empty if it is new
	To        string             `json:"to"`        // version of now
	Publisher shared.PublisherID `json:"publisher"` // ID of who signs it
}

// NewUpdate takes over what moved.
func NewUpdate(changes []Move, dryRun bool) Update {
	return Update{Changes: changes, Total: len(changes), DryRun: dryRun}
}

// Text implements [Document].
func (d Update) Text(p *Page) {
	if d.Total == 0 {
		p.Line("Everything is up to date.")
		return
	}
	rows := make([][]string, 0, len(d.Changes))
	for _, change := range d.Changes {
		from := change.From
		if from == "" {
			from = "(new)"
		}
		rows = append(rows, []string{change.Name, from, change.To, change.Publisher.Short()})
	}
	p.Table([]string{"NAME", "FROM", "TO", "PUBLISHER"}, rows)
	if p.Quiet {
		return
	}
	p.Line("")
	done := "Moved"
	if d.DryRun {
		done = "Would move"
	}
	p.Line("%s", fmt.Sprintf("%s %s.", done, plural(d.Total, "package", "packages")))
}
