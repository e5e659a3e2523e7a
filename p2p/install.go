package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/tracing"
)

// Install places packages and what they depend on below a folder; see
// [shared.Marketplace]. The order is: choose publishers, resolve versions, refuse
// whatever trust or local changes forbid, and only then fetch and unpack.
func (e *Engine) Install(ctx context.Context, req shared.InstallRequest, report shared.ProgressFunc) (shared.InstallReceipt, error) {
	if !filepath.IsAbs(req.Root) {
		return shared.InstallReceipt{}, shared.NewError(shared.ReasonInvalidArgument, "install: the folder %q is not absolute", req.Root)
	}
	if len(req.Packages) == 0 {
		return shared.InstallReceipt{}, shared.NewError(shared.ReasonInvalidArgument, "install: no package is named")
	}
	if err := realFolder(req.Root); err != nil {
		return shared.InstallReceipt{}, named(err, "install")
	}
	report.Report(shared.Progress{Phase: shared.PhaseResolve})
	resolving, end := tracing.Start(ctx, "resolve")
	plan, err := e.plan(resolving, req)
	end(err)
	if err != nil {
		return shared.InstallReceipt{}, named(err, "install %s", refList(req.Packages))
	}
	receipt := shared.InstallReceipt{Diagnostics: plan.diagnostics}
	unlock := e.folders.lock(req.Root)
	defer unlock()
	for _, step := range plan.steps {
		if err := e.inTheWay(ctx, req, step); err != nil {
			return receipt, named(err, "install %s", step.label())
		}
	}
	if req.DryRun {
		for _, step := range plan.steps {
			receipt.Packages = append(receipt.Packages, step.installed())
		}
		return receipt, nil
	}
	e.adding.RLock() // nothing of it is swept before it is known what it is for
	defer e.adding.RUnlock()
	defer e.hasAdded()
	// Content first: either everything can be had, or nothing is touched.
	for _, step := range plan.steps {
		if step.unchanged {
			continue
		}
		if err := e.fetch(ctx, req, step, report); err != nil {
			return receipt, named(err, "install %s", step.label())
		}
		if err := e.checkExecutables(ctx, req, step); err != nil {
			return receipt, named(err, "install %s", step.label())
		}
	}
	if err := e.catalog.Pin(plan.pins()); err != nil {
		return receipt, named(err, "install %s", refList(req.Packages))
	}
	for _, step := range plan.steps {
		if !step.unchanged {
			report.Report(shared.Progress{Phase: shared.PhaseUnpack, Package: step.label(), Total: step.release.Archive.Size})
			if err := e.unpackSound(ctx, req, step, report); err != nil {
				return receipt, named(err, "install %s", step.label())
			}
		}
		receipt.Packages = append(receipt.Packages, step.installed())
		if !req.Offline {
			e.survey.Want(keyOf(step.release))
		}
	}
	if err := e.hasPlaced(plan.steps); err != nil {
		e.log.WarnContext(ctx, "note what is installed; its content may be removed and fetched again", "error", err)
	}
	return receipt, nil
}

// checkSize refuses a package that is larger than the user wants, before anything of
// it is fetched.
func checkSize(req shared.InstallRequest, rel *catalog.Release) error {
	for _, limit := range []struct {
		what      string
		has, most int64
	}{{"files", int64(rel.Files), int64(req.MaxFiles)}, {"bytes", rel.Archive.Size, req.MaxBytes}} {
		if limit.most > 0 && limit.has > limit.most {
			return shared.NewError(shared.ReasonLimitExceeded, "%s@%s has %d %s; %d are allowed here", rel.Name, rel.Version, limit.has, limit.what, limit.most).
				WithHint("raise max_package_%s in the settings if you want it nevertheless", map[string]string{"files": "files", "bytes": "size"}[limit.what]).
				With("limit", fmt.Sprint(limit.most)).With("value", fmt.Sprint(limit.has))
		}
	}
	return nil
}

// checkExecutables refuses files that are executable without the manifest saying so.
func (e *Engine) checkExecutables(ctx context.Context, req shared.InstallRequest, s *step) error {
	if req.Executables || !slices.ContainsFunc(s.index.Files, func(f archive.File) bool { return f.Executable }) {
		return nil
	}
	m, err := e.heldManifest(ctx, s.release)
	if err != nil {
		return err
	}
	for _, f := range s.index.Files {
		if f.Executable && !m.Executable(f.Path) {
			return shared.NewError(shared.ReasonInvalidPackage, "%s is executable, and the manifest does not say so", f.Path).
				WithHint("the package was made by another program than ggen; if you trust it, install it with --allow-executables").With("path", f.Path)
		}
	}
	return nil
}

