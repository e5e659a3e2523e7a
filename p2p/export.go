package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"ggen.dev/marketplace/p2p/bundle"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Export writes a bundle; see [shared.Bundles].
func (e *Engine) Export(ctx context.Context, req shared.ExportRequest, report shared.ProgressFunc) (shared.ExportReceipt, error) {
	receipt := shared.ExportReceipt{}
	switch {
	case !filepath.IsAbs(req.File):
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "export: the file %q is not absolute", req.File)
	case len(req.Packages) == 0:
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "export: no package is named")
	}
	report.Report(shared.Progress{Phase: shared.PhaseResolve})
	if err := e.awaitLogs(ctx); err != nil { // they are part of the bundle
		return receipt, named(err, "export")
	}
	// Whoever installs from the bundle decides whom to trust.
	install := shared.InstallRequest{Packages: req.Packages, Root: e.cfg.Home, Locked: req.Locked, Offline: req.Offline, Trust: true}
	plan, err := e.plan(ctx, install)
	if err != nil {
		return receipt, named(err, "export %s", refList(req.Packages))
	}
	e.adding.RLock() // nothing of it is swept before it is in the bundle
	defer e.adding.RUnlock()
	defer e.hasAdded()
	for _, step := range plan.steps {
		if err := e.fetch(ctx, install, step, report); err != nil {
			return receipt, named(err, "export %s", step.label())
		}
		receipt.Packages = append(receipt.Packages, step.installed().LockedPackage)
	}
	receipt.Diagnostics = plan.diagnostics
	receipt.Bytes, err = writeWhole(req.File, func(w io.Writer) error { return e.writeBundle(ctx, w, plan) })
	return receipt, named(err, "export to %s", req.File)
}

func (e *Engine) writeBundle(ctx context.Context, w io.Writer, plan *plan) error {
	var packages []bundle.Package
	for _, s := range plan.steps {
		packages = append(packages, bundle.Package{Name: s.release.Name, Publisher: s.release.Publisher, Version: s.release.Version})
	}
	b, err := bundle.NewWriter(w, packages)
	if err != nil {
		return err
	}
	logs := map[shared.PublisherID]bool{}
	for _, s := range plan.steps {
		if !logs[s.release.Publisher] {
			logs[s.release.Publisher] = true
			if err := e.bundleLog(ctx, b, s.release.Publisher); err != nil {
				return err
			}
		}
	}
	for _, s := range plan.steps {
		for _, content := range []publisher.Content{s.release.Index, s.release.Archive} {
			if err := e.bundleBlob(ctx, b, content.Digest); err != nil {
				return err
			}
		}
	}
	return b.Close()
}

// bundleLog adds the whole log of a publisher, page by page, under one head.
func (e *Engine) bundleLog(ctx context.Context, b *bundle.Writer, id shared.PublisherID) error {
	for from := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return shared.AsError(err)
		}
		u, err := e.catalog.Since(id, from, publisher.MaxUpdateSize)
		if err != nil {
			return err
		}
		if len(u.Entries) == 0 {
			return nil
		}
		if err := b.Update(id, from, u.Marshal()); err != nil {
			return err
		}
		from += int64(len(u.Entries))
	}
}

func (e *Engine) bundleBlob(ctx context.Context, b *bundle.Writer, digest shared.Digest) error {
	if err := ctx.Err(); err != nil {
		return shared.AsError(err)
	}
	blob, err := e.store.Open(digest)
	if err != nil {
		return err
	}
	defer func() { _ = blob.Close() }() // only read
	return b.Blob(digest, blob.Size(), io.NewSectionReader(blob, 0, blob.Size()))
}

// writeWhole writes a file that the user names, whole or not at all.
func writeWhole(file string, write func(io.Writer) error) (size int64, err error) {
	out, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return 0, shared.NewError(shared.ReasonStorage, "%w", err)
	}
	defer func() {
		_ = out.Close() // after success it is closed already
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	if err := write(out); err != nil {
		return 0, err
	}
	info, err := out.Stat()
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return 0, shared.NewError(shared.ReasonStorage, "%w", err)
	}
	if err := errors.Join(os.Chmod(out.Name(), 0o644), os.Rename(out.Name(), file)); err != nil {
		return 0, shared.NewError(shared.ReasonStorage, "%w", err)
	}
	return info.Size(), nil
}

