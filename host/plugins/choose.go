package plugins

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Choose gives the engine to execute. It is verified, and if its version runs here
// for the first time, its digest is recorded in the home's plugins.lock: from then
// on another file of that version is refused. ctx bounds waiting for another ggen
// that changes the engines.
//
// Errors: ENGINE_NOT_FOUND, ENGINE_INVALID (metadata path and, where digests
// differ, found and expected), ENGINE_PROTOCOL, and those of [Find] and [Check].
func Choose(ctx context.Context, s Search) (Candidate, error) {
	r, err := load(s)
	if err != nil {
		return Candidate{}, err
	}
	found, err := r.find()
	if err != nil {
		return Candidate{}, err
	}
	c, err := r.first(found)
	if err != nil {
		return Candidate{}, err
	}
	return c, r.check(ctx, c)
}

// Check makes sure that a candidate of [Find] is what it should be, right before
// it is executed, and records its digest as [Choose] does. It refuses one for
// another platform and one that plugins.lock does not allow. Errors: ENGINE_INVALID,
// LOCKFILE, STORAGE, ENGINE_TIMEOUT when another ggen changes the engines for too
// long, CANCELED, DEADLINE_EXCEEDED.
func Check(ctx context.Context, s Search, c Candidate) error {
	r, err := load(s)
	if err != nil {
		return err
	}
	return r.check(ctx, c)
}

func (r rules) check(ctx context.Context, c Candidate) error {
	if c.Development() {
		if c.standing == broken {
			return c.refusal()
		}
		return nil
	}
	if c.standing == barred || c.standing == foreign || c.withoutConsent() {
		return c.refusal()
	}
	if r.inspect(&c); c.standing != broken {
		r.verify(&c, true)
	}
	if c.standing == broken {
		return c.refusal()
	}
	if known := r.home.engine(c.Version); known != nil && known.digests[c.platform()] != "" {
		return nil
	}
	return change(ctx, r.search, r.search.Home, func(l *lockfile) error {
		r.home = *l
		if r.compareLocked(&c); c.standing == broken { // another ggen was faster
			return c.refusal()
		}
		l.add(c)
		return nil
	})
}

// first is the candidate that wins, if one does and is not broken.
func (r rules) first(found []Candidate) (Candidate, error) {
	wanted, _ := r.wanted()
	switch {
	case len(found) == 0:
		return Candidate{}, r.notFound()
	case found[0].Used:
		return found[0], nil
	case found[0].standing == broken:
		return Candidate{}, found[0].refusal()
	case wanted != "":
		if i := versionHere(found, wanted); i >= 0 {
			return Candidate{}, found[i].refusal()
		}
		return Candidate{}, r.notFound()
	}
	reason := shared.ReasonEngineInvalid
	if slices.ContainsFunc(found, func(c Candidate) bool { return c.standing == unspoken || c.standing == unknown }) &&
		!slices.ContainsFunc(found, func(c Candidate) bool { return c.standing == barred }) {
		reason = shared.ReasonEngineProtocol
	}
	const enough = 5
	var whys []string
	for _, c := range found[:min(len(found), enough)] {
		whys = append(whys, c.Path+": "+c.Why)
	}
	if len(found) > enough {
		whys = append(whys, fmt.Sprintf("and %d more", len(found)-enough))
	}
	return Candidate{}, shared.NewError(reason, "no marketplace engine can be used: %s", strings.Join(whys, "; ")).
		WithHint("`ggen marketplace plugin list` shows every candidate")
}

// versionHere is the index of the first candidate of a version for this platform,
// or -1.
func versionHere(found []Candidate, version string) int {
	return slices.IndexFunc(found, func(c Candidate) bool { return c.Version == version && c.standing != foreign })
}

func (r rules) notFound() error {
	where := r.search.where()
	wanted, by := r.wanted()
	if wanted == "" {
		return shared.NewError(shared.ReasonEngineNotFound, "there is no marketplace engine in %s", where).
			WithHint("put ggen-engine-marketplace_v…_p%d_%s_%s and its .sha256 beside ggen, or run `ggen marketplace plugin install FILE`", r.search.Newest, runtime.GOOS, runtime.GOARCH)
	}
	other := "`ggen marketplace plugin use VERSION`"
	if r.project.use != "" {
		other = "`ggen marketplace plugin pin --remove`"
	}
	return shared.NewError(shared.ReasonEngineNotFound, "%s asks for engine %s, which is not in %s", by, wanted, where).
		WithHint("install it with `ggen marketplace plugin install FILE`, or ask for another with %s", other)
}
