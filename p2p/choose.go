package p2p

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/shared"
)

// choose finds the one publisher's package that a reference means: the publisher
// that it names, else the one that the name is pinned to, else the only one that
// has it. Nothing is guessed between several. Reasons: NOT_FOUND, NO_PEERS,
// AMBIGUOUS, UNTRUSTED.
func (e *Engine) choose(ctx context.Context, ref shared.Ref) (catalog.Package, error) {
	found, err := e.lookup(ctx, ref.Name)
	if err != nil {
		return catalog.Package{}, err
	}
	return e.chooseAmong(found, ref)
}

// chooseAmong is choose among packages that were found.
func (e *Engine) chooseAmong(found []catalog.Package, ref shared.Ref) (catalog.Package, error) {
	if ref.Publisher != "" {
		return chooseNamed(found, ref)
	}
	m := e.meaning(ref.Name, found)
	if i := slices.IndexFunc(found, func(pkg catalog.Package) bool { return pkg.Publisher == m.publisher }); i >= 0 {
		return found[i], nil
	}
	switch {
	case m.rule == shared.RulePin:
		pin, _ := e.catalog.Pinned(ref.Name)
		return catalog.Package{}, catalog.PublisherChanged(pin, found[0].Publisher)
	case m.rule == shared.RuleCatalogue:
		return catalog.Package{}, notListed(ref.Name, m, found[0].Publisher)
	case m.disagree != nil:
		return catalog.Package{}, shared.NewError(shared.ReasonAmbiguous, "the trust catalogues that are followed here disagree whose package %s is", ref.Name).
			WithHint("decide it yourself: `ggen marketplace trust pin %s PUBLISHER`; they name %s", ref.Name, shortList(m.disagree)).
			With("candidates", shortList(m.disagree)).With("name", ref.Name)
	}
	return catalog.Package{}, ambiguous(ref.Name, found)
}

// lookup finds the packages of a name. Without a catalogue, or while it is still on its
// way, it asks those that have one. Reasons: NOT_FOUND, NO_PEERS, UNAVAILABLE.
func (e *Engine) lookup(ctx context.Context, name string) ([]catalog.Package, error) {
	found, fresh := e.known(name)
	if !fresh && (e.cfg.Light || len(found) == 0 && e.stillLearning()) {
		err := e.askPackage(ctx, name)
		found, _ = e.known(name)
		if err != nil && (len(found) == 0 && e.cfg.Light || !errors.Is(err, shared.ReasonUnavailable)) {
			return nil, err
		}
	}
	if len(found) == 0 && e.stillLearning() {
		if err := e.learn(ctx); err != nil {
			return nil, err
		}
		found, _ = e.known(name)
	}
	if len(found) == 0 {
		return nil, e.unknown(name)
	}
	return found, nil
}

// notListed is the refusal of a publisher that a trust catalogue does not name.
func notListed(name string, m meaning, offered shared.PublisherID) error {
	return shared.NewError(shared.ReasonUntrusted, "the trust catalogue %q says that %s is publisher %s's, and not %s's", m.catalogue, name, m.publisher, offered).
		WithHint("if you know better: `ggen marketplace trust pin %s %s`", name, offered.Short()).
		With("pinned", string(m.publisher)).With("offered", string(offered))
}

func chooseNamed(found []catalog.Package, ref shared.Ref) (catalog.Package, error) {
	var matching []catalog.Package
	for _, pkg := range found {
		if strings.HasPrefix(string(pkg.Publisher), string(ref.Publisher)) {
			matching = append(matching, pkg)
		}
	}
	switch len(matching) {
	case 1:
		return matching[0], nil
	case 0:
		return catalog.Package{}, shared.NewError(shared.ReasonNotFound, "publisher %s has no package %s", ref.Publisher, ref.Name).
			WithHint("others have one: %s", publisherList(found))
	}
	return catalog.Package{}, ambiguous(ref.Name, matching)
}

func ambiguous(name string, found []catalog.Package) error {
	return shared.NewError(shared.ReasonAmbiguous, "%d publishers offer a package %s, and none of them is pinned", len(found), name).
		WithHint("choose one and name it, as PUBLISHER/%s: %s", name, publisherList(found)).
		With("candidates", publisherList(found)).With("name", name)
}

func publisherList(found []catalog.Package) string {
	var ids []shared.PublisherID
	for _, pkg := range found {
		ids = append(ids, pkg.Publisher)
	}
	return shortList(ids)
}

func shortList(ids []shared.PublisherID) string {
	short := make([]string, len(ids))
	for i, id := range ids {
		short[i] = id.Short()
	}
	return strings.Join(short, ", ")
}

// unknown says why nobody can be found to have a package: because nobody has it,
// or because nobody could be asked.
func (e *Engine) unknown(name string) error {
	if len(e.node.Connected()) == 0 {
		return shared.NewError(shared.ReasonNoPeers, "%s is not known here, and no peer is connected that could know it", name).
			WithHint("%s", connectHint)
	}
	return shared.NewError(shared.ReasonNotFound, "no peer of this network has published a package %s", name).
		WithHint("look for it: `ggen marketplace search %s`", name)
}

// pick chooses the release that a reference means within a package.
func pick(pkg catalog.Package, ref shared.Ref) (*catalog.Release, error) {
	if ref.Constraint == "" {
		return pkg.Newest(), nil
	}
	for _, rel := range pkg.Releases {
		if rel.Version == ref.Constraint {
			return rel, nil
		}
	}
	wanted, err := semver.NewConstraint(ref.Constraint)
	if err != nil {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%q is neither a version nor a range: %w", ref.Constraint, err)
	}
	for _, rel := range pkg.Releases {
		if !rel.Yanked && wanted.Check(rel.Semver()) {
			return rel, nil
		}
	}
	return nil, shared.NewError(shared.ReasonNotFound, "no release of %s fits %s", ref.Name, ref.Constraint).
		WithHint("its newest release is %s", pkg.Newest().Version)
}
