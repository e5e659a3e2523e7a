package engine

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"ggen.dev/marketplace/shared/rpc"
)

// DevVariable names an engine binary to use instead of any that is found. It is
// for people who work on engines, and always warns.
const DevVariable = "GGEN_PLUGIN_DEV"

// PathVariable is a list of folders to look for engines in.
const PathVariable = "GGEN_PLUGIN_PATH"

// ProjectVariable is the environment variable that, set to anything, allows engines from the project's folder. A
// project is somebody else's files: without consent nothing in it is executed.
const ProjectVariable = "GGEN_PLUGIN_PROJECT"

const sourceProject = "project"

// Candidate is an engine binary that was found. Nothing is executed to find it.
type Candidate struct {
	Path     string
	Version  string
	Protocol int
	OS, Arch string
	Source   string // which search place it was found in
	Digest   shared.Digest
	Used     bool
	Why      string // why it is not used; empty for the one that is
}

// fileName is ggen-engine-marketplace_v<semver>_p<protocol>_<os>_<arch>[.exe].
var fileName = regexp.MustCompile(`^ggen-engine-marketplace_v(.+)_p([0-9]{1,4})_([a-z0-9]+)_([a-z0-9]+?)(\.exe)?$`)

// place is a folder to look in.
type place struct{ dir, source string }

func (cfg Config) places() []place {
	var places []place
	add := func(source string, dirs ...string) {
		for _, dir := range dirs {
			if dir != "" {
				places = append(places, place{dir, source})
			}
		}
	}
	add("--plugin-dir", cfg.PluginDirs...)
	add(PathVariable, filepath.SplitList(os.Getenv(PathVariable))...)
	if cfg.Project != "" {
		add(sourceProject, filepath.Join(cfg.Project, ".ggen", "plugins"))
	}
	add("home", filepath.Join(cfg.Home, "plugins"))
	if self, err := os.Executable(); err == nil {
		if resolved, err := filepath.EvalSymlinks(self); err == nil {
			self = resolved
		}
		add("beside ggen", filepath.Dir(self))
	}
	return places
}

// Find lists every engine binary in the search places, the one that is used
// first, then by version (newest first) and place. Candidate.Why says why one is
// not used; the rest of the checks (its digest) happen before it is executed.
func Find(cfg Config) ([]Candidate, error) {
	if dev := os.Getenv(DevVariable); dev != "" {
		path, err := filepath.Abs(dev)
		if err != nil {
			return nil, shared.NewError(shared.ReasonEngineInvalid, "%s=%s: %w", DevVariable, dev, err)
		}
		c := Candidate{Path: path, Version: "development", Protocol: rpc.Protocol, OS: runtime.GOOS, Arch: runtime.GOARCH, Source: DevVariable, Used: true}
		if why := executable(path); why != "" {
			return nil, shared.NewError(shared.ReasonEngineInvalid, "%s=%s: %s", DevVariable, dev, why)
		}
		return []Candidate{c}, nil
	}
	var found []Candidate
	seen := map[string]bool{}
	for _, p := range cfg.places() {
		entries, err := os.ReadDir(p.dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, shared.NewError(shared.ReasonEngineNotFound, "look for engines: %w", err)
		}
		for _, entry := range entries {
			c, ok := parseName(entry.Name())
			path := filepath.Join(p.dir, entry.Name())
			if !ok || seen[path] {
				continue
			}
			seen[path] = true
			c.Path, c.Source = path, p.source
			c.Why = c.unusable()
			if p.source == sourceProject && os.Getenv(ProjectVariable) == "" {
				c.Why = "engines of a project are used only when " + ProjectVariable + " is set: a folder that somebody sent you must not run programs"
			}
			found = append(found, c)
		}
	}
	// Stable: what is equally new stays in the order of the places.
	slices.SortStableFunc(found, func(a, b Candidate) int {
		if usable := cmp.Compare(rank(a), rank(b)); usable != 0 {
			return usable
		}
		return newer(a.Version, b.Version)
	})
	for i := range found {
		if found[i].Why != "" {
			continue
		}
		if i == 0 {
			found[i].Used = true
			continue
		}
		found[i].Why = "a newer one is used"
		if found[i].Version == found[0].Version {
			found[i].Why = "the same version is found in an earlier place"
		}
	}
	return found, nil
}

func rank(c Candidate) int {
	if c.Why != "" {
		return 1
	}
	return 0
}

// newer orders versions, the newest first; they were checked when they were parsed.
func newer(a, b string) int {
	av, aErr := semver.StrictNewVersion(a)
	bv, bErr := semver.StrictNewVersion(b)
	if aErr != nil || bErr != nil {
		return cmp.Compare(b, a)
	}
	return bv.Compare(av)
}

func parseName(name string) (Candidate, bool) {
	m := fileName.FindStringSubmatch(name)
	if m == nil {
		return Candidate{}, false
	}
	if _, err := semver.StrictNewVersion(m[1]); err != nil {
		return Candidate{}, false
	}
	protocol, err := strconv.Atoi(m[2])
	if err != nil {
		return Candidate{}, false
	}
	return Candidate{Version: m[1], Protocol: protocol, OS: m[3], Arch: m[4]}, true
}

