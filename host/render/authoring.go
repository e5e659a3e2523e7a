package render

import (
	"fmt"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// NewPackage is the result of writing a package to begin with.
type NewPackage struct {
	Package string   `json:"package"` // name of the package
	Kind    string   `json:"kind"`    // of its manifest: package, gpack or pack
	Path    string   `json:"path"`    // absolute folder
	Files   []string `json:"files"`   // paths below it
}

// Text implements [Document].
func (d NewPackage) Text(p *Page) {
	p.Heading("Wrote the package %s to %s", d.Package, d.Path)
	if p.Quiet {
		return
	}
	for _, file := range d.Files {
		p.Line("  %s", file)
	}
	p.Line("")
	p.Line("`ggen marketplace publish --dry-run` there shows what would be published.")
}

// Lint is the result of checking a package.
type Lint struct {
	Path     string    `json:"path"`     // absolute folder
	OK       bool      `json:"ok"`       // it can be published
	Findings []Finding `json:"findings"` // by place, at most 100
	Total    int       `json:"total"`    // how many there are
}

// Finding is one thing that is wrong with a package, or could be better.
type Finding struct {
	Severity shared.Severity `json:"severity"`         // error (it cannot be published), warning or info
	Rule     string          `json:"rule,omitempty"`   // stable name of what was checked
	File     string          `json:"file,omitempty"`   // path in the package; absent for the package as a whole
	Line     int             `json:"line,omitempty"`   // from 1; absent if it has none
	Column   int             `json:"column,omitempty"` // in bytes, from 1; absent if it has none
	Message  string          `json:"message"`          // what is wrong
	Fix      string          `json:"fix,omitempty"`    // what to do
}

// NewLint takes over what was found in a folder.
func NewLint(path string, findings []shared.Finding) Lint {
	doc := Lint{Path: path, OK: true, Findings: []Finding{}, Total: len(findings)}
	for _, f := range findings {
		doc.Findings = append(doc.Findings, Finding(f))
		doc.OK = doc.OK && f.Severity != shared.SeverityError
	}
	return doc
}

// Text implements [Document].
func (d Lint) Text(p *Page) {
	counts := map[shared.Severity]int{}
	for _, f := range d.Findings {
		counts[f.Severity]++
		where := shared.Finding(f).Where()
		if where == "" {
			where = d.Path
		}
		p.Line("%s: %s: %s", Clean(where), Clean(string(f.Severity)), Clean(f.Message))
		p.block(f.Fix)
	}
	switch {
	case p.Quiet:
	case d.Total == 0:
		p.Line("There is nothing to object to.")
	default:
		p.Line("%s, %s, %s.", plural(counts[shared.SeverityError], "error", "errors"),
			plural(counts[shared.SeverityWarning], "warning", "warnings"), plural(counts[shared.SeverityInfo], "remark", "remarks"))
	}
}

// Input is a value that a package's templates ask their user for.
type Input struct {
	Name        string `json:"name"`                  // of the templates' variable
	Type        string `json:"type"`                  // as the manifest states it, mostly string
	Required    bool   `json:"required"`              // it must be given
	Default     string `json:"default,omitempty"`     // what it is if it is not given
	Description string `json:"description,omitempty"` // what it means
}

func newInputs(inputs []shared.Input) []Input {
	out := make([]Input, 0, len(inputs))
	for _, input := range inputs {
		out = append(out, Input(input))
	}
	return out
}

func (i Input) String() string {
	about := []string{Clean(i.Type)}
	if i.Required {
		about = append(about, "required")
	}
	if i.Default != "" {
		about = append(about, "default "+Clean(i.Default))
	}
	text := fmt.Sprintf("%s (%s)", Clean(i.Name), strings.Join(slices.DeleteFunc(about, func(s string) bool { return s == "" }), ", "))
	if i.Description != "" {
		text += ": " + Clean(i.Description)
	}
	return text
}
