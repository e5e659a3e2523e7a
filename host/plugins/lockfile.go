package plugins

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"ggen.dev/marketplace/shared"
)

// LockfileName is the name of the lock file, in the home and beside a project's
// ggen.toml.
const LockfileName = "plugins.lock"

// Bounds on plugins.lock.
const (
	lockSchema   = 1
	maxLockfile  = 256 << 10 // bytes
	maxEngines   = 500
	maxPrevious  = 10
	maxPlatforms = 50 // of one engine
)

const lockfileHeader = "# ggen writes this file: which engine is used, and what each version's files are.\n"

// lockfile is the content of a plugins.lock.
type lockfile struct {
	use      string   // the only version that may be used; empty: any
	previous []string // that were used before, newest last
	engines  []lockedEngine
}

// lockedEngine is a version whose files are known.
type lockedEngine struct {
	version  string
	protocol int
	digests  map[string]shared.Digest // by platform, such as linux_amd64
}

// platformName is what keys of a digest table look like.
var platformName = regexp.MustCompile(`^[a-z0-9]{1,16}_[a-z0-9]{1,16}$`)

// engine finds a version.
func (l *lockfile) engine(version string) *lockedEngine {
	for i := range l.engines {
		if l.engines[i].version == version {
			return &l.engines[i]
		}
	}
	return nil
}

// add records a candidate's digest. One that is there stays.
func (l *lockfile) add(c Candidate) {
	e := l.engine(c.Version)
	if e == nil {
		l.engines = append(l.engines, lockedEngine{version: c.Version, protocol: c.Protocol, digests: map[string]shared.Digest{}})
		e = &l.engines[len(l.engines)-1]
	}
	if e.digests[c.platform()] == "" {
		e.digests[c.platform()] = c.Digest
	}
}

// versions are those whose files are known.
func (l *lockfile) versions() (known []string) {
	for _, e := range l.engines {
		known = append(known, e.version)
	}
	return known
}

// choose makes version the only one that may be used, and former, which may be
// empty, the one to go back to.
func (l *lockfile) choose(version, former string) {
	l.use = version
	if former != "" && former != version {
		l.previous = append(l.previous, former)
		l.previous = l.previous[max(0, len(l.previous)-maxPrevious):]
	}
}

// text is the file, the same for the same content everywhere. Errors: LOCKFILE when
// it could not be read back.
func (l *lockfile) text() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(lockfileHeader)
	fmt.Fprintf(&b, "schema = %d\n", lockSchema)
	if l.use != "" {
		fmt.Fprintf(&b, "use = %q\n", l.use)
	}
	if len(l.previous) > 0 {
		list := make([]string, len(l.previous))
		for i, version := range l.previous {
			list[i] = strconv.Quote(version)
		}
		fmt.Fprintf(&b, "previous = [%s]\n", strings.Join(list, ", "))
	}
	slices.SortFunc(l.engines, func(a, b lockedEngine) int {
		return cmp.Or(compareVersions(a.version, b.version), cmp.Compare(a.version, b.version))
	})
	for _, e := range l.engines {
		fmt.Fprintf(&b, "\n[[engine]]\nversion = %q\nprotocol = %d\n\n[engine.digests]\n", e.version, e.protocol)
		for _, platform := range slices.Sorted(maps.Keys(e.digests)) {
			fmt.Fprintf(&b, "%s = %q\n", platform, string(e.digests[platform]))
		}
	}
	if b.Len() > maxLockfile {
		return nil, shared.NewError(shared.ReasonLockfile, "%s would have %d bytes; %d are allowed", LockfileName, b.Len(), maxLockfile).
			WithHint("delete [[engine]] entries that nobody needs")
	}
	_, err := parseLockfile(LockfileName, b.Bytes())
	return b.Bytes(), err
}

type lockfileDocument struct {
	Schema   int      `toml:"schema"`
	Use      *string  `toml:"use"`
	Previous []string `toml:"previous"`
	Engine   []struct {
		Version  string            `toml:"version"`
		Protocol int               `toml:"protocol"`
		Digests  map[string]string `toml:"digests"`
	} `toml:"engine"`
}

