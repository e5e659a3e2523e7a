package p2p

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/resolve"
	"ggen.dev/marketplace/shared"
)

// plan is what an install is going to do, dependencies before dependants.
type plan struct {
	steps       []*step
	diagnostics []shared.Diagnostic
}

// pins are the names that the plan binds to publishers.
func (p *plan) pins() map[string]shared.PublisherID {
	pins := map[string]shared.PublisherID{}
	for _, s := range p.steps {
		pins[s.release.Name] = s.release.Publisher
	}
	return pins
}

// plan chooses publishers and versions for everything that req needs.
func (e *Engine) plan(ctx context.Context, req shared.InstallRequest) (*plan, error) {
	source := &catalogSource{e: e, named: map[string]shared.PublisherID{}, chosen: map[string]catalog.Package{}}
	var roots []resolve.Requirement
	for _, ref := range req.Packages {
		if err := shared.CheckName(ref.Name); err != nil {
			return nil, err
		}
		if ref.Publisher != "" {
			source.named[ref.Name] = ref.Publisher
		}
		roots = append(roots, resolve.Requirement{Name: ref.Name, Range: ref.Constraint})
	}
	locked := map[string]string{}
	for _, l := range req.Locked {
		locked[l.Name] = l.Version
		if _, given := source.named[l.Name]; !given {
			source.named[l.Name] = l.Publisher
		}
	}
	choices, err := resolve.Solve(ctx, roots, locked, source)
	if err != nil {
		return nil, err
	}
	p := &plan{}
	for _, choice := range choices {
		pkg := source.chosen[choice.Name]
		rel := e.catalog.Release(choice.Name, pkg.Publisher, choice.Version.Original())
		if rel == nil {
			return nil, shared.NewError(shared.ReasonInternal, "%s is not in the catalogue any more", choice)
		}
		s := &step{release: rel, needs: choice.Needs, dest: filepath.Join(req.Root, rel.Name)}
		s.requested = slices.ContainsFunc(req.Packages, func(ref shared.Ref) bool { return ref.Name == rel.Name })
		if err := e.checkTrust(s, req.Locked); err != nil {
			return nil, err
		}
		if pkg.Deprecation != nil && s.requested {
			p.diagnostics = append(p.diagnostics, deprecated(rel.Name, *pkg.Deprecation))
		}
		if rel.Yanked {
			p.diagnostics = append(p.diagnostics, shared.Diagnostic{
				Severity: shared.SeverityWarning, Message: s.label() + " was yanked by its publisher", Hint: "move to another version when you can",
			})
		}
		p.steps = append(p.steps, s)
	}
	return p, nil
}

// checkTrust refuses a publisher that the name is not pinned to, here or in the
// lockfile, and content that differs from the lockfile's.
func (e *Engine) checkTrust(s *step, locked []shared.LockedPackage) error {
	pin, pinned := e.catalog.Pinned(s.release.Name)
	if pinned && pin.Publisher != s.release.Publisher {
		return catalog.PublisherChanged(pin, s.release.Publisher)
	}
	s.firstUse = !pinned
	for _, l := range locked {
		if l.Name != s.release.Name {
			continue
		}
		if l.Publisher != s.release.Publisher {
			return shared.NewError(shared.ReasonUntrusted, "%s is locked to publisher %s, and not to %s", l.Name, l.Publisher, s.release.Publisher).
				WithHint("remove the package first if you really want it from somebody else").
				With("pinned", string(l.Publisher)).With("offered", string(s.release.Publisher))
		}
		if l.Version == s.release.Version && l.Digest != s.release.Archive.Digest {
			return shared.NewError(shared.ReasonIntegrity, "%s is %s in ggen.lock, and %s in the publisher's log", s.label(), l.Digest, s.release.Archive.Digest).
				WithHint("ggen.lock was changed by hand, or somebody is lying: compare it with version control")
		}
	}
	return nil
}

// catalogSource gives the resolver the catalogue's versions.
type catalogSource struct {
	e      *Engine
	named  map[string]shared.PublisherID
	chosen map[string]catalog.Package
}

// Versions implements resolve.Source.
func (c *catalogSource) Versions(ctx context.Context, name, publisher string) ([]resolve.Version, string, error) {
	ref := shared.Ref{Name: name, Publisher: c.named[name]}
	if publisher != "" { // a requirement names it, and the user does not say otherwise
		if !strings.HasPrefix(publisher, string(ref.Publisher)) {
			return nil, "", shared.NewError(shared.ReasonUntrusted, "%s of publisher %s is needed, and %s is asked for or locked", name, publisher, ref.Publisher).
				With("pinned", string(ref.Publisher)).With("offered", publisher)
		}
		ref.Publisher = shared.PublisherID(publisher)
	}
	pkg, err := c.e.choose(ctx, ref)
	if err != nil {
		return nil, "", err
	}
	c.chosen[name] = pkg
	versions := make([]resolve.Version, 0, len(pkg.Releases))
	for _, rel := range pkg.Releases {
		v := resolve.Version{Version: rel.Semver(), Yanked: rel.Yanked}
		for _, dep := range rel.Dependencies {
			if !dep.Optional {
				v.Requires = append(v.Requires, resolve.Requirement{Name: dep.Name, Publisher: string(dep.Publisher), Range: dep.Constraint})
			}
		}
		versions = append(versions, v)
	}
	return versions, string(pkg.Publisher), nil
}
