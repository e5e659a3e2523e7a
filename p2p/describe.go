package p2p

import (
	"context"
	"io"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/manifest"
	"ggen.dev/marketplace/shared"
)

// Describe tells what the catalogue knows of a package; see [shared.Marketplace].
func (e *Engine) Describe(ctx context.Context, ref shared.Ref) (shared.PackageDetails, error) {
	pkg, err := e.choose(ctx, ref)
	if err != nil {
		return shared.PackageDetails{}, named(err, "info %s", ref)
	}
	rel, err := pick(pkg, ref)
	if err != nil {
		return shared.PackageDetails{}, named(err, "info %s", ref)
	}
	e.secondOpinion(rel.Publisher)
	details := shared.PackageDetails{
		PackageSummary: summaryOf(rel),
		Digest:         rel.Archive.Digest, Size: rel.Archive.Size, FileCount: rel.Files,
		Keywords: rel.Keywords, Repository: rel.Repository,
		Held: e.store.Has(rel.Archive.Digest), Providers: -1, Holders: e.aboutHeld(keyOf(rel)),
	}
	e.survey.Want(keyOf(rel))
	for _, dep := range rel.Dependencies {
		details.Dependencies = append(details.Dependencies, shared.Dependency(dep))
	}
	for _, r := range pkg.Releases {
		details.Versions = append(details.Versions, shared.VersionInfo{
			Version: r.Version, Digest: r.Archive.Digest, Size: r.Archive.Size,
			PublishedAt: r.PublishedAt, FirstSeen: r.FirstSeen, Yanked: r.Yanked,
		})
	}
	details.Deprecation, details.Deprecated = pkg.Deprecation, pkg.Deprecation != nil
	if details.Held {
		if err := e.describeContent(ctx, rel, &details); err != nil {
			details.Diagnostics = append(details.Diagnostics, shared.Diagnostic{
				Severity: shared.SeverityWarning, Reason: shared.AsError(err).Reason,
				Message: "the manifest in this peer's copy of the package cannot be read: " + err.Error(),
			})
		}
	}
	if pin, ok := e.catalog.Pinned(rel.Name); ok {
		details.PinnedTo = pin.Publisher
	}
	if _, head, ok := e.catalog.Head(rel.Publisher); ok && !head.Fresh(e.now()) {
		details.Diagnostics = append(details.Diagnostics, shared.Diagnostic{
			Severity: shared.SeverityWarning,
			Message:  "the publisher has not confirmed its log since " + head.Time.UTC().Format("2006-01-02") + ": newer releases may be kept from this peer",
		})
	}
	return details, nil
}

// describeContent adds what only the manifest in the package says.
func (e *Engine) describeContent(ctx context.Context, rel *catalog.Release, details *shared.PackageDetails) error {
	m, err := e.heldManifest(ctx, rel)
	if err != nil {
		return err
	}
	details.Readme, details.Ggen, details.Inputs, details.Extra = m.Readme, m.Ggen, m.Inputs, m.Extra
	return nil
}

// heldManifest gives the manifest of a release whose archive is here.
func (e *Engine) heldManifest(ctx context.Context, rel *catalog.Release) (*manifest.Manifest, error) {
	held, _, err := e.manifests.Get(ctx, string(rel.Archive.Digest), func(ctx context.Context) (parsedManifest, error) { return e.readHeld(ctx, rel) })
	return held.Manifest, err
}

// readHeld reads the manifest of a release out of its archive, which must be
// here, and holds it against the index.
func (e *Engine) readHeld(ctx context.Context, rel *catalog.Release) (parsedManifest, error) {
	ix, err := e.readIndex(ctx, rel)
	if err != nil {
		return parsedManifest{}, err
	}
	name, err := manifest.Find(topLevel(ix))
	if err != nil {
		return parsedManifest{}, err
	}
	file, _ := ix.File(name) // it was found there
	if file.Size > manifestLimit {
		return parsedManifest{}, shared.NewError(shared.ReasonLimitExceeded, "%s has %d bytes; %d are allowed", name, file.Size, manifestLimit)
	}
	blob, err := e.store.Open(rel.Archive.Digest)
	if err != nil {
		return parsedManifest{}, err
	}
	defer func() { _ = blob.Close() }() // only read
	data, err := io.ReadAll(io.NewSectionReader(blob, file.Offset, file.Size))
	if err != nil {
		return parsedManifest{}, shared.NewError(shared.ReasonStorage, "read %s of %s: %w", name, rel.Name, err)
	}
	if shared.DigestOf(data) != file.Digest {
		return parsedManifest{}, shared.NewError(shared.ReasonIntegrity, "%s in this peer's copy of %s is damaged", name, rel.Name)
	}
	m, _, err := manifest.Parse(name, data)
	return parsedManifest{m, data}, err
}
