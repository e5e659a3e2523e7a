package render

import "ggen.dev/marketplace/shared"

// Declared is the result of a statement about a package.
type Declared struct {
	Statement   shared.StatementKind `json:"statement"`             // yank, unyank, deprecate or undeprecate
	Package     string               `json:"package"`               // name of the package
	Version     string               `json:"version,omitempty"`     // release that it is about; absent if it is about the package
	Successor   string               `json:"successor,omitempty"`   // what to use instead
	Publisher   shared.PublisherID   `json:"publisher"`             // ID of the publisher that signed it
	LogSize     int64                `json:"log_size"`              // entries in the publisher's log that contain it
	Unchanged   bool                 `json:"unchanged"`             // it held before, and nothing was stated
	Announced   int                  `json:"announced"`             // peers that it was announced to
	Diagnostics []Remark             `json:"diagnostics,omitempty"` // remarks beside the result
}

// NewDeclared takes over a receipt.
func NewDeclared(s shared.Statement, r shared.DeclareReceipt) Declared {
	return Declared{
		Statement: s.Kind, Package: s.Package, Version: s.Version, Successor: s.Successor, Publisher: r.Publisher,
		LogSize: r.LogSize, Unchanged: r.Unchanged, Announced: r.Announced, Diagnostics: remarks(r.Diagnostics),
	}
}

// Text implements [Document].
func (d Declared) Text(p *Page) {
	what := map[shared.StatementKind]string{
		shared.StatementYank:        d.Package + " " + d.Version + " is yanked: only those who have it locked go on using it",
		shared.StatementUnyank:      d.Package + " " + d.Version + " may be chosen again",
		shared.StatementDeprecate:   d.Package + " is deprecated",
		shared.StatementUndeprecate: d.Package + " is not deprecated any more",
	}[d.Statement]
	if d.Unchanged {
		p.Line("Nothing to do: %s.", what)
		return
	}
	p.Line("%s.", what)
}
