// Package resolve chooses one version of each package so that every requirement
// is met: newest first, but what is locked stays. It knows versions and ranges
// and nothing else; which publisher a name means, and what is yanked, its
// [Source] decides.
//
// The search is a backtracking one over the finite lists of known versions, with
// the package of fewest choices first and conflicts remembered; it is complete:
// it finds a solution if there is one, within its bound of steps.
package resolve

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"ggen.dev/marketplace/shared"
)

// maxSteps bounds the search. 1,000 packages without conflicts take 1,000 steps;
// a search that takes more than this is a puzzle that somebody made.
const maxSteps = 100_000

// maxRequirements bounds the requirements of all chosen packages together, about
// 10 MB; the largest real projects elsewhere have some 10,000.
const maxRequirements = 100_000

// Requirement is "by needs a version of Name in Range". By is empty for what the
// user asked for.
type Requirement struct {
	Name      string
	Publisher string // a complete ID or empty: whoever the source chooses
	Range     string // empty: any release
	By        string // name@version
}

func (r Requirement) String() string {
	text := r.Name
	if r.Range != "" {
		text += " " + r.Range
	}
	if r.Publisher != "" {
		text += " of publisher " + r.Publisher
	}
	if r.By == "" {
		return "you ask for " + text
	}
	return r.By + " needs " + text
}

// Version is one choice for a package.
type Version struct {
	Version  *semver.Version
	Yanked   bool
	Requires []Requirement // By is filled in by Solve
}

// Source knows the versions of packages. It returns an error for a package that
// does not exist, or not of the publisher that is named.
type Source interface {
	// publisher may be empty; chosen says whose package it is.
	Versions(ctx context.Context, name, publisher string) (versions []Version, chosen string, err error)
}

// Choice is one package of a solution.
type Choice struct {
	Name    string
	Version *semver.Version
	Needs   []string // names of direct dependencies, sorted
}

// Solve finds the versions. locked maps names to versions to prefer. The solution
// lists dependencies before those who need them. Errors: UNSATISFIABLE with the
// reasons in words, for conflicts and for cycles; the source's own for packages
// it does not know; CANCELED.
func Solve(ctx context.Context, roots []Requirement, locked map[string]string, source Source) ([]Choice, error) {
	s := &solver{
		ctx: ctx, source: source, locked: locked,
		versions: map[string][]Version{}, chosen: map[string]Version{}, publishers: map[string]string{}, named: map[string]Requirement{}, ranges: map[string]*semver.Constraints{},
	}
	if err := s.solve(roots, 0); err != nil {
		return nil, err
	}
	return s.order(roots)
}

type solver struct {
	ctx        context.Context
	source     Source
	locked     map[string]string
	versions   map[string][]Version
	chosen     map[string]Version
	publishers map[string]string              // whose package a name stands for
	named      map[string]Requirement         // who first named a package's publisher
	ranges     map[string]*semver.Constraints // parsed once: the same ones come again and again
	steps      int
	conflict   error // the first one, which explains best
}

// solve extends the choice until all open requirements are met, or gives up and
// leaves the choice as it was. The first checked ones are known not to contradict
// the choice.
func (s *solver) solve(open []Requirement, checked int) error {
	if err := s.ctx.Err(); err != nil {
		return shared.AsError(err)
	}
	if s.steps++; s.steps > maxSteps {
		return shared.NewError(shared.ReasonUnsatisfiable, "the requirements are too entangled: no solution within %d steps", maxSteps)
	}
	wanted, name, err := s.next(open, checked)
	if err != nil || name == "" {
		return err
	}
	candidates, err := s.candidates(name, wanted)
	if err != nil {
		return err
	}
	for _, v := range candidates {
		s.chosen[name] = v
		// All frames share one array: each reads only its own part, and what lies
		// behind it belongs to the candidate that is being tried.
		further := open
		for _, r := range v.Requires {
			r.By = name + "@" + v.Version.String()
			further = append(further, r)
		}
		if len(further) > maxRequirements {
			return shared.NewError(shared.ReasonUnsatisfiable, "the packages have more than %d requirements together", maxRequirements).
				WithHint("somebody made them so; do not install %s", open[0].Name)
		}
		err = s.solve(further, len(open))
		if err == nil || !isConflict(err) {
			return err
		}
		delete(s.chosen, name)
	}
	if s.conflict == nil {
		s.conflict = unsatisfiable(name, wanted, s.versions[name])
	}
	return s.conflict
}

// next picks the undecided package with the requirements on it. It fails when a
// decided package does not meet one.
func (s *solver) next(open []Requirement, checked int) (wanted []Requirement, name string, err error) {
	for i, r := range open {
		v, decided := s.chosen[r.Name]
		if !decided {
			if name == "" {
				name = r.Name
			}
			continue
		}
		if i < checked {
			continue
		}
		if err := s.samePublisher(r); err != nil {
			return nil, "", err
		}
		if ok, err := s.meets(v.Version, r); err != nil {
			return nil, "", err
		} else if !ok {
			var all []Requirement
			for _, other := range open {
				if other.Name == r.Name {
					all = append(all, other)
				}
			}
			if s.conflict == nil {
				s.conflict = unsatisfiable(r.Name, all, s.versions[r.Name])
			}
			return nil, "", s.conflict
		}
	}
	for _, r := range open {
		if r.Name == name {
			wanted = append(wanted, r)
		}
	}
	return wanted, name, nil
}

