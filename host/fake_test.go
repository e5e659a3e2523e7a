package main

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/pelletier/go-toml/v2"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
)

// folderEngines is a small engine whose network is a folder: what one home
// publishes, every other home with that folder can install. It lets the scripts
// test the commands without processes or sockets; that the commands and the real
// engine fit is what package e2e tests.
type folderEngines struct{ env func(string) string }

// fakeRelease is a release in the network folder.
type fakeRelease struct {
	Name, Version, Title, Description, Category, Author string
	Publisher                                           shared.PublisherID
	Digest                                              shared.Digest
	Needs                                               []string
	Files                                               map[string]fakeFile
}

type fakeFile struct {
	Content    []byte
	Executable bool
}

func (e folderEngines) network() string { return e.env("TEST_NETWORK") }

// entered tells a test that a call hangs now.
func (e folderEngines) entered() {
	if file := e.env("TEST_ENTERED"); file != "" {
		_ = os.WriteFile(file, nil, 0o600) // a test that misses it times out
	}
}

// Search looks for real files, which nothing here executes.
func (e folderEngines) Search(cfg engineConfig) plugins.Search {
	return plugins.Search{Home: cfg.Home, Project: cfg.Project, Dirs: cfg.PluginDirs, Oldest: 1, Newest: 1}
}

// Swap fails as a real one does whose new engine is not healthy, if the test wants it.
func (e folderEngines) Swap(ctx context.Context, cfg engineConfig, former plugins.Choice) (swapResult, error) {
	if e.env("TEST_SICK_ENGINE") != "" {
		return swapResult{}, errors.Join(shared.NewError(shared.ReasonEngineFailed, "the new engine is not healthy"),
			plugins.Restore(ctx, e.Search(cfg), former))
	}
	_, err := os.Stat(e.running(cfg))
	return swapResult{Swapped: err == nil}, nil
}

func (e folderEngines) Connect(_ context.Context, cfg engineConfig) (session, error) {
	if e.env("TEST_NO_ENGINE") != "" {
		return nil, shared.NewError(shared.ReasonEngineNotFound, "there is no marketplace engine in %s", cfg.Home).WithHint("put one there")
	}
	return &folderSession{engines: e, cfg: cfg}, nil
}

func (e folderEngines) running(cfg engineConfig) string { return filepath.Join(cfg.Home, "running") }

func (e folderEngines) Attach(ctx context.Context, cfg engineConfig) (session, error) {
	if _, err := os.Stat(e.running(cfg)); err != nil {
		return nil, errNotRunning
	}
	return e.Connect(ctx, cfg)
}

func (e folderEngines) Start(ctx context.Context, cfg engineConfig) (session, bool, error) {
	if slices.Contains(cfg.Settings.Listen, "/ip4/127.0.0.1/tcp/1") {
		return nil, false, shared.NewError(shared.ReasonAddressInUse, "listen on /ip4/127.0.0.1/tcp/1: address already in use")
	}
	_, err := os.Stat(e.running(cfg))
	settings, jsonErr := json.Marshal(cfg.Settings)
	if err := errors.Join(jsonErr, os.MkdirAll(cfg.Home, 0o700), os.WriteFile(e.running(cfg), settings, 0o600)); err != nil {
		return nil, false, err
	}
	s, connectErr := e.Connect(ctx, cfg)
	return s, errors.Is(err, fs.ErrNotExist), connectErr
}

func (e folderEngines) Stop(_ context.Context, cfg engineConfig, _ time.Duration) (bool, error) {
	return os.Remove(e.running(cfg)) == nil, nil
}

func (e folderEngines) Foreground(ctx context.Context, cfg engineConfig, ready func(session)) error {
	s, _, err := e.Start(ctx, cfg)
	if err != nil {
		return err
	}
	ready(s)
	if e.env("TEST_HANG") != "" {
		e.entered()
		<-ctx.Done()
	}
	return os.Remove(e.running(cfg))
}

type folderSession struct {
	engines folderEngines
	cfg     engineConfig
}

func (s *folderSession) Close() error { return nil }

func (s *folderSession) Notices() []shared.Diagnostic { return nil }

