package p2p

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/trust"
	"ggen.dev/marketplace/shared"
)

// Pins lists the pins of this node; see [shared.Trust].
func (e *Engine) Pins(ctx context.Context) ([]shared.Pin, error) {
	if err := ctx.Err(); err != nil {
		return nil, shared.AsError(err)
	}
	var pins []shared.Pin
	for _, pin := range e.catalog.Pins() {
		pins = append(pins, shared.Pin{Name: pin.Name, Publisher: pin.Publisher, Since: pin.FirstUse})
	}
	return pins, nil
}

// SetPin binds a name to a publisher, or to none; see [shared.Trust].
func (e *Engine) SetPin(ctx context.Context, name string, publisher shared.PublisherID) (shared.Pin, error) {
	if err := ctx.Err(); err != nil {
		return shared.Pin{}, shared.AsError(err)
	}
	if err := shared.CheckName(name); err != nil {
		return shared.Pin{}, err
	}
	if publisher != "" {
		id, err := shared.ParsePublisherID(string(publisher))
		if err != nil {
			return shared.Pin{}, err
		}
		if publisher = id; !id.Complete() {
			pkg, err := chooseNamed(e.packagesOf(name), shared.Ref{Name: name, Publisher: id})
			if err != nil {
				return shared.Pin{}, err
			}
			publisher = pkg.Publisher
		}
	}
	former, err := e.catalog.Repin(name, publisher)
	return shared.Pin{Name: name, Publisher: former.Publisher, Since: former.FirstUse}, err
}

// meaning is whom a bare name means here, and why.
type meaning struct {
	rule      shared.TrustRule
	publisher shared.PublisherID
	since     time.Time
	catalogue string               // title
	disagree  []shared.PublisherID // what catalogues say, with RuleNone
}

// meaning applies the rules in their order; found are the packages of the name.
func (e *Engine) meaning(name string, found []catalog.Package) meaning {
	if pin, ok := e.catalog.Pinned(name); ok {
		return meaning{rule: shared.RulePin, publisher: pin.Publisher, since: pin.FirstUse}
	}
	by, listed := e.shelf.Listed(name)
	switch {
	case len(listed) == 1:
		return meaning{rule: shared.RuleCatalogue, publisher: listed[0], since: by[0].Issued, catalogue: by[0].Title}
	case len(listed) > 1:
		return meaning{rule: shared.RuleNone, disagree: listed}
	case len(found) == 1:
		return meaning{rule: shared.RuleOnly, publisher: found[0].Publisher}
	}
	return meaning{rule: shared.RuleNone}
}

// Limits of what [Engine.Explain] asks the network.
const (
	maxAsked  = 8           // candidates whose holders are counted; the others are -1
	askingFor = time.Second // in all
)

// Explain tells whom a name means and why; see [shared.Trust].
func (e *Engine) Explain(ctx context.Context, name string) (shared.TrustReport, error) {
	if err := shared.CheckName(name); err != nil {
		return shared.TrustReport{}, err
	}
	found, err := e.lookup(ctx, name)
	if err != nil {
		return shared.TrustReport{}, named(err, "explain %s", name)
	}
	m := e.meaning(name, found)
	report := shared.TrustReport{Name: name, Rule: m.rule, Publisher: m.publisher, Since: m.since, Catalogue: m.catalogue}
	for _, pkg := range found {
		report.Candidates = append(report.Candidates, candidate(pkg))
	}
	e.countHolders(ctx, found, report.Candidates)
	slices.SortStableFunc(report.Candidates, func(a, b shared.Candidate) int { return a.FirstSeen.Compare(b.FirstSeen) })
	report.LookAlikes, err = e.lookAlikes(ctx, name, m.publisher)
	return report, err
}

func candidate(pkg catalog.Package) shared.Candidate {
	c := shared.Candidate{Publisher: pkg.Publisher, Newest: pkg.Newest().Version, Holders: -1}
	for _, rel := range pkg.Releases {
		if !rel.Yanked {
			c.Releases++
		}
		if c.FirstSeen.IsZero() || rel.FirstSeen.Before(c.FirstSeen) {
			c.FirstSeen = rel.FirstSeen
		}
	}
	return c
}