// realFolder refuses a link in the place of the folder that packages go to, or of
// its parent .ggen: a project that somebody sent could aim it at anything else.
func realFolder(root string) error {
	for _, dir := range []string{root, filepath.Dir(root)} {
		info, err := os.Lstat(dir)
		if err == nil && info.Mode()&os.ModeSymlink != 0 && (dir == root || filepath.Base(dir) == ".ggen") {
			return shared.NewError(shared.ReasonModified, "%s is a symbolic link", dir).
				WithHint("remove it: packages are only installed into a real folder").With("path", dir)
		}
	}
	return nil
}

// step is one package of a plan.
type step struct {
	release   *catalog.Release
	requested bool
	firstUse  bool
	unchanged bool
	needs     []string
	dest      string
	index     *archive.Index
	fetched   int64
	peers     int
}

func (s *step) label() string { return s.release.Name + "@" + s.release.Version }

func (s *step) installed() shared.InstalledPackage {
	return shared.InstalledPackage{
		LockedPackage: shared.LockedPackage{
			Name: s.release.Name, Publisher: s.release.Publisher, Version: s.release.Version,
			Digest: s.release.Archive.Digest, Dependencies: s.needs,
		},
		Path: s.dest, Title: s.release.Title, Description: s.release.Description,
		Requested: s.requested, Unchanged: s.unchanged, FirstUse: s.firstUse, Fetched: s.fetched, Peers: s.peers,
	}
}

// inTheWay decides what to do about a folder that exists: keep it when it is what
// is wanted, replace it when it is what an earlier install left, and refuse when
// somebody changed it.
func (e *Engine) inTheWay(ctx context.Context, req shared.InstallRequest, s *step) error {
	if _, err := os.Lstat(s.dest); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	found, err := archive.DigestDir(ctx, s.dest)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err == nil && found == s.release.Archive.Digest {
		s.unchanged = true
		return nil
	}
	for _, locked := range req.Locked {
		if err == nil && locked.Name == s.release.Name && locked.Digest == found {
			return nil
		}
	}
	if req.Force {
		return nil
	}
	return shared.NewError(shared.ReasonModified, "%s holds files that were changed, or that ggen did not install", s.dest).
		WithHint("look at them with `ggen marketplace verify %s`; install with --force replaces them", s.release.Name).
		With("path", s.dest)
}

// unpackSound unpacks a step. If its content was damaged on disk, it is fetched once more.
func (e *Engine) unpackSound(ctx context.Context, req shared.InstallRequest, s *step, report shared.ProgressFunc) error {
	err := e.unpack(ctx, s)
	if !errors.Is(err, shared.ReasonIntegrity) || req.Offline {
		return err
	}
	e.log.WarnContext(ctx, "the content of a package was damaged on disk, and is fetched again", "package", s.label(), "error", err)
	if err := e.fetch(ctx, req, s, report); err != nil {
		return err
	}
	return e.unpack(ctx, s)
}

