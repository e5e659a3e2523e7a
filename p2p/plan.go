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

// plan chooses publishers and versions for everything that req needs.
func (e *Engine) plan(ctx context.Context, req shared.InstallRequest) (*plan, error) {
	source := &catalogSource{e: e, req: req, named: map[string]shared.PublisherID{}, chosen: map[string]catalog.Package{}}
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
		if l.Version != "" {
			locked[l.Name] = l.Version
		}
		if _, given := source.named[l.Name]; !given {
			source.named[l.Name] = l.Publisher
		}
	}
	roots = append(roots, e.bystanders(req)...)
	choices, err := resolve.Solve(ctx, roots, locked, source)
	if err != nil {
		return nil, err
	}
	p := &plan{diagnostics: source.remarks}
	affected := affected(req, choices)
	for _, choice := range choices {
		if !affected[choice.Name] {
			continue
		}
		pkg := source.chosen[choice.Name]
		rel := e.releaseOf(choice.Name, pkg.Publisher, choice.Version.Original())
		if rel == nil {
			return nil, shared.NewError(shared.ReasonInternal, "%s is not in the catalogue any more", choice)
		}
		s := &step{release: rel, needs: choice.Needs, dest: filepath.Join(req.Root, rel.Name)}
		s.requested = slices.ContainsFunc(req.Packages, func(ref shared.Ref) bool { return ref.Name == rel.Name })
		if err := e.checkTrust(s, req); err != nil {
			return nil, err
		}
		if err := checkSize(req, rel); err != nil {
			return nil, err
		}
		if err := p.warn(ctx, e, s, pkg.Deprecation); err != nil {
			return nil, err
		}
		e.secondOpinion(rel.Publisher)
		p.steps = append(p.steps, s)
	}
	return p, p.checkConsent(req)
}

// bystanders are the locked packages that nobody asks for now: they stay installed, so
// what they need has to fit as well. One that this node knows nothing of cannot say.
func (e *Engine) bystanders(req shared.InstallRequest) (roots []resolve.Requirement) {
	for _, l := range req.Locked {
		asked := slices.ContainsFunc(req.Packages, func(ref shared.Ref) bool { return ref.Name == l.Name })
		if !asked && l.Version != "" && e.releaseOf(l.Name, l.Publisher, l.Version) != nil {
			roots = append(roots, resolve.Requirement{Name: l.Name})
		}
	}
	return roots
}

// affected are the packages that the request leads to, and those whose version in the
// lockfile has to change for it.
func affected(req shared.InstallRequest, choices []resolve.Choice) map[string]bool {
	needs := map[string][]string{}
	names := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if !names[name] {
			names[name] = true
			for _, need := range needs[name] {
				add(need)
			}
		}
	}
	for _, choice := range choices {
		needs[choice.Name] = choice.Needs
	}
	for _, ref := range req.Packages {
		add(ref.Name)
	}
	for _, choice := range choices {
		if i := slices.IndexFunc(req.Locked, func(l shared.LockedPackage) bool { return l.Name == choice.Name }); i >= 0 && req.Locked[i].Version != choice.Version.Original() {
			add(choice.Name)
		}
	}
	return names
}

// catalogSource gives the resolver the catalogue's versions.
type catalogSource struct {
	e       *Engine
	req     shared.InstallRequest
	named   map[string]shared.PublisherID
	chosen  map[string]catalog.Package
	remarks []shared.Diagnostic
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
	pkg, err := c.choose(ctx, ref)
	if err != nil {
		return nil, "", err
	}
	pkg, remarks, err := c.e.oldEnough(pkg, c.req.MinAge, func(rel *catalog.Release) bool {
		return slices.ContainsFunc(c.req.Locked, func(l shared.LockedPackage) bool { return l.Name == name && l.Version == rel.Version })
	})
	if err != nil {
		return nil, "", err
	}
	c.remarks = append(c.remarks, remarks...)
	c.chosen[name] = pkg
	versions := make([]resolve.Version, 0, len(pkg.Releases))
	for _, rel := range pkg.Releases {
		v := resolve.Version{Version: rel.Semver(), Yanked: rel.Yanked}
		for _, dep := range rel.Dependencies {
			v.Requires = append(v.Requires, resolve.Requirement{Name: dep.Name, Publisher: string(dep.Publisher), Range: dep.Constraint, Optional: dep.Optional})
		}
		versions = append(versions, v)
	}
	return versions, string(pkg.Publisher), nil
}

// choose finds the package that a reference means. Offline it asks nobody.
func (c *catalogSource) choose(ctx context.Context, ref shared.Ref) (catalog.Package, error) {
	if !c.e.cfg.Light || !c.req.Offline {
		return c.e.choose(ctx, ref)
	}
	found := c.e.packagesOf(ref.Name)
	if len(found) == 0 {
		return catalog.Package{}, shared.NewError(shared.ReasonOffline, "%s is not known here, and --offline forbids to ask", ref.Name).
			WithHint("a light peer knows what it has asked for since it was started: run the command without --offline")
	}
	return c.e.chooseAmong(found, ref)
}
