// Package manifest reads what the author of a package says about it, in the three
// forms that ggen's packages use: package.toml with a table [package], gpack.toml
// with [gpack] and pack.toml with [pack]. Real manifests vary in where they keep
// tags, authors and dependencies; all of that becomes one [Manifest].
// [Manifest.Normal] writes it in the one form that docs/PACKAGE.md describes, and
// [Lint] says what is wrong with a package or could be better.
//
// It reads text and nothing else: files come from package archive, which also says
// which of them a package may hold; the host leaves out what `include` and
// `exclude` say; whether a dependency exists is for package resolve to find out.
package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"ggen.dev/marketplace/shared"
)

// MaxSize bounds a manifest, in bytes. The largest real one has 13 KB.
const MaxSize = 256 << 10

// Limits on the unknown values that are kept: the largest real manifest has 30,
// and none is longer than a download address.
const (
	maxExtra      = 64  // values
	maxExtraKey   = 64  // bytes of a key, tables included; longer ones are dropped
	maxExtraValue = 256 // bytes; longer ones are cut
	maxExtraDepth = 4   // tables in tables
)

// maxVersion bounds a version, in bytes; semver itself does not.
const maxVersion = 64

// tables maps the accepted file names to the table that describes the package.
var tables = map[string]string{"package.toml": "package", "gpack.toml": "gpack", "pack.toml": "pack"}

// Files returns the accepted file names.
func Files() []string { return []string{"package.toml", "gpack.toml", "pack.toml"} }

// Manifest is the normal form of all three.
type Manifest struct {
	File         string // the file it was read from
	Name         string
	Title        string
	Version      string // strict semver
	Description  string // white space folded
	Authors      []string
	License      string
	Category     string
	Tags         []string
	Keywords     []string
	Repository   string
	Readme       string
	Ggen         string              // range of versions of ggen that can use it; empty for any
	Include      []string            // patterns of the files to publish; empty for all
	Exclude      []string            // patterns of the files not to publish
	Executables  []string            // globs of the files that are executable
	Dependencies []shared.Dependency // by name
	Inputs       []shared.Input      // by name
	// Extra are the unknown plain values of the package's table, and lists of them
	// as one text. Those of its own tables have dotted keys, as in
	// "metadata.sparql_templates".
	Extra map[string]string
}

// Find picks the manifest among the names of a folder's files. Errors:
// INVALID_MANIFEST when there is none, or more than one.
func Find(names []string) (string, error) {
	var found []string
	for _, file := range Files() {
		if slices.Contains(names, file) {
			found = append(found, file)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		seen := ""
		for _, foreign := range []string{"package.json", "Cargo.toml", "pyproject.toml", "go.mod"} {
			if slices.Contains(names, foreign) {
				seen = fmt.Sprintf(" (%s is there, which is not one)", foreign)
				break
			}
		}
		return "", shared.NewError(shared.ReasonInvalidManifest, "the folder has no manifest%s", seen).
			WithHint("write a package.toml with a table [package]; gpack.toml with [gpack] and pack.toml with [pack] are accepted too")
	}
	return "", shared.NewError(shared.ReasonInvalidManifest, "the folder has %s manifests: %s", []string{2: "two", 3: "three"}[len(found)], strings.Join(found, " and ")).
		WithHint("keep one of them")
}

// Parse reads a manifest; file is its name, one of [Files]. Remarks forbid nothing.
// Errors: INVALID_MANIFEST, with metadata file and, where they are known, line and
// column.
func Parse(file string, data []byte) (m *Manifest, remarks []shared.Finding, err error) {
	m, findings := Check(file, data)
	if err := firstError(findings); err != nil {
		return nil, nil, err
	}
	return m, findings, nil
}

// Check is a [Parse] that goes on after a mistake: it tells all of them in the
// order of their places, and with them the remarks that forbid nothing. The
// manifest is nil if there is a finding of [shared.SeverityError].
func Check(file string, data []byte) (*Manifest, []shared.Finding) {
	document, broken := decode(file, data)
	if broken != nil {
		return nil, sorted([]shared.Finding{*broken})
	}
	r := &reader{file: file, table: tables[file], used: map[string]bool{}, places: findPlaces(data)}
	fields, ok := document[r.table].(map[string]any)
	if !ok {
		r.fail("table", "", fmt.Sprintf("begin it with [%s], name and version", r.table), "it has no table [%s]", r.table)
		return nil, r.findings
	}
	r.fields = fields
	m := r.read(document)
	findings := sorted(r.findings)
	if firstError(findings) != nil {
		return nil, findings
	}
	return m, findings
}

// decode reads TOML, or says why it is none.
func decode(file string, data []byte) (map[string]any, *shared.Finding) {
	broken := shared.Finding{Severity: shared.SeverityError, Rule: "toml", File: file}
	if _, ok := tables[file]; !ok {
		broken.Message = "that is not a manifest's name"
		return nil, &broken
	}
	if len(data) > MaxSize {
		broken.Message, broken.Fix = fmt.Sprintf("it has %d bytes; %d are allowed", len(data), MaxSize), "move long texts to files of their own"
		return nil, &broken
	}
	var document map[string]any
	if err := toml.Unmarshal(data, &document); err != nil {
		broken.Message = err.Error()
		var decode *toml.DecodeError
		if errors.As(err, &decode) {
			broken.Line, broken.Column = decode.Position()
			broken.Message = strings.TrimPrefix(decode.Error(), "toml: ")
			broken.Fix = "this is not valid TOML:\n" + decode.String()
		}
		return nil, &broken
	}
	if line, column, why := findTOML11(data); why != "" {
		broken.Line, broken.Column, broken.Message = line, column, why+", which TOML 1.0 does not allow"
		broken.Fix = "put it on one line, or write it as a table of its own: [name]"
		return nil, &broken
	}
	return document, nil
}
