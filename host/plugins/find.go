package plugins

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"ggen.dev/marketplace/shared"
)

// maxCandidates bounds how many engines one folder may hold. People keep a handful.
const maxCandidates = 500

// maxVersion bounds a version in a file name or in plugins.lock.
const maxVersion = 64

// fileName is ggen-engine-marketplace_v<semver>_p<protocol>_<os>_<arch>[.exe].
var fileName = regexp.MustCompile(`^ggen-engine-marketplace_v([0-9A-Za-z.+-]{1,64})_p([1-9][0-9]{0,3})_([a-z0-9]{1,16})_([a-z0-9]{1,16})(\.exe)?$`)

func parseName(name string) (Candidate, bool) {
	m := fileName.FindStringSubmatch(name)
	if m == nil || !validVersion(m[1]) || (m[3] == "windows") != (m[5] != "") {
		return Candidate{}, false
	}
	protocol, err := strconv.Atoi(m[2])
	if err != nil {
		return Candidate{}, false
	}
	return Candidate{Version: m[1], Protocol: protocol, OS: m[3], Arch: m[4]}, true
}

func validVersion(version string) bool {
	_, err := semver.StrictNewVersion(version)
	return err == nil && len(version) <= maxVersion
}

// compareVersions orders as semver does: prereleases below their release, build
// metadata without a say.
func compareVersions(a, b string) int {
	av, aErr := semver.StrictNewVersion(a)
	bv, bErr := semver.StrictNewVersion(b)
	if aErr != nil || bErr != nil {
		return cmp.Compare(a, b) // never: both were checked
	}
	return av.Compare(bv)
}

// place is a folder to look in.
type place struct{ dir, source string }

func (s Search) places() []place {
	var places []place
	add := func(source string, dirs ...string) {
		for _, dir := range dirs {
			if dir == "" {
				continue
			}
			if absolute, err := filepath.Abs(dir); err == nil {
				dir = absolute
			}
			if !slices.ContainsFunc(places, func(p place) bool { return p.dir == dir }) {
				places = append(places, place{dir, source})
			}
		}
	}
	add("--plugin-dir", s.Dirs...)
	add(PathVariable, filepath.SplitList(os.Getenv(PathVariable))...)
	// The home may be the .ggen of a project, and needs no consent.
	if dir := filepath.Join(s.Project, ".ggen", "plugins"); s.Project != "" && dir != s.installed() {
		add(sourceProject, dir)
	}
	add("home", s.installed())
	if self, err := os.Executable(); err == nil {
		if resolved, err := filepath.EvalSymlinks(self); err == nil {
			self = resolved
		}
		add("beside ggen", filepath.Dir(self))
	}
	return places
}

// where names the folders that are looked in.
func (s Search) where() string {
	var dirs []string
	for _, p := range s.places() {
		dirs = append(dirs, p.dir)
	}
	return strings.Join(dirs, ", ")
}

// installed is the folder of the engines that [Install] has put there.
func (s Search) installed() string { return filepath.Join(s.Home, "plugins") }

// Find lists every engine file in the search places: first those that take part
// in the choice, the newest first, then the others likewise. At most one is
// Used; Why says of each other why it is not. Nothing is executed, and only the first
// one is hashed, if its file is new or was changed since it was.
//
// Errors: ENGINE_NOT_FOUND for a place that cannot be read, LIMIT_EXCEEDED,
// LOCKFILE, STORAGE, ENGINE_INVALID for a key that is none.
func Find(s Search) ([]Candidate, error) {
	r, err := load(s)
	if err != nil {
		return nil, err
	}
	found, err := r.find()
	if err == nil && len(found) > 0 && found[0].Used && !found[0].Development() {
		if r.verify(&found[0], true); found[0].standing == broken {
			found[0].Used = false
			settle(found)
		}
	}
	return found, err
}

func (r rules) find() ([]Candidate, error) {
	var found []Candidate
	if dev := os.Getenv(DevVariable); dev != "" {
		found = append(found, r.development(dev))
	}
	for i, p := range r.search.places() {
		names, err := engineNames(p.dir)
		if err != nil && p.source == sourceProject && !consent() {
			continue // no project stops commands by what nobody would use
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			c, _ := parseName(name)
			c.Path, c.Source, c.place = filepath.Join(p.dir, name), p.source, i
			r.judge(&c)
			found = append(found, c)
		}
	}
	slices.SortStableFunc(found, compareCandidates)
	settle(found)
	return found, nil
}

// engineNames are the names of the engine files in a folder, sorted. A folder that
// is not there has none.
func engineNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, shared.NewError(shared.ReasonEngineNotFound, "look for engines: %w", err).With("path", dir)
	}
	var names []string
	for _, entry := range entries {
		if _, ok := parseName(entry.Name()); ok {
			names = append(names, entry.Name())
		}
	}
	if len(names) > maxCandidates {
		return nil, shared.NewError(shared.ReasonLimitExceeded, "%s holds %d engines; %d are allowed", dir, len(names), maxCandidates).
			WithHint("remove those that nobody needs").With("limit", strconv.Itoa(maxCandidates)).With("value", strconv.Itoa(len(names)))
	}
	return names, nil
}

