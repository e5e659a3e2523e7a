package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/bmatcuk/doublestar/v4"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Limits on the patterns of `include` and of `exclude`.
const (
	maxPatterns = 256
	maxPattern  = 240 // bytes, as of a path in a package
)

// reader takes values out of the package's table and remembers what is wrong.
type reader struct {
	file, table string
	fields      map[string]any
	used        map[string]bool
	places      places
	findings    []shared.Finding
}

// fail notes what forbids publishing. path is dotted and below the package's table.
func (r *reader) fail(rule, path, fix, format string, args ...any) {
	r.find(shared.SeverityError, rule, join(r.table, path), fix, format, args...)
}

func (r *reader) warn(rule, path, fix, format string, args ...any) {
	r.find(shared.SeverityWarning, rule, join(r.table, path), fix, format, args...)
}

// find notes something about a path of the whole document.
func (r *reader) find(severity shared.Severity, rule, path, fix, format string, args ...any) {
	if len(r.findings) >= maxFindings && severity != shared.SeverityError {
		return
	}
	line, column := r.places.at(path)
	r.findings = append(r.findings, shared.Finding{
		Severity: severity, Rule: rule, File: r.file, Line: line, Column: column, Message: fmt.Sprintf(format, args...), Fix: fix,
	})
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
		Ggen:        strings.TrimSpace(r.first("ggen")),
		Authors:     r.list("authors"),
		Tags:        r.list("tags"),
		Keywords:    r.list("keywords"),
		Category:    r.first("category"),
		Include:     r.patterns("include"),
		Exclude:     r.patterns("exclude"),
		Executables: r.patterns("executables"),
	}
	r.checkGlobs(m.Executables)
	if author := fold(r.first("author")); author != "" && len(m.Authors) == 0 {
		m.Authors = []string{author}
	}
	if m.Category == "" {
		m.Category = r.firstCategory()
	}
	if m.Title == "" {
		m.Title = m.Name
	}
	r.checkIdentity(m)
	r.checkLicense(m.License)
	r.checkRangeAt(join(r.table, "ggen"), m.Ggen)
	m.Dependencies = r.dependencies(document)
	r.checkDependencies(m)
	m.Inputs = r.inputs(document)
	m.Extra = r.extra()
	r.checkLengths(m)
	r.checkSpelling()
	return m
}

func (r *reader) checkIdentity(m *Manifest) {
	if m.Name != "" {
		if err := shared.AsError(shared.CheckName(m.Name)); err != nil {
			r.fail("name", "name", err.Hint, "%s", err.Message)
		}
	}
	if m.Version == "" {
		return
	}
	if len(m.Version) > maxVersion {
		r.fail("version", "version", "write it as MAJOR.MINOR.PATCH", "the version has %d bytes; %d are allowed", len(m.Version), maxVersion)
	} else if _, err := semver.StrictNewVersion(m.Version); err != nil {
		r.fail("version", "version", "write it as MAJOR.MINOR.PATCH, for example 1.0.0 (https://semver.org)",
			"%q is not a semantic version: %v", m.Version, err)
	}
}

// checkLicense never forbids anything: real packages have odd licences.
func (r *reader) checkLicense(license string) {
	if license == "" || len(license) > publisher.MaxLicense {
		return // checkLengths has a word for the latter
	}
	if problem, fix := checkLicense(license); problem != "" {
		r.warn("license", r.present("license", "licence"), fix, "%s", problem)
	}
}

// checkRangeAt tells whether the text at a path of the whole document is a range
// of versions; empty is any.
func (r *reader) checkRangeAt(path, text string) {
	const operators = "write it as ^1.2, ~1.2, >=1.2 <2 or 1.2.3"
	if text == "" {
		return
	}
	if len(text) > publisher.MaxConstraint {
		r.find(shared.SeverityError, "range", path, operators, "the range has %d bytes; %d are allowed", len(text), publisher.MaxConstraint)
	} else if strings.Contains(text, "~>") {
		r.find(shared.SeverityError, "range", path, operators, "the operator ~> in %q means different things elsewhere; write ~1.2 or ^1.2", text)
	} else if _, err := semver.NewConstraint(text); err != nil {
		r.find(shared.SeverityError, "range", path, operators, "%q is not a version range", text)
	}
}

// checkLengths warns of what is longer than what travels with the release's
// announcement. The whole text stays in the package.
func (r *reader) checkLengths(m *Manifest) {
	const fix = "shorten it; what is long belongs to the readme"
	for _, text := range []struct {
		path, value string
		most        int
	}{
		{r.present("title", "full_name"), m.Title, publisher.MaxTitle},
		{"description", m.Description, publisher.MaxDescription},
		{r.present("license", "licence"), m.License, publisher.MaxLicense},
		{r.present("category", "categories"), m.Category, publisher.MaxCategory},
		{r.present("repository", "homepage"), m.Repository, publisher.MaxRepository},
	} {
		if len(text.value) > text.most {
			r.warn("length", text.path, fix, "%s has %d bytes; searches and lists show %d", text.path, len(text.value), text.most)
		}
	}
	for _, list := range []struct {
		path        string
		values      []string
		count, most int
	}{
		{r.present("authors", "author"), m.Authors, publisher.MaxAuthors, publisher.MaxAuthor},
		{"tags", m.Tags, publisher.MaxTags, publisher.MaxTag},
		{"keywords", m.Keywords, publisher.MaxTags, publisher.MaxTag},
	} {
		if len(list.values) > list.count {
			r.warn("length", list.path, "keep the most important ones", "there are %d %s; searches see the first %d", len(list.values), list.path, list.count)
		}
		if slices.ContainsFunc(list.values, func(v string) bool { return len(v) > list.most }) {
			r.warn("length", list.path, fix, "one of the %s has more than %d bytes; searches see so many", list.path, list.most)
		}
	}
}

