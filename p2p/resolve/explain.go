package resolve

import (
	"fmt"
	"strings"

	"ggen.dev/marketplace/shared"
)

// fact is why an incompatibility holds that follows from no other: somebody needs
// something, or versions were withdrawn.
type fact struct {
	requirement Requirement
	by          *pack
	who         set   // versions of by that this is about
	needed      *pack // nil if withdrawn
	missing     error // the source's, if what is needed does not exist
	withdrawn   bool
}

// maxFacts bounds what is told of a conflict; longer chains help nobody.
const maxFacts = 12

// maxNamed bounds how many versions are named one by one.
const maxNamed = 5

// explain tells a conflict that nothing can be done about: the facts that it follows
// from, from what the user asked for down.
func (s *solver) explain(conflict *incompatibility) error {
	var facts []*fact
	seen := map[*incompatibility]bool{}
	var collect func(i *incompatibility)
	collect = func(i *incompatibility) {
		if i == nil || seen[i] {
			return
		}
		seen[i] = true
		if i.fact != nil {
			facts = append(facts, i.fact)
		}
		collect(i.from[0])
		collect(i.from[1])
	}
	collect(conflict)
	facts = fromTheTop(facts)
	for _, f := range facts {
		if f.missing != nil && len(facts) <= maxFacts {
			if err := f.alone(facts); err != nil {
				return err
			}
		}
	}
	var why []string
	for _, f := range facts[:min(len(facts), maxFacts)] {
		if text := f.String(); text != "" {
			why = append(why, text)
		}
	}
	if len(facts) > maxFacts {
		why = append(why, fmt.Sprintf("and %d further reasons", len(facts)-maxFacts))
	}
	name, have := contested(facts)
	return shared.NewError(shared.ReasonUnsatisfiable, "no version of %s fits: %s; there is %s", name, strings.Join(why, ", and "), have).
		WithHint("ask for other versions, or wait for a release that fits").With("package", name)
}

// fromTheTop orders facts so that each package is introduced before what it needs.
func fromTheTop(facts []*fact) (ordered []*fact) {
	known := map[string]bool{"": true}
	for len(facts) > 0 {
		var later []*fact
		for _, f := range facts {
			if !f.withdrawn && known[f.by.name] {
				ordered = append(ordered, f)
				known[f.needed.name] = true
			} else {
				later = append(later, f)
			}
		}
		if len(later) == len(facts) {
			return append(ordered, later...)
		}
		facts = later
	}
	return ordered
}

// alone is the source's error about a package that does not exist, if nothing but
// that stands in the way.
func (f *fact) alone(facts []*fact) error {
	for _, other := range facts {
		if other.withdrawn {
			return nil
		}
	}
	return needing(f.requirement, f.missing)
}

// contested is the package that the facts are about in the end, and its versions.
func contested(facts []*fact) (name, have string) {
	var p *pack
	asked := map[*pack]int{}
	for _, f := range facts {
		if f.needed == nil {
			continue
		}
		asked[f.needed]++
		if p == nil || asked[f.needed] >= asked[p] {
			p = f.needed
		}
	}
	if p == nil {
		return "anything", "nothing"
	}
	var versions []string
	for i, v := range p.versions {
		if i == maxNamed {
			versions = append(versions, "…")
			break
		}
		text := v.Version.String()
		if v.Yanked {
			text += " (yanked)"
		}
		versions = append(versions, text)
	}
	if len(versions) == 0 {
		return p.name, "none"
	}
	return p.name, strings.Join(versions, ", ")
}

// String says the fact in words. That a version was withdrawn shows where versions
// are listed.
func (f *fact) String() string {
	if f.withdrawn {
		return ""
	}
	r := f.requirement
	if f.by.name == "" {
		return r.String()
	}
	if n := f.who.count(); n > 1 {
		r.By = fmt.Sprintf("%s (%s)", f.by.name, f.versions(n))
	}
	return r.String()
}

func (f *fact) versions(n int) string {
	if n == len(f.by.versions) {
		return "every version"
	}
	var named []string
	for i, v := range f.by.versions {
		if f.who.has(i) {
			if len(named) == maxNamed {
				return strings.Join(named, ", ") + fmt.Sprintf(" and %d more", n-maxNamed)
			}
			named = append(named, v.Version.String())
		}
	}
	return strings.Join(named, ", ")
}