// compareCandidates puts those that take part in the choice first, then the newest,
// then the earlier place. The rest only makes the order the same everywhere.
func compareCandidates(a, b Candidate) int {
	return cmp.Or(
		cmp.Compare(out(a), out(b)),
		compareDevelopment(a, b),
		-compareVersions(a.Version, b.Version),
		cmp.Compare(a.place, b.place),
		-cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Path, b.Path),
	)
}

func out(c Candidate) int {
	if c.standing == usable || c.standing == broken {
		return 0
	}
	return 1
}

func compareDevelopment(a, b Candidate) int {
	switch {
	case a.Development() == b.Development():
		return 0
	case a.Development():
		return -1
	}
	return 1
}

// settle marks the one that is used, and says of the others that take part why
// they are not.
func settle(found []Candidate) {
	for i := range found {
		c, first := &found[i], found[0]
		switch {
		case out(*c) != 0 || i == 0 && c.standing == broken:
		case i == 0:
			c.Used = true
		case first.Development():
			c.Why = DevVariable + " names the engine to use"
		case c.standing == broken: // and says so itself
		case first.standing == broken:
			c.Why = fmt.Sprintf("%s comes first, although it cannot be used as it is", first.Version)
		case compareVersions(c.Version, first.Version) == 0:
			c.Why = "the same version is found in an earlier place"
		default:
			c.Why = "a newer one is used"
		}
	}
}

func (r rules) development(dev string) Candidate {
	c := Candidate{Path: dev, Version: "development", Protocol: r.search.Newest, OS: runtime.GOOS, Arch: runtime.GOARCH, Source: DevVariable, Signature: "none"}
	if path, err := filepath.Abs(dev); err == nil {
		c.Path = path
	}
	if why, fix := notExecutable(c.Path); why != "" {
		c.fail(why, fix)
	}
	return c
}

// judge says whether a candidate takes part in the choice, as far as that shows
// without hashing or executing it, and what is wrong with it.
func (r rules) judge(c *Candidate) {
	if c.withoutConsent() {
		// Not even its small files are read.
		c.bar(barred, "engines of a project are used only when "+ProjectVariable+" is set: a folder that somebody sent you must not run programs")
		return
	}
	r.inspect(c)
	if as, why := r.search.comprehend(*c); why != "" {
		c.bar(as, why)
	}
	if wanted, by := r.wanted(); wanted != "" && c.Version != wanted {
		c.bar(barred, by+" asks for "+wanted)
	}
	if c.foreign() {
		c.bar(foreign, fmt.Sprintf("it is for %s/%s, and this is %s/%s", c.OS, c.Arch, runtime.GOOS, runtime.GOARCH))
	}
}

// inspect looks at what lies around an engine: its mode, its checksum and signature
// files, and what plugins.lock knows of it.
func (r rules) inspect(c *Candidate) {
	c.standing, c.Why, c.Fix = usable, "", ""
	digest, err := readChecksum(c.Path)
	c.Digest = digest
	signature := r.keys.look(c.Path)
	c.Signature = signature.state
	if why, fix := notExecutable(c.Path); why != "" && !c.foreign() {
		c.fail(why, fix)
		return
	}
	switch {
	case err != nil:
		c.fail(err.Error(), fixChecksum(c.Path))
	case signature.why != "":
		c.fail(signature.why, signature.fix)
	default:
		r.compareLocked(c)
	}
}

// comprehend says why this host and an engine cannot speak to each other.
func (s Search) comprehend(c Candidate) (as standing, why string) {
	switch {
	case c.Protocol < s.Oldest:
		return unspoken, fmt.Sprintf("it speaks protocol %d, and this ggen speaks %s", c.Protocol, s.speaks())
	case c.Protocol <= s.Newest:
		return usable, ""
	}
	if s.Facts != nil {
		protocols, known := s.Facts(c)
		if known && !slices.ContainsFunc(protocols, func(p int) bool { return p >= s.Oldest && p <= s.Newest }) {
			return unspoken, fmt.Sprintf("it speaks the protocols %v, and this ggen speaks %s", protocols, s.speaks())
		}
		if known {
			return usable, ""
		}
	}
	return unknown, fmt.Sprintf("it speaks protocol %d, newer than this ggen's %d, and it is unknown whether it speaks ours", c.Protocol, s.Newest)
}

func (c Candidate) withoutConsent() bool { return c.Source == sourceProject && !consent() }

// consent tells whether the user allows engines from projects.
func consent() bool { return os.Getenv(ProjectVariable) != "" }

func (c Candidate) foreign() bool { return c.OS != runtime.GOOS || c.Arch != runtime.GOARCH }

// notExecutable says why a file cannot be a program, and what to do about it.
func notExecutable(path string) (why, fix string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err.Error(), ""
	case !info.Mode().IsRegular():
		return "it is not a file", ""
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o111 == 0:
		return "it is not executable", "run chmod +x " + quoted(path)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0:
		return "everybody on this machine may change it", "see where it comes from, and run chmod o-w " + quoted(path)
	}
	return "", ""
}