func (e *Engine) unpack(ctx context.Context, s *step) (err error) {
	ctx, end := tracing.Start(ctx, "unpack", attribute.String("package", s.label()))
	defer func() { end(err) }()
	blob, err := e.store.Open(s.release.Archive.Digest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	err = archive.Unpack(ctx, io.NewSectionReader(blob, 0, blob.Size()), s.index, s.dest)
	if errors.Is(err, shared.ReasonIntegrity) {
		// What is on disk is damaged: drop it, so that the next try fetches it anew.
		err = errors.Join(err, e.store.Delete(s.release.Archive.Digest))
	}
	return err
}

// Verify compares installed folders with what was installed; see
// [shared.Marketplace].
func (e *Engine) Verify(ctx context.Context, req shared.VerifyRequest) (shared.VerifyReport, error) {
	var report shared.VerifyReport
	if err := ctx.Err(); err != nil {
		return report, shared.AsError(err)
	}
	if !filepath.IsAbs(req.Root) {
		return report, shared.NewError(shared.ReasonInvalidArgument, "verify: the folder %q is not absolute", req.Root)
	}
	for _, pkg := range req.Packages {
		if err := shared.CheckName(pkg.Name); err != nil {
			return report, named(err, "verify")
		}
		result, err := e.verify(ctx, filepath.Join(req.Root, pkg.Name), pkg)
		if err != nil {
			return report, named(err, "verify %s", pkg.Name)
		}
		report.Packages = append(report.Packages, result)
	}
	return report, nil
}

func (e *Engine) verify(ctx context.Context, dir string, pkg shared.LockedPackage) (shared.VerifyResult, error) {
	result := shared.VerifyResult{Name: pkg.Name, Version: pkg.Version, Expected: pkg.Digest}
	result.Found, result.Problem = digestOf(ctx, dir)
	if err := ctx.Err(); err != nil {
		return result, shared.AsError(err)
	}
	result.OK = result.Found == pkg.Digest
	if result.OK || result.Found == "" {
		return result, nil
	}
	index := e.heldIndex(ctx, pkg)
	if index == nil {
		result.Problem = "the list of its files is not here any more, so the differences cannot be named"
		return result, nil
	}
	diff, err := archive.Compare(ctx, dir, index)
	if err != nil {
		return result, err
	}
	result.Modified, result.Missing, result.Extra = diff.Modified, diff.Missing, diff.Extra
	return result, nil
}

// digestOf is the digest of a folder, or why it has none.
func digestOf(ctx context.Context, dir string) (digest shared.Digest, problem string) {
	if _, err := os.Stat(dir); err != nil {
		return "", dir + " is missing"
	}
	digest, err := archive.DigestDir(ctx, dir)
	if err != nil {
		return "", err.Error()
	}
	return digest, ""
}

// heldIndex finds the index of a locked package in the store, or nil.
func (e *Engine) heldIndex(ctx context.Context, pkg shared.LockedPackage) *archive.Index {
	rel := e.releaseOf(pkg.Name, pkg.Publisher, pkg.Version)
	if rel == nil || rel.Archive.Digest != pkg.Digest {
		return nil
	}
	index, err := e.readIndex(ctx, rel)
	if err != nil {
		return nil
	}
	return index
}

// readIndex gives a release's index if it is here; an error for which errors.Is(err,
// fs.ErrNotExist) holds says that it is not, or was damaged.
func (e *Engine) readIndex(ctx context.Context, rel *catalog.Release) (*archive.Index, error) {
	held, at, ok := e.indexes.Peek(ctx, string(rel.Index.Digest), nil)
	e.lookedUp(ctx, at)
	if !ok {
		return nil, fmt.Errorf("the index of %s %s is not here: %w", rel.Name, rel.Version, fs.ErrNotExist)
	}
	return held.of(rel)
}

// parseIndex holds an index against the signed release that names it.
func parseIndex(rel *catalog.Release, data []byte) (*archive.Index, error) {
	if shared.DigestOf(data) != rel.Index.Digest {
		return nil, shared.NewError(shared.ReasonIntegrity, "the index of %s is damaged", rel.Name)
	}
	ix, err := archive.ParseIndex(data, archive.DefaultLimits())
	if err != nil {
		return nil, err
	}
	return heldIndex{ix, data}.of(rel)
}

// of holds an index against the signed release that names it.
func (ix heldIndex) of(rel *catalog.Release) (*archive.Index, error) {
	if ix.Digest != rel.Archive.Digest || ix.Size != rel.Archive.Size {
		return nil, shared.NewError(shared.ReasonIntegrity, "the index of %s %s describes another archive than its publisher signed", rel.Name, rel.Version)
	}
	return ix.Index, nil
}

// folderLocks lets one install at a time work below a folder.
type folderLocks struct {
	mu    sync.Mutex // guards locks
	locks map[string]*sync.Mutex
}

func newFolderLocks() *folderLocks { return &folderLocks{locks: map[string]*sync.Mutex{}} }

// lock waits for the folder and returns what releases it. The map grows by one
// small entry for each project this process has installed into.
func (f *folderLocks) lock(folder string) (unlock func()) {
	f.mu.Lock()
	l, ok := f.locks[folder]
	if !ok {
		l = &sync.Mutex{}
		f.locks[folder] = l
	}
	f.mu.Unlock()
	l.Lock()
	return l.Unlock
}

func refList(refs []shared.Ref) string {
	text := ""
	for i, ref := range refs {
		if i > 0 {
			text += ", "
		}
		text += ref.String()
	}
	return text
}