// unusable says why a candidate cannot be used, as far as that shows without
// reading or executing it; it fills in the digest that its checksum file states.
func (c *Candidate) unusable() string {
	switch {
	case c.OS != runtime.GOOS || c.Arch != runtime.GOARCH:
		return fmt.Sprintf("it is for %s/%s, and this is %s/%s", c.OS, c.Arch, runtime.GOOS, runtime.GOARCH)
	case c.Protocol != rpc.Protocol:
		return fmt.Sprintf("it speaks protocol %d, and this ggen speaks %d", c.Protocol, rpc.Protocol)
	}
	if why := executable(c.Path); why != "" {
		return why
	}
	digest, err := readChecksum(c.Path)
	if err != nil {
		return err.Error()
	}
	c.Digest = digest
	return ""
}

func executable(path string) string {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err.Error()
	case !info.Mode().IsRegular():
		return "it is not a file"
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o111 == 0:
		return fmt.Sprintf("it is not executable: chmod +x %s", path)
	}
	return ""
}

// readChecksum reads the digest beside a binary, in the format of sha256sum.
func readChecksum(path string) (shared.Digest, error) {
	file, err := os.Open(path + ".sha256")
	if err != nil {
		return "", fmt.Errorf("its checksum file is missing: if you trust the binary, run (cd %s && sha256sum %s > %s.sha256)",
			filepath.Dir(path), filepath.Base(path), filepath.Base(path))
	}
	defer func() { _ = file.Close() }() // only read
	scanner := bufio.NewScanner(io.LimitReader(file, 4<<10))
	if scanner.Scan() {
		if fields := strings.Fields(scanner.Text()); len(fields) > 0 {
			if digest, err := shared.ParseDigest("sha256:" + strings.ToLower(fields[0])); err == nil {
				return digest, nil
			}
		}
	}
	return "", fmt.Errorf("its checksum file %s.sha256 is not in the format of sha256sum", filepath.Base(path))
}

// choose picks the engine to run and verifies its digest.
func choose(cfg Config) (Candidate, error) {
	found, err := Find(cfg)
	if err != nil {
		return Candidate{}, err
	}
	if len(found) == 0 {
		var dirs []string
		for _, p := range cfg.places() {
			dirs = append(dirs, p.dir)
		}
		return Candidate{}, shared.NewError(shared.ReasonEngineNotFound, "there is no marketplace engine in %s", strings.Join(dirs, ", ")).
			WithHint("put ggen-engine-marketplace_v…_p%d_%s_%s and its .sha256 beside ggen or into %s", rpc.Protocol, runtime.GOOS, runtime.GOARCH, filepath.Join(cfg.Home, "plugins"))
	}
	if !found[0].Used {
		reason := shared.ReasonEngineInvalid
		var whys []string
		foreign := true
		for _, c := range found {
			whys = append(whys, fmt.Sprintf("%s: %s", c.Path, c.Why))
			foreign = foreign && c.Protocol != rpc.Protocol
		}
		if foreign {
			reason = shared.ReasonEngineProtocol
		}
		return Candidate{}, shared.NewError(reason, "no marketplace engine can be used: %s", strings.Join(whys, "; ")).
			WithHint("`ggen marketplace plugin list` shows every candidate")
	}
	if found[0].Digest == "" { // a development override
		return found[0], nil
	}
	return found[0], verify(cfg, found[0])
}

// checked is a line of the cache of verified binaries: hashing 30 MB takes 30 ms,
// as long as everything else a command does.
type checked struct {
	Size   int64         `json:"size"`
	Time   int64         `json:"mtime_ns"`
	Digest shared.Digest `json:"digest"`
}

// verify compares a binary with its checksum before it is executed for the first
// time, and again when the file has changed.
func verify(cfg Config, c Candidate) error {
	info, err := os.Stat(c.Path)
	if err != nil {
		return shared.NewError(shared.ReasonEngineInvalid, "verify the engine: %w", err)
	}
	cacheFile := filepath.Join(cfg.run(), "verified.json")
	cache := map[string]checked{}
	if data, err := os.ReadFile(cacheFile); err == nil {
		_ = json.Unmarshal(data, &cache) // a damaged cache is an empty one
	}
	want := checked{Size: info.Size(), Time: info.ModTime().UnixNano(), Digest: c.Digest}
	if cache[c.Path] == want {
		return nil
	}
	found, err := digestFile(c.Path)
	if err != nil {
		return shared.NewError(shared.ReasonEngineInvalid, "verify the engine: %w", err)
	}
	if found != c.Digest {
		return shared.NewError(shared.ReasonEngineInvalid, "the engine %s is not what its checksum says: it is %s, and %s is expected", c.Path, found, c.Digest).
			WithHint("install it again from where you got it").With("found", string(found)).With("expected", string(c.Digest))
	}
	cache[c.Path] = want
	data, err := json.Marshal(cache)
	if err != nil {
		return shared.AsError(err)
	}
	// Only a cache: when it cannot be written, the next command hashes again.
	_ = os.WriteFile(cacheFile, data, 0o600)
	return nil
}

func digestFile(path string) (digest shared.Digest, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return shared.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil))), nil
}
