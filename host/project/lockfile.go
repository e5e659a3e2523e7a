package project

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/pelletier/go-toml/v2"

	"ggen.dev/marketplace/shared"
)

// lockfileVersion is the format that this build reads and writes.
const lockfileVersion = 1

// maxLockfile bounds ggen.lock, in bytes: about 20,000 packages.
const maxLockfile = 8 << 20

const lockfileHeader = "# ggen writes this file. Commit it; do not edit it by hand.\n"

// Lockfile is the content of ggen.lock: which package is installed in which
// version, from whom, with which digest. It is sorted by name and holds each name
// once.
type Lockfile struct {
	Packages []shared.LockedPackage
}

// Get finds a package by name.
func (l Lockfile) Get(name string) (shared.LockedPackage, bool) {
	i, found := l.find(name)
	if !found {
		return shared.LockedPackage{}, false
	}
	return l.Packages[i], true
}

func (l Lockfile) find(name string) (int, bool) {
	return slices.BinarySearchFunc(l.Packages, name, func(p shared.LockedPackage, name string) int { return strings.Compare(p.Name, name) })
}

// With returns l with pkg added, or in the place of the package of that name.
func (l Lockfile) With(pkg shared.LockedPackage) Lockfile {
	packages := slices.Clone(l.Packages)
	if i, found := l.find(pkg.Name); found {
		packages[i] = pkg
	} else {
		packages = slices.Insert(packages, i, pkg)
	}
	return Lockfile{Packages: packages}
}

// Without returns l less the named package.
func (l Lockfile) Without(name string) Lockfile {
	packages := slices.Clone(l.Packages)
	if i, found := l.find(name); found {
		packages = slices.Delete(packages, i, i+1)
	}
	return Lockfile{Packages: packages}
}

// NeededBy names the packages, other than those being removed, that directly need
// name.
func (l Lockfile) NeededBy(name string, removed []string) []string {
	var needing []string
	for _, pkg := range l.Packages {
		if pkg.Name != name && slices.Contains(pkg.Dependencies, name) && !slices.Contains(removed, pkg.Name) {
			needing = append(needing, pkg.Name)
		}
	}
	return needing
}

// Roots names the packages that no other one needs: those that somebody asked for,
// as far as the file alone can tell.
func (l Lockfile) Roots() []string {
	needed := map[string]bool{}
	for _, pkg := range l.Packages {
		for _, dep := range pkg.Dependencies {
			needed[dep] = needed[dep] || dep != pkg.Name
		}
	}
	var roots []string
	for _, pkg := range l.Packages {
		if !needed[pkg.Name] {
			roots = append(roots, pkg.Name)
		}
	}
	return roots
}

// Bytes is the file's text, the same for the same packages on every machine.
// Errors: LOCKFILE when a package could not be read back.
func (l Lockfile) Bytes() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(lockfileHeader)
	fmt.Fprintf(&b, "version = %d\n", lockfileVersion)
	for i, pkg := range l.Packages {
		if key, err := checkLocked(pkg); err != nil {
			return nil, shared.NewError(shared.ReasonLockfile, "%s cannot be recorded in %s: %s: %w", pkg.Name, LockfileName, key, err)
		}
		if i > 0 && l.Packages[i-1].Name >= pkg.Name {
			return nil, shared.NewError(shared.ReasonInternal, "the packages of %s are out of order at %s", LockfileName, pkg.Name)
		}
		fmt.Fprintf(&b, "\n[[package]]\nname = %q\nversion = %q\npublisher = %q\ndigest = %q\ndependencies = [", pkg.Name, pkg.Version, string(pkg.Publisher), string(pkg.Digest))
		// One a line: two branches that add one each can be merged.
		for i, dep := range slices.Compact(slices.Sorted(slices.Values(pkg.Dependencies))) {
			if i == 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "  %q,\n", dep)
		}
		b.WriteString("]\n")
	}
	return b.Bytes(), nil
}

// checkLocked names the first field that ggen.lock must not hold. What passes
// consists of characters that TOML strings hold without escapes.
func checkLocked(pkg shared.LockedPackage) (key string, err error) {
	if err := shared.CheckName(pkg.Name); err != nil {
		return "name", err
	}
	if _, err := semver.StrictNewVersion(pkg.Version); err != nil {
		return "version", fmt.Errorf("%q is not a semantic version", pkg.Version)
	}
	if !pkg.Publisher.Complete() {
		return "publisher", fmt.Errorf("%q is not a whole publisher ID", pkg.Publisher)
	}
	if _, err := shared.ParseDigest(string(pkg.Digest)); err != nil {
		return "digest", err
	}
	for _, dep := range pkg.Dependencies {
		if err := shared.CheckName(dep); err != nil {
			return "dependencies", err
		}
	}
	return "", nil
}

type lockfileDocument struct {
	Version int             `toml:"version"`
	Package []lockedPackage `toml:"package"`
}

type lockedPackage struct {
	Name         string   `toml:"name"`
	Version      string   `toml:"version"`
	Publisher    string   `toml:"publisher"`
	Digest       string   `toml:"digest"`
	Dependencies []string `toml:"dependencies"`
}

