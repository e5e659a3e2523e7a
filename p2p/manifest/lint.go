package manifest

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// leftover is what tools leave behind and nobody means to publish. A name that
// ends in a slash is a folder's.
var leftover = []string{".DS_Store", "Thumbs.db", "node_modules/", "__pycache__/", ".idea/", ".venv/"}

// Lint looks at a whole package and says what is wrong with it and what could be
// better, by place; it says at most 100 things. names are the files that would be
// published, as slash-separated paths, and read returns the content of one that has
// at most so many bytes. Lint is pure: it reads the manifest and nothing else.
func Lint(names []string, read func(name string, most int64) ([]byte, error)) []shared.Finding {
	var top []string
	for _, name := range names {
		if !strings.Contains(name, "/") {
			top = append(top, name)
		}
	}
	file, err := Find(top)
	if err != nil {
		return []shared.Finding{fromError("manifest", err)}
	}
	data, err := read(file, MaxSize)
	if err != nil {
		f := fromError("manifest", err)
		f.File = file
		return []shared.Finding{f}
	}
	m, findings := Check(file, data)
	if m != nil {
		l := &linter{m: m, names: names, places: findPlaces(data), findings: findings}
		l.completeness()
		l.repository()
		l.files()
		findings = l.findings
	}
	return sorted(findings)
}

// linter gives advice on a package whose manifest is right.
type linter struct {
	m        *Manifest
	names    []string
	places   places
	findings []shared.Finding
}

// advise notes a finding about a key of the package's table, or about the table.
func (l *linter) advise(severity shared.Severity, rule, key, fix, format string, args ...any) {
	line, column := l.places.at(join(tables[l.m.File], key))
	l.findings = append(l.findings, shared.Finding{
		Severity: severity, Rule: rule, File: l.m.File, Line: line, Column: column, Message: fmt.Sprintf(format, args...), Fix: fix,
	})
}

func (l *linter) completeness() {
	if l.m.Description == "" {
		l.advise(shared.SeverityWarning, "description", "", `add description = "what it is for, in one sentence"`, "the package has no description: searches find it by its name only")
	}
	if l.m.License == "" {
		l.advise(shared.SeverityWarning, "license", "", `add license = "MIT", or another identifier from https://spdx.org/licenses`, "the package has no licence: nobody may use it")
	}
	if len(l.m.Authors) == 0 {
		l.advise(shared.SeverityInfo, "authors", "", `add authors = ["Your Name"]`, "the package names no authors")
	}
	for _, dep := range l.m.Dependencies {
		if dep.Constraint == "" {
			l.advise(shared.SeverityInfo, "dependencies", "dependencies", fmt.Sprintf("write %q", dep.Name+"@^1.2"),
				"any version of %s will do, incompatible ones of the future too", dep.Name)
		}
	}
	readme := slices.ContainsFunc(l.names, func(name string) bool {
		return !strings.Contains(name, "/") && strings.HasPrefix(strings.ToLower(name), "readme")
	})
	switch {
	case l.m.Readme != "" && !slices.Contains(l.names, path.Clean(l.m.Readme)):
		l.advise(shared.SeverityWarning, "readme", "readme", "correct the path, which begins at the manifest's folder, or see whether the file is left out", "%q is not among the files", l.m.Readme)
	case l.m.Readme == "" && !readme:
		l.advise(shared.SeverityInfo, "readme", "", "write a README.md that says how the package is used", "the package has no readme")
	}
}

func (l *linter) repository() {
	if l.m.Repository == "" {
		return
	}
	address, err := url.Parse(l.m.Repository)
	if err != nil || address.Host == "" || !slices.Contains([]string{"https", "http", "ssh", "git"}, address.Scheme) {
		l.advise(shared.SeverityWarning, "repository", "repository", `write it as "https://example.org/me/project"`, "%q is not a web address", l.m.Repository)
	}
}

// files finds leftovers, each kind of them once in each folder.
func (l *linter) files() {
	said := map[string]bool{}
	for _, name := range l.names {
		unwanted, pattern := leftoverIn(name)
		if pattern == "" || said[unwanted] {
			continue
		}
		said[unwanted] = true
		l.findings = append(l.findings, shared.Finding{
			Severity: shared.SeverityWarning, Rule: "leftover", File: unwanted,
			Message: "this is made by a tool and hardly meant for others", Fix: fmt.Sprintf("add a line %s to .ggenignore", pattern),
		})
	}
}

// leftoverIn returns the leftover that a path is or lies in, and the pattern that
// leaves it out; both are empty for none.
func leftoverIn(name string) (unwanted, pattern string) {
	end := 0
	for part := range strings.SplitSeq(name, "/") {
		end += len(part)
		if end < len(name) {
			end++
			part += "/"
		}
		if slices.Contains(leftover, part) {
			return name[:end], part
		}
	}
	return "", ""
}