// fault makes one verb fail, or hang until its context ends.
func (s *folderSession) fault(ctx context.Context, verb string) error {
	if s.engines.env("TEST_HANG") == verb {
		s.engines.entered()
		<-ctx.Done()
		return shared.AsError(ctx.Err())
	}
	if wanted, reason, ok := strings.Cut(s.engines.env("TEST_FAIL"), ":"); ok && wanted == verb {
		return shared.NewError(shared.Reason(reason), "%s failed because the test wants it \x1b[31m\u202ered", verb).
			WithHint("unset TEST_FAIL").With("verb", verb)
	}
	return nil
}

func (s *folderSession) publisher() shared.PublisherID {
	return shared.PublisherID(shared.DigestOf([]byte(filepath.Base(s.cfg.Home))).Hex())
}

func (s *folderSession) releases() ([]fakeRelease, error) {
	paths, err := filepath.Glob(filepath.Join(s.engines.network(), "*.json"))
	if err != nil {
		return nil, err
	}
	var all []fakeRelease
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var r fakeRelease
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b fakeRelease) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), semver.MustParse(b.Version).Compare(semver.MustParse(a.Version)))
	})
	return all, nil
}

func (s *folderSession) Info(ctx context.Context) (shared.EngineInfo, error) {
	return shared.EngineInfo{Name: "marketplace", Version: "1.2.0", PID: 4711, InstanceID: "i-1"}, s.fault(ctx, "info")
}

// fakeReputation is that of the only other peer, which holds everything.
const fakeReputation = 0.75

func (s *folderSession) Search(ctx context.Context, q shared.SearchQuery) (shared.SearchResult, error) {
	if err := s.fault(ctx, "search"); err != nil {
		return shared.SearchResult{}, err
	}
	all, err := s.releases()
	if err != nil {
		return shared.SearchResult{}, err
	}
	var result shared.SearchResult
	for i, r := range all {
		matches := strings.Contains(r.Name+" "+r.Description, q.Text) && q.MinReputation <= fakeReputation && (q.Category == "" || q.Category == r.Category) &&
			strings.HasPrefix(string(r.Publisher), string(q.Publisher))
		if newest := i == 0 || all[i-1].Name != r.Name; matches && newest {
			result.Packages = append(result.Packages, r.summary())
		}
	}
	result.Total = len(result.Packages)
	result.Packages = result.Packages[min(q.Offset, result.Total):]
	result.Packages = result.Packages[:min(q.Limit, len(result.Packages))]
	return result, nil
}

func (r fakeRelease) summary() shared.PackageSummary {
	return shared.PackageSummary{
		Name: r.Name, Version: r.Version, Title: r.Title, Description: r.Description, Category: r.Category, Author: r.Author,
		Publisher: r.Publisher, PublishedAt: time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC), Score: 1,
	}
}

func (s *folderSession) find(ref shared.Ref, locked []shared.LockedPackage) (fakeRelease, error) {
	all, err := s.releases()
	if err != nil {
		return fakeRelease{}, err
	}
	constraint, err := semver.NewConstraint(cmp.Or(ref.Constraint, "*"))
	if err != nil {
		return fakeRelease{}, shared.NewError(shared.ReasonInvalidArgument, "%q is not a version range", ref.Constraint)
	}
	var matching []fakeRelease
	publishers := map[shared.PublisherID]bool{}
	known := false
	for _, r := range all {
		if r.Name != ref.Name || !strings.HasPrefix(string(r.Publisher), string(ref.Publisher)) {
			continue
		}
		known = true
		if constraint.Check(semver.MustParse(r.Version)) {
			publishers[r.Publisher] = true
			matching = append(matching, r)
		}
	}
	switch {
	case len(publishers) > 1:
		return fakeRelease{}, shared.NewError(shared.ReasonAmbiguous, "several publishers offer %s", ref.Name).WithHint("name one")
	case len(matching) == 0 && known:
		return fakeRelease{}, shared.NewError(shared.ReasonUnsatisfiable, "no release of %s is %s", ref.Name, ref.Constraint)
	case len(matching) == 0:
		return fakeRelease{}, shared.NewError(shared.ReasonNotFound, "install %s: nobody knows it", ref.Name)
	}
	for _, l := range locked {
		for _, r := range matching {
			if l.Name == r.Name && l.Version == r.Version {
				return r, nil
			}
		}
	}
	return matching[0], nil
}