// samePublisher refuses requirements that mean different publishers by one name:
// a name stands for one package in a project, and which one is not guessed.
func (s *solver) samePublisher(r Requirement) error {
	if r.Publisher == "" {
		return nil
	}
	refuse := func(have, by string) error {
		return shared.NewError(shared.ReasonUntrusted, "%s is publisher %s's package here (%s), but %s", r.Name, have, by, r).
			WithHint("one project can hold only one of them: ask the publisher of %s, or remove what needs the other one", r.By).
			With("pinned", have).With("offered", r.Publisher)
	}
	if have, loaded := s.publishers[r.Name]; loaded && have != r.Publisher {
		return refuse(have, "that is who the name means")
	}
	if first, named := s.named[r.Name]; named && first.Publisher != r.Publisher {
		return refuse(first.Publisher, first.String())
	}
	s.named[r.Name] = r
	return nil
}

// candidates lists the versions that meet all requirements, the best first: the
// locked one, then the newest; yanked ones only if they are locked.
func (s *solver) candidates(name string, wanted []Requirement) ([]Version, error) {
	for _, r := range wanted {
		if err := s.samePublisher(r); err != nil {
			return nil, err
		}
	}
	all, ok := s.versions[name]
	if !ok {
		var chosen string
		var err error
		if all, chosen, err = s.source.Versions(s.ctx, name, s.named[name].Publisher); err != nil {
			if wanted[0].By != "" {
				e := *shared.AsError(err)
				e.Message = wanted[0].String() + ": " + e.Message
				return nil, &e
			}
			return nil, err
		}
		all = slices.Clone(all)
		slices.SortStableFunc(all, func(a, b Version) int { return b.Version.Compare(a.Version) })
		s.versions[name], s.publishers[name] = all, chosen
	}
	var locked, stable, previews []Version
	for _, v := range all {
		fits, named := true, false
		for _, r := range wanted {
			ok, err := s.meets(v.Version, r)
			if err != nil {
				return nil, err
			}
			fits = fits && ok
			named = named || r.Range == v.Version.String()
		}
		switch isLocked := s.locked[name] == v.Version.String(); {
		case !fits:
		case isLocked:
			locked = append(locked, v)
		case v.Yanked && !named:
		case v.Version.Prerelease() != "":
			previews = append(previews, v)
		default:
			stable = append(stable, v)
		}
	}
	return slices.Concat(locked, stable, previews), nil
}

// meets tells whether a version is in a requirement's range. A pre-release is
// only in a range that names one, as npm and cargo have it; a package that has
// nothing else may be taken without a range.
func (s *solver) meets(v *semver.Version, r Requirement) (bool, error) {
	if r.Range == "" || r.Range == v.String() || r.Range == v.Original() {
		return true, nil
	}
	wanted, known := s.ranges[r.Range]
	if !known {
		var err error
		if wanted, err = semver.NewConstraint(r.Range); err != nil {
			return false, shared.NewError(shared.ReasonInvalidArgument, "%s: %q is not a version range: %w", r, r.Range, err).
				WithHint("write a version (1.2.3) or a range (^1.2, >=1, <2)")
		}
		s.ranges[r.Range] = wanted
	}
	return wanted.Check(v), nil
}

func isConflict(err error) bool {
	return shared.AsError(err).Reason == shared.ReasonUnsatisfiable
}

func unsatisfiable(name string, wanted []Requirement, versions []Version) error {
	var why, have []string
	for _, r := range wanted {
		if !slices.Contains(why, r.String()) {
			why = append(why, r.String())
		}
	}
	for i, v := range versions {
		if i == 5 {
			have = append(have, "…")
			break
		}
		text := v.Version.String()
		if v.Yanked {
			text += " (yanked)"
		}
		have = append(have, text)
	}
	return shared.NewError(shared.ReasonUnsatisfiable, "no version of %s fits: %s; there is %s", name, strings.Join(why, ", and "), strings.Join(have, ", ")).
		WithHint("ask for other versions, or wait for a release that fits").With("package", name)
}

// order sorts the chosen packages so that dependencies come first, and finds
// cycles on the way.
func (s *solver) order(roots []Requirement) ([]Choice, error) {
	var out []Choice
	done := map[string]bool{}
	var visit func(name string, path []string) error
	visit = func(name string, path []string) error {
		if i := slices.Index(path, name); i >= 0 {
			return shared.NewError(shared.ReasonUnsatisfiable, "the packages need each other in a circle: %s", strings.Join(append(path[i:], name), " → ")).
				WithHint("one of their publishers has to break the circle")
		}
		if done[name] {
			return nil
		}
		v := s.chosen[name]
		var needs []string
		for _, r := range v.Requires {
			if !slices.Contains(needs, r.Name) {
				needs = append(needs, r.Name)
			}
		}
		slices.Sort(needs)
		for _, need := range needs {
			if err := visit(need, append(slices.Clone(path), name)); err != nil {
				return err
			}
		}
		done[name] = true
		out = append(out, Choice{Name: name, Version: v.Version, Needs: needs})
		return nil
	}
	names := make([]string, 0, len(roots))
	for _, r := range roots {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := visit(name, nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// String shows a choice as name@version.
func (c Choice) String() string { return fmt.Sprintf("%s@%s", c.Name, c.Version) }