// ParseLockfile reads the text of a ggen.lock and refuses whatever this build
// would not have written, except for order and layout. Errors: LOCKFILE with
// metadata file, line and, where known, column.
func ParseLockfile(file string, data []byte) (Lockfile, error) {
	if line := conflictMarker(data); line > 0 {
		return Lockfile{}, lockfileError(file, line, 1, "a merge has left its markers here").
			WithHint("take either side of the file (`git checkout --theirs %s`), then run `ggen marketplace install` with what is missing", LockfileName)
	}
	var doc lockfileDocument
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		line, column, cause := tomlPosition(err)
		return Lockfile{}, lockfileError(file, line, column, "%s", cause)
	}
	switch {
	case doc.Version > lockfileVersion:
		return Lockfile{}, lockfileError(file, lineOf(data, "version", 0), 0, "format version %d is newer than this ggen", doc.Version).
			WithHint("update ggen")
	case doc.Version != lockfileVersion:
		return Lockfile{}, lockfileError(file, 1, 0, "it does not say version = %d", lockfileVersion)
	}
	l := Lockfile{Packages: make([]shared.LockedPackage, 0, len(doc.Package))}
	seen := map[string]bool{}
	for i, entry := range doc.Package {
		pkg := shared.LockedPackage{
			Name: entry.Name, Version: entry.Version, Publisher: shared.PublisherID(entry.Publisher),
			Digest: shared.Digest(entry.Digest), Dependencies: slices.Compact(slices.Sorted(slices.Values(entry.Dependencies))),
		}
		if key, err := checkLocked(pkg); err != nil {
			return Lockfile{}, lockfileError(file, lineOf(data, key, i+1), 0, "%s: %s", key, err)
		}
		if seen[pkg.Name] {
			return Lockfile{}, lockfileError(file, lineOf(data, "name", i+1), 0, "package %s occurs twice", pkg.Name)
		}
		seen[pkg.Name] = true
		l.Packages = append(l.Packages, pkg)
	}
	slices.SortFunc(l.Packages, func(a, b shared.LockedPackage) int { return strings.Compare(a.Name, b.Name) })
	return l, nil
}

// conflictMarker is the first line that version control writes between two sides of a
// merge, or 0.
func conflictMarker(data []byte) int {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		for _, marker := range []string{"<<<<<<< ", ">>>>>>> ", "||||||| "} {
			if bytes.HasPrefix(line, []byte(marker)) {
				return number
			}
		}
	}
	return 0
}

func lockfileError(file string, line, column int, format string, args ...any) *shared.Error {
	return shared.NewError(shared.ReasonLockfile, "%s: %s", fileLine(file, line, column), fmt.Sprintf(format, args...)).
		WithHint("restore it from version control, or delete it and install again").
		With("file", file).With("line", itoa(line)).With("column", itoa(column))
}

// wrongKind is go-toml's message about a value of another kind, which names Go types.
var wrongKind = regexp.MustCompile(`cannot decode TOML (\w+) into`)

// tomlPosition finds where and why go-toml gave up.
func tomlPosition(err error) (line, column int, cause string) {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		line, column = unknown.Errors[0].Position()
		return line, column, fmt.Sprintf("unknown key %s", strings.Join(unknown.Errors[0].Key(), "."))
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, column = decode.Position()
		if kind := wrongKind.FindStringSubmatch(decode.Error()); kind != nil {
			return line, column, fmt.Sprintf("%s cannot be of the kind %s", strings.Join(decode.Key(), "."), kind[1])
		}
		return line, column, strings.TrimPrefix(decode.Error(), "toml: ")
	}
	return 0, 0, strings.TrimPrefix(err.Error(), "toml: ")
}

// lineOf finds the line of a key in the nth [[package]] (0: before the first). It
// only serves messages: the decoder does not tell where a value stood.
func lineOf(data []byte, key string, nth int) int {
	seen, header, number := 0, 1, 0
	for line := range strings.Lines(string(data)) {
		number++
		text := strings.TrimSpace(line)
		if strings.HasPrefix(text, "[[package]]") {
			if seen++; seen == nth {
				header = number
			}
		}
		if seen == nth && strings.HasPrefix(text, key) && strings.HasPrefix(strings.TrimSpace(text[len(key):]), "=") {
			return number
		}
	}
	return header
}

func itoa(n int) string { return strconv.Itoa(n) }

// ReadLockfile reads the place's ggen.lock; one that is not there is empty.
// Errors: LOCKFILE, STORAGE.
func (p Place) ReadLockfile() (Lockfile, error) {
	data, err := p.read(LockfileName, maxLockfile)
	if err != nil || data == nil {
		return Lockfile{}, err
	}
	return ParseLockfile(p.Lockfile(), data)
}

// writeLockfile replaces ggen.lock unless it says the same already.
func writeLockfile(root *os.Root, l Lockfile) error {
	data, err := l.Bytes()
	if err != nil {
		return err
	}
	if old, err := readBounded(root, LockfileName, maxLockfile); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return replace(root, LockfileName, data, 0o644)
}