// present is the first key that the table has, or else the last.
func (r *reader) present(keys ...string) string {
	for _, key := range keys {
		if _, ok := r.fields[key]; ok {
			return key
		}
	}
	return keys[len(keys)-1]
}

// required reads a string that must be there.
func (r *reader) required(key, example string) string {
	r.used[key] = true
	value, ok := r.fields[key]
	if !ok {
		r.fail(key, "", fmt.Sprintf("add %s = %q", key, example), "[%s] has no %s", r.table, key)
		return ""
	}
	text, ok := value.(string)
	if !ok || text == "" {
		r.fail(key, key, fmt.Sprintf("write %s = %q", key, example), "[%s] %s is not a string, or empty", r.table, key)
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
	if one, ok := value.(string); ok {
		value = []any{one}
	}
	items, ok := value.([]any)
	if !ok {
		return nil
	}
	r.used[key] = true
	var out []string
	for _, item := range items {
		if text, ok := item.(string); ok && fold(text) != "" {
			out = append(out, fold(text))
		}
	}
	return out
}

// patterns reads a list of patterns. It is strict: the host leaves files out by the
// same list, and a file must not be published because of a mistake in writing.
func (r *reader) patterns(key string) []string {
	value, ok := r.fields[key]
	if !ok {
		return nil
	}
	r.used[key] = true
	fix := fmt.Sprintf(`write %s = ["templates/", "*.md"]: patterns as in .gitignore`, key)
	items, ok := value.([]any)
	if !ok {
		r.fail("patterns", key, fix, "%s is not a list", key)
		return nil
	}
	if len(items) > maxPatterns {
		r.fail("patterns", key, "put them into a file .ggenignore", "%s has %d patterns; %d are allowed", key, len(items), maxPatterns)
		return nil
	}
	var patterns []string
	for i, item := range items {
		text, ok := item.(string)
		if !ok || strings.TrimSpace(text) == "" || len(text) > maxPattern || strings.ContainsAny(text, "\r\n") {
			r.fail("patterns", fmt.Sprintf("%s.%d", key, i), fix, "%s holds something that is not a pattern of 1 to %d bytes", key, maxPattern)
			continue
		}
		patterns = append(patterns, text)
	}
	return patterns
}

// checkGlobs tells which globs are none.
func (r *reader) checkGlobs(globs []string) {
	for i, glob := range globs {
		if !doublestar.ValidatePattern(glob) {
			r.fail("patterns", fmt.Sprintf("executables.%d", i), `write executables = ["bin/*", "**/*.sh"]`, "%q is not a pattern: a bracket or brace is not closed, or a backslash stands at the end", glob)
		}
	}
}

// Executable tells whether the manifest says that a file, by its path in the package,
// is executable.
func (m *Manifest) Executable(name string) bool {
	return slices.ContainsFunc(m.Executables, func(glob string) bool { return doublestar.MatchUnvalidated(glob, name) })
}

// firstCategory reads `categories`, of which we know one. The whole list stays
// an unknown value if there are more.
func (r *reader) firstCategory() string {
	categories := r.list("categories")
	if len(categories) == 0 {
		return ""
	}
	r.used["categories"] = len(categories) == 1
	return categories[0]
}

// extra keeps the plain values that nobody asked for, and those of a table "extra",
// which is where the normal form has them.
func (r *reader) extra() map[string]string {
	unknown := maps.Clone(r.fields)
	maps.DeleteFunc(unknown, func(key string, _ any) bool { return r.used[key] })
	extra := map[string]string{}
	if kept, ok := unknown["extra"].(map[string]any); ok {
		delete(unknown, "extra")
		flatten(extra, "", kept, maxExtraDepth)
	}
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
		if len(full) > maxExtraKey {
			continue
		}
		if inner, ok := table[key].(map[string]any); ok {
			if depth > 1 {
				flatten(into, full+".", inner, depth-1)
			}
			continue
		}
		if _, known := into[full]; !known && len(into) >= maxExtra {
			return
		}
		if text, plain := plainText(table[key]); plain {
			into[full] = publisher.CutText(text, maxExtraValue)
		}
	}
}

// plainText is a string, number, boolean, date or time, or a list of such, as text.
func plainText(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return fold(v), true
	case bool, int64, float64, fmt.Stringer: // the last are dates and times
		return fmt.Sprint(v), true
	case []any:
		items := make([]string, 0, min(len(v), maxExtraValue))
		for _, item := range v[:min(len(v), maxExtraValue)] {
			if _, nested := item.([]any); nested {
				return "", false
			}
			text, ok := plainText(item)
			if !ok {
				return "", false
			}
			items = append(items, text)
		}
		return fold(strings.Join(items, ", ")), true
	}
	return "", false
}

// fold makes one line of a text: real descriptions are wrapped by hand.
func fold(text string) string { return strings.Join(strings.Fields(text), " ") }