// parseLockfile reads the text of a plugins.lock and refuses whatever this build
// would not have written, except for order and layout. Errors: LOCKFILE with
// metadata file and, where known, line and column.
func parseLockfile(file string, data []byte) (lockfile, error) {
	var doc lockfileDocument
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&doc); err != nil {
		return lockfile{}, tomlError(file, err)
	}
	wrong := func(format string, args ...any) (lockfile, error) {
		return lockfile{}, lockfileError(file, 0, 0, format, args...)
	}
	switch {
	case doc.Schema > lockSchema:
		return lockfile{}, lockfileError(file, 0, 0, "schema %d is newer than this ggen", doc.Schema).WithHint("update ggen")
	case doc.Schema != lockSchema:
		return wrong("it does not say schema = %d", lockSchema)
	case doc.Use != nil && !validVersion(*doc.Use):
		return wrong("use: %q is not a version", clip(*doc.Use))
	case len(doc.Previous) > maxPrevious:
		return wrong("previous: it lists %d versions; %d are allowed", len(doc.Previous), maxPrevious)
	case len(doc.Engine) > maxEngines:
		return wrong("it lists %d engines; %d are allowed", len(doc.Engine), maxEngines)
	}
	l := lockfile{previous: doc.Previous}
	if doc.Use != nil {
		l.use = *doc.Use
	}
	for _, version := range doc.Previous {
		if !validVersion(version) {
			return wrong("previous: %q is not a version", clip(version))
		}
	}
	for i, entry := range doc.Engine {
		e := lockedEngine{version: entry.Version, protocol: entry.Protocol, digests: map[string]shared.Digest{}}
		switch {
		case !validVersion(e.version):
			return wrong("engine %d: %q is not a version", i+1, clip(e.version))
		case l.engine(e.version) != nil:
			return wrong("engine %s occurs twice", e.version)
		case e.protocol < 1 || e.protocol > 9999:
			return wrong("engine %s: the protocol %d is not between 1 and 9999", e.version, e.protocol)
		case len(entry.Digests) == 0 || len(entry.Digests) > maxPlatforms:
			return wrong("engine %s: it has %d digests; 1 to %d are allowed", e.version, len(entry.Digests), maxPlatforms)
		}
		for platform, text := range entry.Digests {
			digest, err := shared.ParseDigest(text)
			if err != nil || !platformName.MatchString(platform) {
				return wrong("engine %s: %q = %q is not a platform and its digest", e.version, clip(platform), clip(text))
			}
			e.digests[platform] = digest
		}
		l.engines = append(l.engines, e)
	}
	return l, nil
}

func clip(text string) string { return text[:min(len(text), 80)] }

func tomlError(file string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		line, column := unknown.Errors[0].Position()
		return lockfileError(file, line, column, "unknown key %s", clip(strings.Join(unknown.Errors[0].Key(), ".")))
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, column := decode.Position()
		return lockfileError(file, line, column, "%s", strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return lockfileError(file, 0, 0, "%s", strings.TrimPrefix(err.Error(), "toml: "))
}

func lockfileError(file string, line, column int, format string, args ...any) *shared.Error {
	where := file
	if line > 0 {
		where = fmt.Sprintf("%s:%d:%d", file, line, column)
	}
	e := shared.NewError(shared.ReasonLockfile, "%s: %s", where, fmt.Sprintf(format, args...)).
		WithHint("restore it from a copy, or delete it: then nothing is known of engines that ran here before").With("file", file)
	if line > 0 {
		e = e.With("line", strconv.Itoa(line)).With("column", strconv.Itoa(column))
	}
	return e
}

// readLockfile reads the plugins.lock in a folder; one that is not there is empty.
// A link that leads out of the folder is refused. Errors: LOCKFILE, STORAGE.
func readLockfile(dir string) (lockfile, error) {
	file := filepath.Join(dir, LockfileName)
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return lockfile{}, nil
	}
	if err != nil {
		return lockfile{}, storageError("read "+file, err)
	}
	defer func() { _ = root.Close() }() // only read
	info, err := root.Stat(LockfileName)
	if errors.Is(err, fs.ErrNotExist) {
		return lockfile{}, nil
	}
	if err != nil {
		return lockfile{}, storageError("read "+file, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxLockfile {
		return lockfile{}, lockfileError(file, 0, 0, "it is not a regular file of at most %d bytes", maxLockfile)
	}
	f, err := root.Open(LockfileName)
	if err != nil {
		return lockfile{}, storageError("read "+file, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxLockfile))
	if err = errors.Join(err, f.Close()); err != nil {
		return lockfile{}, storageError("read "+file, err)
	}
	return parseLockfile(file, data)
}