// Import takes over a bundle; see [shared.Bundles].
func (e *Engine) Import(ctx context.Context, file string, report shared.ProgressFunc) (receipt shared.ImportReceipt, err error) {
	if !filepath.IsAbs(file) {
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "import: the file %q is not absolute", file)
	}
	info, err := os.Stat(file)
	if err != nil {
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "import: %w", err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for ever
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "import: %s is not a regular file", file)
	}
	in, err := os.Open(file)
	if err != nil {
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "import: %w", err)
	}
	defer func() { _ = in.Close() }() // only read
	e.adding.RLock()                  // nothing of it is swept before all is here
	defer e.adding.RUnlock()
	defer e.hasAdded()
	i := &importing{e: e, ctx: ctx, report: report}
	err = bundle.Read(in, bundle.Visitor{Contents: i.contents, Update: i.update, Blob: i.blob})
	if err == nil {
		err = i.check()
	}
	i.receipt.Entries = i.entries
	return i.receipt, named(err, "import %s", file)
}

// importing is an import that goes on.
type importing struct {
	e        *Engine
	ctx      context.Context //nolint:containedctx // of the one call that this is
	report   shared.ProgressFunc
	packages []bundle.Package
	wanted   map[shared.Digest]int64 // size of each blob; nil until the logs are read
	entries  int64
	receipt  shared.ImportReceipt
}

func (i *importing) contents(packages []bundle.Package) error {
	i.packages = packages
	return nil
}

func (i *importing) update(u publisher.Update) error {
	if err := i.ctx.Err(); err != nil {
		return shared.AsError(err)
	}
	if i.wanted != nil {
		return shared.NewError(shared.ReasonInvalidArgument, "the bundle is not in order: a log comes behind content")
	}
	chain, err := publisher.ParseChain(u.Roots)
	if err != nil {
		return refusedLog(err)
	}
	before := i.e.catalog.Held(chain.ID)
	_, err = i.e.apply(u)
	i.entries += i.e.catalog.Held(chain.ID) - before
	var forked *publisher.EquivocationError
	switch {
	case err == nil, errors.Is(err, publisher.ErrStale) && before > 0:
		// Older than what is known here, and no contradiction to it.
		if why, accused := i.e.catalog.Quarantined(chain.ID); accused {
			return shared.NewError(shared.ReasonUntrusted, "publisher %s is not accepted here: %s", chain.ID.Short(), why)
		}
		return nil
	case errors.As(err, &forked):
		return shared.NewError(shared.ReasonUntrusted, "the log of publisher %s in the bundle contradicts the one that is known here: it signed both", chain.ID.Short()).
			WithHint("`ggen marketplace trust proof %s` exports the proof", chain.ID.Short())
	case errors.Is(err, publisher.ErrInvalid), errors.Is(err, publisher.ErrStale), errors.Is(err, publisher.ErrGap):
		return refusedLog(err)
	}
	return err
}

func refusedLog(cause error) error {
	return shared.NewError(shared.ReasonIntegrity, "a log in the bundle does not hold: %w", cause).
		WithHint("get the bundle again, from where it was made")
}

// blob takes content that a release of the bundle needs, and no other.
func (i *importing) blob(digest shared.Digest, size int64, r io.Reader) error {
	if i.wanted == nil {
		if err := i.expect(); err != nil {
			return err
		}
	}
	want, ok := i.wanted[digest]
	if !ok || want != size {
		return shared.NewError(shared.ReasonIntegrity, "the bundle holds content (%s, %d bytes) that no release in it has", digest, size)
	}
	i.report.Report(shared.Progress{Phase: shared.PhaseFetch, Total: size})
	if i.e.store.Has(digest) {
		return nil
	}
	_, _, err := i.e.store.Put(i.ctx, io.LimitReader(r, size), digest)
	return err
}

// expect notes what content the releases have, as their publishers signed it.
func (i *importing) expect() error {
	i.wanted = map[shared.Digest]int64{}
	for _, p := range i.packages {
		rel := i.release(p)
		if rel == nil {
			return shared.NewError(shared.ReasonIntegrity, "the bundle lists %s@%s, and no log in it has that release", p.Name, p.Version)
		}
		i.wanted[rel.Index.Digest] = rel.Index.Size
		i.wanted[rel.Archive.Digest] = rel.Archive.Size
	}
	return nil
}

func (i *importing) release(p bundle.Package) *catalog.Release {
	return i.e.releaseOf(p.Name, p.Publisher, p.Version)
}

// check makes sure that what the bundle promises is here.
func (i *importing) check() error {
	for _, p := range i.packages {
		rel := i.release(p)
		if rel == nil || !i.e.store.Has(rel.Index.Digest) || !i.e.store.Has(rel.Archive.Digest) {
			return shared.NewError(shared.ReasonIntegrity, "the bundle lists %s@%s, and does not hold all of it", p.Name, p.Version).
				WithHint("it is cut off; get it again")
		}
		if _, err := i.e.readIndex(i.ctx, rel); err != nil {
			return fmt.Errorf("%s@%s: %w", p.Name, p.Version, err)
		}
		i.receipt.Packages = append(i.receipt.Packages, shared.LockedPackage{Name: rel.Name, Publisher: rel.Publisher, Version: rel.Version, Digest: rel.Archive.Digest})
	}
	return nil
}
