package manifest

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"ggen.dev/marketplace/shared"
)

// dependencies reads the array `dependencies = [...]` of the package's table and
// the tables [package.dependencies] and [marketplace.dependencies]. The top-level
// [dependencies] of real manifests lists Cargo crates or files: it is not ours.
func (r *reader) dependencies(document map[string]any) []shared.Dependency {
	found := map[string]shared.Dependency{}
	add := func(dep shared.Dependency) {
		if earlier, twice := found[dep.Name]; twice && earlier != dep {
			r.fail("dependency %s is named twice, with different requirements", dep.Name)
			return
		}
		found[dep.Name] = dep
	}
	r.used["dependencies"] = true
	switch v := r.fields["dependencies"].(type) {
	case []any:
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				r.fail("[%s] dependencies holds something that is not a string", r.table)
				return nil
			}
			add(r.reference(text))
		}
	case map[string]any:
		r.requirements(v, add)
	}
	if marketplace, ok := document["marketplace"].(map[string]any); ok {
		if deps, ok := marketplace["dependencies"].(map[string]any); ok {
			r.requirements(deps, add)
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b shared.Dependency) int { return cmp.Compare(a.Name, b.Name) })
}

// reference reads "[publisher/]name[@range]".
func (r *reader) reference(text string) shared.Dependency {
	ref, err := shared.ParseRef(strings.TrimSpace(text))
	if err != nil {
		r.fail("dependency %q: %s", text, shared.AsError(err).Message)
		return shared.Dependency{}
	}
	return r.checked(shared.Dependency{Publisher: ref.Publisher, Name: ref.Name, Constraint: ref.Constraint})
}

// requirements reads a table of `name = "range"` or `name = { version = "range", … }`.
func (r *reader) requirements(deps map[string]any, add func(shared.Dependency)) {
	for _, key := range slices.Sorted(maps.Keys(deps)) {
		dep := r.reference(key)
		switch v := deps[key].(type) {
		case string:
			dep.Constraint = v
		case map[string]any:
			dep.Constraint, _ = v["version"].(string)
			dep.Optional, _ = v["optional"].(bool)
			if publisher, ok := v["publisher"].(string); ok {
				dep.Publisher = shared.PublisherID(publisher)
			}
		default:
			r.fail("dependency %s is neither a range nor a table", key)
		}
		add(r.checked(dep))
	}
}

func (r *reader) checked(dep shared.Dependency) shared.Dependency {
	if dep.Constraint == "*" || dep.Constraint == "latest" {
		dep.Constraint = ""
	}
	if dep.Publisher != "" && !dep.Publisher.Complete() {
		r.fail("dependency %s: the publisher %q is not a whole ID of 64 digits", dep.Name, dep.Publisher)
	}
	if strings.Contains(dep.Constraint, "~>") {
		r.fail("dependency %s: the operator ~> in %q means different things elsewhere; write ~1.2 or ^1.2", dep.Name, dep.Constraint)
	}
	if dep.Constraint != "" {
		if _, err := semver.NewConstraint(dep.Constraint); err != nil {
			r.fail("dependency %s: %q is not a version range: %v", dep.Name, dep.Constraint, err)
		}
	}
	return dep
}