// countHolders asks the network, for a short time, who holds the newest releases.
func (e *Engine) countHolders(ctx context.Context, found []catalog.Package, candidates []shared.Candidate) {
	if len(e.node.Connected()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askingFor)
	defer cancel()
	var asking sync.WaitGroup
	for i, pkg := range found[:min(len(found), maxAsked)] {
		asking.Go(func() {
			digest := pkg.Newest().Archive.Digest
			holders := 0
			if e.store.Has(digest) {
				holders++
			}
			for info := range e.findProviders(ctx, digest, maxProviders) {
				if info.ID != e.node.Host().ID() {
					holders++
				}
			}
			candidates[i].Holders = holders
		})
	}
	asking.Wait()
}

// popular is from how many other publishers' packages that need it on a name counts
// as well-known.
const popular = 3

// lookAlikes finds well-known names of other publishers that a name may be taken for:
// those that are pinned here, that a trust catalogue lists, or that are popular.
func (e *Engine) lookAlikes(ctx context.Context, name string, owner shared.PublisherID) ([]shared.LookAlike, error) {
	alike := map[string]string{} // why, by name
	e.catalog.All(func(other string, _ catalog.Package) {
		if _, seen := alike[other]; !seen && ctx.Err() == nil {
			if why := trust.Alike(name, other); why != "" {
				alike[other] = why
			}
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, shared.AsError(err)
	}
	if len(alike) == 0 {
		return nil, nil
	}
	needed := map[string]map[shared.PublisherID]bool{}
	e.catalog.All(func(_ string, pkg catalog.Package) {
		for _, dep := range pkg.Newest().Dependencies {
			if alike[dep.Name] == "" {
				continue
			}
			if needed[dep.Name] == nil {
				needed[dep.Name] = map[shared.PublisherID]bool{}
			}
			needed[dep.Name][pkg.Publisher] = true
		}
	})
	var out []shared.LookAlike
	for other, why := range alike {
		m := e.meaning(other, e.packagesOf(other))
		switch {
		case m.publisher != "" && m.publisher == owner:
			continue
		case m.rule == shared.RulePin:
			why += "; that one is pinned here"
		case m.rule == shared.RuleCatalogue:
			why += "; that one is in the trust catalogue " + m.catalogue
		case len(needed[other]) >= popular:
			why += "; packages of many publishers need that one"
		default:
			continue
		}
		out = append(out, shared.LookAlike{Name: other, Publisher: m.publisher, Why: why})
	}
	slices.SortFunc(out, func(a, b shared.LookAlike) int { return cmp.Compare(a.Name, b.Name) })
	return out[:min(len(out), maxLookAlikes)], nil
}

// maxLookAlikes bounds what is told of one name.
const maxLookAlikes = 10

// TrustCatalogues lists what this node follows; see [shared.Trust].
func (e *Engine) TrustCatalogues(ctx context.Context) ([]shared.TrustCatalogue, error) {
	if err := ctx.Err(); err != nil {
		return nil, shared.AsError(err)
	}
	return e.shelf.List(), nil
}

// AddTrustCatalogue follows a signed catalogue; see [shared.Trust].
func (e *Engine) AddTrustCatalogue(ctx context.Context, signed []byte) (shared.TrustCatalogue, error) {
	if err := ctx.Err(); err != nil {
		return shared.TrustCatalogue{}, shared.AsError(err)
	}
	return e.shelf.Add(signed)
}

// RemoveTrustCatalogue stops following one; see [shared.Trust].
func (e *Engine) RemoveTrustCatalogue(ctx context.Context, signer shared.PublisherID, title string) (shared.TrustCatalogue, error) {
	if err := ctx.Err(); err != nil {
		return shared.TrustCatalogue{}, shared.AsError(err)
	}
	id, err := shared.ParsePublisherID(string(signer))
	if err != nil {
		return shared.TrustCatalogue{}, err
	}
	return e.shelf.Remove(id, title)
}

// SignTrustCatalogue signs one as this node's publisher; see [shared.Trust].
func (e *Engine) SignTrustCatalogue(ctx context.Context, draft shared.TrustCatalogue) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, shared.AsError(err)
	}
	keys, err := e.ring.Signers()
	if err != nil {
		return nil, err
	}
	draft.Issued = e.now()
	return trust.Sign(draft, e.ring.Chain(), keys...)
}