func (s *folderSession) Describe(ctx context.Context, ref shared.Ref) (shared.PackageDetails, error) {
	if err := s.fault(ctx, "describe"); err != nil {
		return shared.PackageDetails{}, err
	}
	r, err := s.find(ref, nil)
	if err != nil {
		return shared.PackageDetails{}, err
	}
	return shared.PackageDetails{
		PackageSummary: r.summary(), Digest: r.Digest, Size: 2048, FileCount: len(r.Files), Providers: 1, Holders: 3, Held: true,
		Versions: []shared.VersionInfo{{Version: r.Version, Digest: r.Digest}}, Extra: map[string]string{"edition": "2026"},
		Dependencies: []shared.Dependency{{Name: "base", Constraint: "^1"}},
	}, nil
}

func (s *folderSession) Publish(ctx context.Context, req shared.PublishRequest, tree io.Reader, report shared.ProgressFunc) (shared.PublishReceipt, error) {
	if err := s.fault(ctx, "publish"); err != nil {
		return shared.PublishReceipt{}, err
	}
	files := map[string]fakeFile{}
	tr := tar.NewReader(tree)
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return shared.PublishReceipt{}, shared.AsError(fmt.Errorf("read the tree: %w", err))
		}
		report.Report(shared.Progress{Phase: shared.PhaseUpload, Done: int64(len(files))})
		switch header.Typeflag {
		case tar.TypeDir:
			continue
		case tar.TypeReg:
		default:
			return shared.PublishReceipt{}, shared.NewError(shared.ReasonInvalidPackage, "%s is no regular file (to %q)", header.Name, header.Linkname).With("path", header.Name)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return shared.PublishReceipt{}, shared.AsError(err)
		}
		files[header.Name] = fakeFile{content, header.Mode&0o111 != 0}
	}
	var manifest struct {
		Package struct {
			Name, Version, Title, Description, Category, Author string
			Dependencies                                        []string
		}
	}
	data, ok := files["package.toml"]
	if !ok {
		return shared.PublishReceipt{}, shared.NewError(shared.ReasonInvalidManifest, "the folder has no manifest")
	}
	if err := toml.Unmarshal(data.Content, &manifest); err != nil {
		return shared.PublishReceipt{}, shared.NewError(shared.ReasonInvalidManifest, "package.toml: %w", err)
	}
	m := manifest.Package
	r := fakeRelease{
		Name: m.Name, Version: m.Version, Title: m.Title, Description: m.Description, Category: m.Category, Author: m.Author,
		Publisher: s.publisher(), Digest: digestFiles(files), Needs: m.Dependencies, Files: files,
	}
	receipt := shared.PublishReceipt{Package: r.Name, Version: r.Version, Publisher: r.Publisher, Digest: r.Digest, Size: 1024, LogSize: 1, DryRun: req.DryRun, Announced: 2}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		receipt.Files = append(receipt.Files, shared.FileInfo{Path: name, Size: int64(len(files[name].Content)), Executable: files[name].Executable})
	}
	if req.DryRun {
		receipt.Manifest = fmt.Sprintf("[package]\nname = %q\nversion = %q\n", r.Name, r.Version)
		receipt.Statement = fmt.Sprintf(`{"kind":"release","name":%q}`, r.Name)
		if req.Lint {
			receipt.Findings = []shared.Finding{{Severity: shared.SeverityWarning, Rule: "license", File: "package.toml", Line: 1, Column: 1, Message: "no licence", Fix: "add one"}}
		}
		return receipt, nil
	}
	if req.Wait {
		receipt.Recorded = 3
	}
	file := filepath.Join(s.engines.network(), fmt.Sprintf("%s-%s-%s.json", r.Name, r.Version, r.Publisher.Short()))
	if old, err := os.ReadFile(file); err == nil {
		var earlier fakeRelease
		if err := json.Unmarshal(old, &earlier); err != nil {
			return receipt, err
		}
		if earlier.Digest != r.Digest {
			return receipt, shared.NewError(shared.ReasonVersionExists, "%s %s was published before, with other content", r.Name, r.Version).WithHint("raise the version")
		}
		receipt.Unchanged = true
		return receipt, nil
	}
	encoded, err := json.Marshal(r)
	if err != nil {
		return receipt, err
	}
	return receipt, errors.Join(os.MkdirAll(s.engines.network(), 0o700), os.WriteFile(file, encoded, 0o600))
}

