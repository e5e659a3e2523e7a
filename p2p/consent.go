package p2p

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/shared"
)

// checkTrust refuses a publisher that the name does not mean, here or in the
// lockfile, and content that differs from the lockfile's. It notes whether somebody
// has to vouch for the publisher.
func (e *Engine) checkTrust(s *step, req shared.InstallRequest) error {
	name, offered := s.release.Name, s.release.Publisher
	if pin, ok := e.catalog.Pinned(name); ok && pin.Publisher != offered {
		return catalog.PublisherChanged(pin, offered)
	}
	m := e.meaning(name, nil)
	if m.rule == shared.RuleCatalogue && m.publisher != offered {
		return notListed(name, m, offered)
	}
	known := m.rule == shared.RulePin || m.rule == shared.RuleCatalogue
	if !known && req.Policy == shared.PolicyAllowList {
		return shared.NewError(shared.ReasonUntrusted, "the policy allow-list admits only names that are pinned or in a trust catalogue, and %s of publisher %s is neither", name, offered).
			WithHint("look at it (`ggen marketplace trust why %s`), then admit it: `ggen marketplace trust pin %s %s`", name, name, offered.Short()).
			With("offered", string(offered))
	}
	locked, err := checkLocked(s, req.Locked)
	s.firstUse = !known && !locked
	return err
}

// checkLocked holds a release against the lockfile, and tells whether that names
// its publisher.
func checkLocked(s *step, locked []shared.LockedPackage) (known bool, err error) {
	i := slices.IndexFunc(locked, func(l shared.LockedPackage) bool { return l.Name == s.release.Name })
	if i < 0 {
		return false, nil
	}
	l := locked[i]
	if l.Publisher != s.release.Publisher {
		return false, shared.NewError(shared.ReasonUntrusted, "%s is locked to publisher %s, and not to %s", l.Name, l.Publisher, s.release.Publisher).
			WithHint("remove the package first if you really want it from somebody else").
			With("pinned", string(l.Publisher)).With("offered", string(s.release.Publisher))
	}
	if l.Version == s.release.Version && l.Digest != s.release.Archive.Digest {
		return false, shared.NewError(shared.ReasonIntegrity, "%s is %s in ggen.lock, and %s in the publisher's log", s.label(), l.Digest, s.release.Archive.Digest).
			WithHint("ggen.lock was changed by hand, or somebody is lying: compare it with version control")
	}
	return true, nil
}

// checkConsent refuses a plan that the user has not agreed to: one that is not what
// was shown, or that uses publishers for the first time.
func (p *plan) checkConsent(req shared.InstallRequest) error {
	if req.DryRun {
		return nil
	}
	if len(req.Accepted) > 0 {
		for _, s := range p.steps {
			i := slices.IndexFunc(req.Accepted, func(a shared.LockedPackage) bool { return a.Name == s.release.Name })
			if i < 0 || req.Accepted[i].Publisher != s.release.Publisher || req.Accepted[i].Version != s.release.Version {
				return shared.NewError(shared.ReasonUntrusted, "the catalogue has changed since you were asked: %s of publisher %s would be installed now", s.label(), s.release.Publisher.Short()).
					WithHint("run the command again")
			}
		}
		return nil
	}
	if req.Trust {
		return nil
	}
	var unknown []string
	var first *step
	for _, s := range p.steps {
		if s.firstUse {
			unknown = append(unknown, fmt.Sprintf("%s of publisher %s", s.release.Name, s.release.Publisher.Short()))
			if first == nil {
				first = s
			}
		}
	}
	if first == nil {
		return nil
	}
	return shared.NewError(shared.ReasonUntrusted, "nobody on this machine has used %s before", strings.Join(unknown, ", ")).
		WithHint("look at who it is (`ggen marketplace trust why %s`), then accept with --trust, or in a terminal, where you are asked", first.release.Name).
		With("offered", string(first.release.Publisher))
}

// pins are the names that the user binds to publishers by agreeing to the plan. What
// a lockfile or a trust catalogue vouches for is not bound: they can speak for
// themselves the next time.
func (p *plan) pins() map[string]shared.PublisherID {
	pins := map[string]shared.PublisherID{}
	for _, s := range p.steps {
		if s.firstUse {
			pins[s.release.Name] = s.release.Publisher
		}
	}
	return pins
}

// warn adds what the user should know about a step before it is done.
func (p *plan) warn(ctx context.Context, e *Engine, s *step, advice *shared.Deprecation) error {
	if advice != nil && s.requested {
		p.diagnostics = append(p.diagnostics, deprecated(s.release.Name, *advice))
	}
	if s.release.Yanked {
		p.diagnostics = append(p.diagnostics, shared.Diagnostic{
			Severity: shared.SeverityWarning, Message: s.label() + " was yanked by its publisher", Hint: "move to another version when you can",
		})
	}
	if !s.firstUse {
		return nil
	}
	alike, err := e.lookAlikes(ctx, s.release.Name, s.release.Publisher)
	if err != nil {
		return err
	}
	for _, other := range alike {
		p.diagnostics = append(p.diagnostics, shared.Diagnostic{
			Severity: shared.SeverityWarning, Reason: shared.ReasonUntrusted,
			Message: fmt.Sprintf("%s may be taken for %s: %s", s.release.Name, other.Name, other.Why),
			Hint:    fmt.Sprintf("are you sure that it is %s that you want?", s.release.Name),
		})
	}
	return nil
}

// oldEnough leaves out the releases that this node has known for less than minAge,
// but not those that keep is true for. Errors: UNTRUSTED if none is left.
func (e *Engine) oldEnough(pkg catalog.Package, minAge time.Duration, keep func(*catalog.Release) bool) (catalog.Package, []shared.Diagnostic, error) {
	if minAge <= 0 || pkg.Publisher == e.ring.ID() {
		return pkg, nil, nil
	}
	var old []*catalog.Release
	youngest := e.now().Add(-minAge)
	for _, rel := range pkg.Releases {
		if !rel.FirstSeen.After(youngest) || keep(rel) {
			old = append(old, rel)
		}
	}
	newest := pkg.Newest()
	switch {
	case len(old) == 0:
		oldest := slices.MinFunc(pkg.Releases, func(a, b *catalog.Release) int { return a.FirstSeen.Compare(b.FirstSeen) })
		return pkg, nil, shared.NewError(shared.ReasonUntrusted, "this peer has known every release of %s for less than %s", newest.Name, minAge).
			WithHint("%s can be used from %s on; --min-age 0s takes it now", oldest.Version, oldest.FirstSeen.Add(minAge).UTC().Format(time.RFC3339))
	case len(old) < len(pkg.Releases) && !slices.Contains(old, newest):
		pkg.Releases = old
		return pkg, []shared.Diagnostic{{
			Severity: shared.SeverityInfo,
			Message:  fmt.Sprintf("%s %s is left out: this peer has known it for less than %s", newest.Name, newest.Version, minAge),
		}}, nil
	}
	pkg.Releases = old
	return pkg, nil, nil
}
