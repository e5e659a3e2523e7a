// Package resolve chooses one version of each package so that every requirement
// is met: newest first, but what is locked stays. It knows versions and ranges
// and nothing else; which publisher a name means, and what is yanked, its
// [Source] decides.
//
// The algorithm is PubGrub (N. Weizenbaum, 2018; described in the solver.md of
// Dart's pub): what cannot be is written down as incompatibilities, unit propagation
// draws conclusions, and a conflict teaches a new incompatibility, from which the
// search goes on far behind the conflict. Versions are finite here, so a term is a
// set of choices for a package, one of which is that it is not installed. The search
// is complete: it finds a solution if there is one, within its bounds, and otherwise
// the incompatibilities that it has learnt are the explanation.
package resolve

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"ggen.dev/marketplace/shared"
)

// Bounds of a search: what the catalogue says comes from strangers. Real projects
// elsewhere have some 10,000 requirements.
const (
	maxSteps        = 100_000 // decisions and conflicts
	maxRequirements = 100_000 // of all packages that were looked at together
	maxVersions     = 10_000  // of one package; the oldest ones are not looked at
)

// Requirement is "by needs a version of Name in Range". By is empty for what the
// user asked for.
type Requirement struct {
	Name      string
	Publisher string // a complete ID or empty: whoever the source chooses
	Range     string // empty: any release
	Optional  bool   // only if somebody else needs Name must it be in Range
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
	switch {
	case r.By == "":
		return "you ask for " + text
	case r.Optional:
		return r.By + " can use " + text
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

// String shows a choice as name@version.
func (c Choice) String() string { return fmt.Sprintf("%s@%s", c.Name, c.Version) }

// Solve finds the versions. locked maps names to versions to prefer; a yanked version
// is only chosen if it is locked, and a pre-release only if a requirement names one
// or nothing else is there. A version that needs a package which does not exist is
// passed over. The same question has the same answer. The solution lists
// dependencies before those who need them.
//
// Errors: UNSATISFIABLE with the reasons in words, for conflicts and for cycles;
// INVALID_ARGUMENT for a range that is none, UNTRUSTED for two publishers of one
// name, the source's own for packages it does not know, CANCELED.
func Solve(ctx context.Context, roots []Requirement, locked map[string]string, source Source) ([]Choice, error) {
	s := newSolver(ctx, locked, source)
	if err := s.run(roots); err != nil {
		return nil, err
	}
	return s.order(roots)
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
		v := s.decided(name)
		var needs []string
		for _, r := range v.Requires {
			if !slices.Contains(needs, r.Name) && (!r.Optional || s.decided(r.Name) != nil) {
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
