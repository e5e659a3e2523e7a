// Package manifest reads what the author of a package says about it, in the three
// forms that ggen's packages use: package.toml with a table [package], gpack.toml
// with [gpack] and pack.toml with [pack]. Real manifests vary in where they keep
// tags, authors and dependencies; all of that becomes one [Manifest].
//
// It reads text and nothing else: files come from package archive, and whether a
// dependency exists is for package resolve to find out.
package manifest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
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
	maxExtraValue = 256 // bytes; longer ones are dropped
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
	Dependencies []shared.Dependency // by name
	// Extra are the unknown plain values of the package's table. Those of its own
	// tables have dotted keys, as in "metadata.sparql_templates".
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

// Parse reads a manifest; file is its name, one of [Files]. Errors:
// INVALID_MANIFEST, with metadata file and, where they are known, line and column.
func Parse(file string, data []byte) (*Manifest, error) {
	table, ok := tables[file]
	if !ok {
		return nil, shared.NewError(shared.ReasonInvalidManifest, "%s is not a manifest's name", file)
	}
	if len(data) > MaxSize {
		return nil, problem(file, "it has %d bytes; %d are allowed", len(data), MaxSize)
	}
	var document map[string]any
	if err := toml.Unmarshal(data, &document); err != nil {
		return nil, syntaxError(file, err)
	}
	if err := checkInlineTables(file, data); err != nil {
		return nil, err
	}
	fields, ok := document[table].(map[string]any)
	if !ok {
		return nil, problem(file, "it has no table [%s]", table).WithHint("begin it with [%s], name and version", table)
	}
	r := &reader{file: file, table: table, fields: fields, used: map[string]bool{}}
	m := r.read(document)
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

// problem is an INVALID_MANIFEST error without a place.
func problem(file, format string, args ...any) *shared.Error {
	return shared.NewError(shared.ReasonInvalidManifest, "%s: %s", file, fmt.Sprintf(format, args...)).With("file", file)
}

func syntaxError(file string, err error) error {
	var decode *toml.DecodeError
	if !errors.As(err, &decode) {
		return problem(file, "%v", err)
	}
	line, column := decode.Position()
	cause := strings.TrimPrefix(decode.Error(), "toml: ")
	return shared.NewError(shared.ReasonInvalidManifest, "%s:%d:%d: %s", file, line, column, cause).
		WithHint("%s", "this is not valid TOML:\n"+decode.String()).
		With("file", file).With("line", strconv.Itoa(line)).With("column", strconv.Itoa(column))
}

// reader takes values out of the package's table; the first problem ends it.
type reader struct {
	file, table string
	fields      map[string]any
	used        map[string]bool
	err         error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = problem(r.file, format, args...)
	}
}

func (r *reader) read(document map[string]any) *Manifest {
	m := &Manifest{
		File:        r.file,
		Name:        r.required("name", "hello-world"),
		Version:     r.required("version", "1.0.0"),
		Title:       fold(r.first("title", "full_name")),
		Description: fold(r.first("description")),
		License:     fold(r.first("license", "licence")),
		Repository:  fold(r.first("repository", "homepage")),
		Readme:      r.first("readme"),
		Authors:     r.list("authors"),
		Tags:        r.list("tags"),
		Keywords:    r.list("keywords"),
		Category:    r.first("category"),
	}
	if author := fold(r.first("author")); author != "" && len(m.Authors) == 0 {
		m.Authors = []string{author}
	}
	if categories := r.list("categories"); m.Category == "" && len(categories) > 0 {
		m.Category = categories[0]
	}
	if m.Title == "" {
		m.Title = m.Name
	}
	r.checkIdentity(m)
	m.Dependencies = r.dependencies(document)
	m.Extra = r.extra()
	return m
}

func (r *reader) checkIdentity(m *Manifest) {
	if r.err != nil {
		return
	}
	if err := shared.CheckName(m.Name); err != nil {
		typed := shared.AsError(err)
		r.err = problem(r.file, "[%s] name: %s", r.table, typed.Message).WithHint("%s", typed.Hint)
		return
	}
	if len(m.Version) > maxVersion {
		r.err = problem(r.file, "[%s] version has %d bytes; %d are allowed", r.table, len(m.Version), maxVersion)
		return
	}
	if _, err := semver.StrictNewVersion(m.Version); err != nil {
		r.err = problem(r.file, "[%s] version: %q is not a semantic version: %v", r.table, m.Version, err).
			WithHint("write it as MAJOR.MINOR.PATCH, for example 1.0.0 (https://semver.org)")
	}
}

// required reads a string that must be there.
func (r *reader) required(key, example string) string {
	r.used[key] = true
	value, ok := r.fields[key]
	if !ok {
		if r.err == nil {
			r.err = problem(r.file, "[%s] has no %s", r.table, key).WithHint("add %s = %q", key, example)
		}
		return ""
	}
	text, ok := value.(string)
	if !ok {
		if r.err == nil {
			r.err = problem(r.file, "[%s] %s is not a string", r.table, key).WithHint("write %s = %q", key, example)
		}
		return ""
	}
	return text
}

// first reads the first of several keys that holds a string. Something else
// under such a key is not fatal: it is kept as an unknown value.
func (r *reader) first(keys ...string) string {
	for _, key := range keys {
		if text, ok := r.fields[key].(string); ok {
			r.used[key] = true
			return text
		}
	}
	return ""
}

// list reads strings from `key = [...]`, `key = "..."` or `[table.key] key = [...]`.
func (r *reader) list(key string) []string {
	value := r.fields[key]
	if nested, ok := value.(map[string]any); ok {
		value = nested[key]
	}
	var out []string
	switch v := value.(type) {
	case string:
		out = append(out, fold(v))
	case []any:
		for _, item := range v {
			if text, ok := item.(string); ok && fold(text) != "" {
				out = append(out, fold(text))
			}
		}
	default:
		return nil
	}
	r.used[key] = true
	return out
}

// extra keeps the plain values that nobody asked for.
func (r *reader) extra() map[string]string {
	unknown := maps.Clone(r.fields)
	maps.DeleteFunc(unknown, func(key string, _ any) bool { return r.used[key] })
	extra := map[string]string{}
	flatten(extra, "", unknown, maxExtraDepth)
	if len(extra) == 0 {
		return nil
	}
	return extra
}

// flatten puts a table's plain values under their dotted keys, in their order, so
// that the same manifest keeps the same ones.
func flatten(into map[string]string, prefix string, table map[string]any, depth int) {
	for _, key := range slices.Sorted(maps.Keys(table)) {
		full := prefix + key
		if len(into) >= maxExtra {
			return
		}
		if len(full) > maxExtraKey {
			continue
		}
		var text string
		switch v := table[key].(type) {
		case map[string]any:
			if depth > 1 {
				flatten(into, full+".", v, depth-1)
			}
			continue
		case string:
			text = fold(v)
		case bool, int64, float64, fmt.Stringer: // the last are dates and times
			text = fmt.Sprint(v)
		default: // lists
			continue
		}
		if len(text) <= maxExtraValue {
			into[full] = text
		}
	}
}

// fold makes one line of a text: real descriptions are wrapped by hand.
func fold(text string) string { return strings.Join(strings.Fields(text), " ") }
