package manifest

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Normal writes the manifest in its normal form, which docs/PACKAGE.md describes:
// TOML with the keys in one order and empty ones left out. Reading it gives the
// same manifest again, so two manifests that mean the same have the same form.
func (m *Manifest) Normal() []byte {
	var w normalWriter
	table := tables[m.File]
	w.table(table)
	w.text("name", m.Name)
	if m.Title != m.Name {
		w.text("title", m.Title)
	}
	w.text("version", m.Version)
	w.text("description", m.Description)
	w.list("authors", m.Authors)
	w.text("license", m.License)
	w.text("category", m.Category)
	w.list("tags", m.Tags)
	w.list("keywords", m.Keywords)
	w.text("repository", m.Repository)
	w.text("readme", m.Readme)
	w.text("ggen", m.Ggen)
	w.list("include", m.Include)
	w.list("exclude", m.Exclude)
	w.list("executables", m.Executables)
	w.dependencies(table, m)
	for _, input := range m.Inputs {
		w.table(table, "inputs", input.Name)
		w.text("type", input.Type)
		if input.Required {
			w.line("required", "true")
		}
		w.text("default", input.Default)
		w.text("description", input.Description)
	}
	if len(m.Extra) > 0 {
		w.table(table, "extra")
		for _, key := range slices.Sorted(maps.Keys(m.Extra)) {
			w.line(key, quote(m.Extra[key]))
		}
	}
	return w.Bytes()
}

type normalWriter struct{ bytes.Buffer }

func (w *normalWriter) table(path ...string) {
	if w.Len() > 0 {
		w.WriteByte('\n')
	}
	for i := range path {
		path[i] = bareOrQuoted(path[i])
	}
	w.WriteString("[" + strings.Join(path, ".") + "]\n")
}

// line writes a key and a value that is TOML already.
func (w *normalWriter) line(key, value string) {
	w.WriteString(bareOrQuoted(key) + " = " + value + "\n")
}

func (w *normalWriter) text(key, value string) {
	if value != "" {
		w.line(key, quote(value))
	}
}

func (w *normalWriter) list(key string, values []string) {
	if len(values) == 0 {
		return
	}
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = quote(value)
	}
	w.line(key, "["+strings.Join(quoted, ", ")+"]")
}

func (w *normalWriter) dependencies(table string, m *Manifest) {
	if len(m.Dependencies) == 0 {
		return
	}
	w.table(table, "dependencies")
	for _, dep := range m.Dependencies {
		constraint := dep.Constraint
		if constraint == "" {
			constraint = "*"
		}
		value := quote(constraint)
		if dep.Publisher != "" || dep.Optional {
			value = "{ version = " + value
			if dep.Publisher != "" {
				value += ", publisher = " + quote(string(dep.Publisher))
			}
			if dep.Optional {
				value += ", optional = " + strconv.FormatBool(dep.Optional)
			}
			value += " }"
		}
		w.line(dep.Name, value)
	}
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func bareOrQuoted(key string) string {
	if bareKey.MatchString(key) {
		return key
	}
	return quote(key)
}

// quote writes a basic string of TOML. What JSON writes is one, but for the one
// control character that JSON lets pass.
func quote(text string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return `""` // strings can always be encoded
	}
	return strings.ReplaceAll(strings.TrimSpace(b.String()), "\x7f", `\u007f`)
}