func digestFiles(files map[string]fakeFile) shared.Digest {
	data, err := json.Marshal(files)
	if err != nil {
		return ""
	}
	return shared.DigestOf(data)
}

func readFolder(dir string) (map[string]fakeFile, error) {
	files := map[string]fakeFile{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = fakeFile{content, info.Mode()&0o111 != 0}
		return err
	})
	return files, err
}

func (s *folderSession) Install(ctx context.Context, req shared.InstallRequest, report shared.ProgressFunc) (shared.InstallReceipt, error) {
	if err := s.fault(ctx, "install"); err != nil {
		return shared.InstallReceipt{}, err
	}
	var receipt shared.InstallReceipt
	done := map[string]bool{}
	var place func(ref shared.Ref, requested bool) error
	place = func(ref shared.Ref, requested bool) error {
		if done[ref.Name] {
			return nil
		}
		done[ref.Name] = true
		r, err := s.find(ref, req.Locked)
		if err != nil {
			return err
		}
		var needs []string
		for _, need := range r.Needs {
			dep, err := shared.ParseRef(need)
			if err != nil {
				return err
			}
			needs = append(needs, dep.Name)
			if err := place(dep, slices.ContainsFunc(req.Packages, func(r shared.Ref) bool { return r.Name == dep.Name })); err != nil {
				return err
			}
		}
		report.Report(shared.Progress{Phase: shared.PhaseFetch, Package: r.Name, Done: 1, Total: 2})
		installed := shared.InstalledPackage{
			LockedPackage: shared.LockedPackage{Name: r.Name, Publisher: r.Publisher, Version: r.Version, Digest: r.Digest, Dependencies: needs},
			Path:          filepath.Join(req.Root, r.Name), Title: r.Title, Description: r.Description, Requested: requested,
			FirstUse: r.Publisher != s.publisher() && !slices.ContainsFunc(req.Locked, func(l shared.LockedPackage) bool { return l.Name == r.Name }),
		}
		if installed.FirstUse && !req.Trust && len(req.Accepted) == 0 && !req.DryRun {
			return shared.NewError(shared.ReasonUntrusted, "nobody on this machine has used %s of publisher %s before", r.Name, r.Publisher.Short())
		}
		if err := s.unpack(req, r, &installed); err != nil {
			return err
		}
		receipt.Packages = append(receipt.Packages, installed)
		return nil
	}
	for _, ref := range req.Packages {
		if err := place(ref, true); err != nil {
			return receipt, err
		}
	}
	return receipt, nil
}

func (s *folderSession) unpack(req shared.InstallRequest, r fakeRelease, installed *shared.InstalledPackage) error {
	if found, err := readFolder(installed.Path); err == nil {
		have := digestFiles(found)
		installed.Unchanged = have == r.Digest
		locked := slices.ContainsFunc(req.Locked, func(l shared.LockedPackage) bool { return l.Name == r.Name && l.Digest == have })
		if !installed.Unchanged && !locked && !req.Force {
			return shared.NewError(shared.ReasonModified, "%s holds files that were changed", r.Name)
		}
	}
	if installed.Unchanged || req.DryRun {
		return nil
	}
	installed.Fetched, installed.Peers = 1536, 1
	if err := os.RemoveAll(installed.Path); err != nil {
		return err
	}
	for name, file := range r.Files {
		path := filepath.Join(installed.Path, filepath.FromSlash(name))
		perm := fs.FileMode(0o644)
		if file.Executable {
			perm = 0o755
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, file.Content, perm)); err != nil {
			return err
		}
	}
	return nil
}

