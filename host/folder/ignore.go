package folder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/pelletier/go-toml/v2"

	"ggen.dev/marketplace/shared"
)

// ignoreFile names what is left out, in the language of .gitignore. One lies in any
// folder and speaks of what is below it.
const ignoreFile = ".ggenignore"

// Limits on what says which files are left out.
const (
	maxIgnoreFile = 64 << 10  // bytes of a .ggenignore
	maxManifest   = 256 << 10 // bytes of a manifest, as the engine has it
	maxRules      = 4096      // in all files of a package
)

// manifests are the names of a package's manifest, and the table that describes it.
var manifests = map[string]string{"package.toml": "package", "gpack.toml": "gpack", "pack.toml": "pack"}

// rule is one pattern of gitignore.
type rule struct {
	base    string // folder of the file it stands in, with a slash at its end; "" at the top
	glob    string // matched with a path below base
	folders bool   // it is about folders only
	keep    bool   // it begins with "!": what matches is not left out after all
}

// parseRule reads a line of gitignore; ok is false for one that says nothing.
// Errors are those of the pattern.
func parseRule(base, line string) (r rule, ok bool, err error) {
	line = trimSpaces(strings.TrimSuffix(line, "\r"))
	if line == "" || strings.HasPrefix(line, "#") {
		return rule{}, false, nil
	}
	r.base = base
	line, r.keep = strings.CutPrefix(line, "!")
	line, r.folders = strings.CutSuffix(line, "/")
	if line == "" {
		return rule{}, false, nil // as git has it
	}
	// A slash binds a pattern to its place; without one it holds at any depth.
	if !strings.Contains(line, "/") {
		line = "**/" + line
	}
	line = strings.TrimPrefix(line, "/")
	if line == "**" || strings.HasSuffix(line, "/**") {
		line += "/*" // all that is in a folder, without the folder
	}
	// Braces are alternatives to the library, and nothing special to git.
	r.glob = strings.NewReplacer(`\\`, `\\`, `\{`, `\{`, `\}`, `\}`, "{", `\{`, "}", `\}`).Replace(line)
	if !doublestar.ValidatePattern(r.glob) {
		return rule{}, false, fmt.Errorf("%q is not a pattern: a bracket is not closed, or a backslash stands at the end", line)
	}
	return r, true, nil
}

// trimSpaces cuts spaces from the end, unless a backslash stands before the first.
func trimSpaces(line string) string {
	trimmed := strings.TrimRight(line, " ")
	if slashes := len(trimmed) - len(strings.TrimRight(trimmed, `\`)); slashes%2 == 1 && trimmed != line {
		trimmed += " "
	}
	return trimmed
}

func (r rule) matches(name string, isFolder bool) bool {
	below, ok := strings.CutPrefix(name, r.base)
	if !ok || r.folders && !isFolder {
		return false
	}
	return doublestar.MatchUnvalidated(r.glob, below)
}

// rules are patterns of which the last one that matches decides.
type rules []rule

func (rs rules) match(name string, isFolder bool) bool {
	for i := len(rs) - 1; i >= 0; i-- {
		if rs[i].matches(name, isFolder) {
			return !rs[i].keep
		}
	}
	return false
}

// matchWithin tells whether a path matches, or a folder that it lies in.
func (rs rules) matchWithin(name string, isFolder bool) bool {
	for i, c := range name {
		if c == '/' && rs.match(name[:i], true) {
			return true
		}
	}
	return rs.match(name, isFolder)
}

// selection decides which files of a folder are part of the package, while the
// folder is walked from the top.
type selection struct {
	files            fs.FS
	describe         func(format string, args ...any) error
	manifest         string
	include, exclude rules
}

// readSelection reads `include` and `exclude` of the manifest. One that cannot be
// read selects everything: the engine says what is wrong with it.
func (f *Folder) readSelection() (*selection, error) {
	s := &selection{files: f.root.FS(), describe: f.badRule}
	var found []string
	for name := range manifests {
		if info, err := fs.Stat(s.files, name); err == nil && info.Mode().IsRegular() {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return s, nil
	}
	s.manifest = found[0]
	data, err := readFile(s.files, s.manifest, maxManifest)
	if err != nil {
		return s, nil //nolint:nilerr // reading it for the stream tells the same
	}
	var document map[string]any
	if err := toml.Unmarshal(data, &document); err != nil {
		return s, nil //nolint:nilerr // see above
	}
	table, _ := document[manifests[s.manifest]].(map[string]any)
	if s.include, err = s.listed(table, "include"); err != nil {
		return nil, err
	}
	s.exclude, err = s.listed(table, "exclude")
	return s, err
}

func (s *selection) listed(table map[string]any, key string) (rules, error) {
	var rs rules
	patterns, _ := table[key].([]any)
	for _, item := range patterns {
		line, ok := item.(string)
		if !ok {
			return nil, nil // the engine refuses it
		}
		r, ok, err := parseRule("", line)
		if err != nil {
			return nil, s.describe("%s: %s: %w", s.manifest, key, err)
		}
		if ok && len(rs) < maxRules {
			rs = append(rs, r)
		}
	}
	return rs, nil
}

// enter reads the .ggenignore of a folder, "." at the top.
func (s *selection) enter(dir string) error {
	name, base := ignoreFile, ""
	if dir != "." {
		name, base = dir+"/"+ignoreFile, dir+"/"
	}
	info, err := fs.Lstat(s.files, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && !info.Mode().IsRegular():
		return s.describe("%s: it is not a regular file", name)
	}
	data, err := readFile(s.files, name, maxIgnoreFile)
	if err != nil {
		return s.describe("%s: %w", name, err)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	for i, line := range strings.Split(string(data), "\n") {
		r, ok, err := parseRule(base, line)
		if err != nil {
			return s.describe("%s:%d: %w", name, i+1, err)
		}
		if !ok {
			continue
		}
		if len(s.exclude) >= maxRules {
			return s.describe("%s:%d: there are more than %d patterns", name, i+1, maxRules)
		}
		s.exclude = append(s.exclude, r)
	}
	return nil
}

// leftOut tells whether a file or a folder with all that is in it is left out. The
// manifest never is; the files that say what to leave out always are.
func (s *selection) leftOut(name string, isFolder bool) bool {
	switch {
	case name == s.manifest:
		return false
	case !isFolder && (name == ignoreFile || strings.HasSuffix(name, "/"+ignoreFile)):
		return true
	case s.exclude.match(name, isFolder):
		return true
	}
	return len(s.include) > 0 && !isFolder && !s.include.matchWithin(name, false)
}

// holdsEmpty tells whether a folder without files is part of the package.
func (s *selection) holdsEmpty(name string) bool {
	return len(s.include) == 0 || s.include.matchWithin(name, true)
}

// readFile is fs.ReadFile with a limit.
func readFile(files fs.FS, name string, most int64) ([]byte, error) {
	info, err := fs.Stat(files, name)
	if err != nil {
		return nil, cause(err)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("it has %d bytes; %d are allowed", info.Size(), most)
	}
	data, err := fs.ReadFile(files, name)
	return data, cause(err)
}

// badRule is about a pattern that cannot be followed: guessing could publish what
// was meant to be left out.
func (f *Folder) badRule(format string, args ...any) error {
	return shared.NewError(shared.ReasonInvalidPackage, "publish %s: %w", f.name, fmt.Errorf(format, args...)).
		WithHint("patterns are those of .gitignore: *.log, /build/, docs/**/*.tmp, !keep.log")
}