func (s *folderSession) Verify(ctx context.Context, req shared.VerifyRequest) (shared.VerifyReport, error) {
	if err := s.fault(ctx, "verify"); err != nil {
		return shared.VerifyReport{}, err
	}
	var report shared.VerifyReport
	for _, pkg := range req.Packages {
		result := shared.VerifyResult{Name: pkg.Name, Version: pkg.Version, Expected: pkg.Digest}
		r, err := s.find(shared.Ref{Name: pkg.Name, Publisher: pkg.Publisher, Constraint: "=" + pkg.Version}, nil)
		if err != nil {
			return report, err
		}
		found, err := readFolder(filepath.Join(req.Root, pkg.Name))
		if err != nil {
			result.Problem = "the folder is missing"
			report.Packages = append(report.Packages, result)
			continue
		}
		result.Found = digestFiles(found)
		result.OK = result.Found == pkg.Digest
		for name, want := range r.Files {
			if have, ok := found[name]; !ok {
				result.Missing = append(result.Missing, name)
			} else if string(have.Content) != string(want.Content) {
				result.Modified = append(result.Modified, name)
			}
		}
		for name := range found {
			if _, ok := r.Files[name]; !ok {
				result.Extra = append(result.Extra, name)
			}
		}
		report.Packages = append(report.Packages, result)
	}
	return report, nil
}

func (s *folderSession) Status(ctx context.Context) (shared.NodeStatus, error) {
	return shared.NodeStatus{
		PeerID: "12D3KooWTest", ListenAddresses: []string{"/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWTest"}, Reachability: "private", DHTMode: "client",
		BootstrapCount: len(s.cfg.Settings.Bootstrap), Publisher: s.publisher(), Version: "1.2.0", Staying: true,
	}, s.fault(ctx, "status")
}

func (s *folderSession) Peers(ctx context.Context, query shared.PeerQuery) (shared.PeerList, error) {
	peer := shared.Peer{
		ID: "12D3KooWOther", Addresses: []string{"/ip4/192.0.2.1/tcp/4001"}, Connected: true, Reputation: fakeReputation, SuccessfulRetrievals: 3, FailedRetrievals: 1,
		LastSeen: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), PackagesProvided: 2, AvgResponseTime: 12500 * time.Microsecond, Agent: "evil\x1b]0;agent\x07",
		AvgBandwidth: 3 << 20, ReceivedBytes: 5 << 20, Downloads: 1, Outcomes: map[string]int64{"delivered": 3, "stalled": 1, "evil\x1b": 1},
		Score:     []shared.ScorePart{{Name: "reliability", Value: 0.75, Weight: 0.5}, {Name: "response", Value: 0.9, Weight: 0.2}},
		FirstSeen: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), LastSuccess: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
		LastFailure: time.Date(2026, 2, 3, 4, 5, 7, 0, time.UTC), LastFailureKind: "stalled", FailuresInRow: 1,
		RestsUntil: time.Date(2026, 2, 3, 4, 5, 37, 0, time.UTC), Location: &shared.Location{Latitude: 48, Longitude: 12, Region: "eu-central"},
	}
	if query.ID != "" && query.ID != peer.ID || query.MinReputation > peer.Reputation {
		return shared.PeerList{}, s.fault(ctx, "peers")
	}
	return shared.PeerList{Peers: []shared.Peer{peer}, Total: 1}, s.fault(ctx, "peers")
}

func (s *folderSession) Bootstrap(ctx context.Context, addresses []string) ([]shared.DialOutcome, error) {
	var outcomes []shared.DialOutcome
	for _, address := range addresses {
		o := shared.DialOutcome{Address: address, Took: 2 * time.Millisecond}
		if strings.Contains(address, "/dead") {
			o.Err = shared.NewError(shared.ReasonTimeout, "dial %s: no answer", address)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, s.fault(ctx, "bootstrap")
}

func (s *folderSession) Watch(ctx context.Context, _ shared.WatchQuery, deliver func(shared.Event) error) error {
	releases, err := s.releases()
	if err != nil {
		return err
	}
	for _, r := range releases {
		if err := deliver(shared.Event{Kind: shared.EventRelease, Time: time.Unix(1_700_000_000, 0), Package: r.summary()}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return shared.AsError(ctx.Err())
}
