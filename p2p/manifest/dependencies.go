package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// dependencies reads the array `dependencies = [...]` of the package's table and
// the tables [package.dependencies] and [marketplace.dependencies]. The top-level
// [dependencies] of real manifests lists Cargo crates or files: it is not ours.
func (r *reader) dependencies(document map[string]any) []shared.Dependency {
	found := dependencies{reader: r, byName: map[string]shared.Dependency{}}
	r.used["dependencies"] = true
	const key = "dependencies"
	switch v := r.fields[key].(type) {
	case nil:
	case []any:
		for i, item := range v {
			found.item(join(r.table, fmt.Sprintf("%s.%d", key, i)), item)
		}
	case map[string]any:
		found.table(join(r.table, key), v)
	default:
		r.fail(key, key, `write dependencies = ["name@^1.2"]`, "dependencies is neither a list nor a table")
	}
	if marketplace, ok := document["marketplace"].(map[string]any); ok {
		if deps, ok := marketplace[key].(map[string]any); ok {
			found.table("marketplace."+key, deps)
		}
	}
	if len(found.byName) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Values(found.byName), func(a, b shared.Dependency) int { return cmp.Compare(a.Name, b.Name) })
}

// dependencies collects what a manifest names in several places.
type dependencies struct {
	*reader
	byName map[string]shared.Dependency
}

func (d dependencies) refuse(path, fix, format string, args ...any) {
	d.find(shared.SeverityError, "dependencies", path, fix, format, args...)
}

func (d dependencies) item(path string, item any) {
	text, ok := item.(string)
	if !ok {
		d.refuse(path, `write "name" or "name@^1.2"`, "dependencies holds something that is not a string")
		return
	}
	if dep, ok := d.reference(path, text); ok {
		d.add(path, dep)
	}
}

// table reads `name = "range"` or `name = { version = "range", … }`.
func (d dependencies) table(path string, deps map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(deps)) {
		here := join(path, key)
		dep, ok := d.reference(here, key)
		if !ok {
			continue
		}
		switch v := deps[key].(type) {
		case string:
			dep.Constraint = v
		case map[string]any:
			dep.Constraint, _ = v["version"].(string)
			dep.Optional, _ = v["optional"].(bool)
			if id, ok := v["publisher"].(string); ok {
				dep.Publisher = shared.PublisherID(id)
			}
		default:
			d.refuse(here, fmt.Sprintf(`write %q = "^1.2"`, key), "the dependency %s is neither a range nor a table", key)
			continue
		}
		d.add(here, dep)
	}
}

// reference reads "[publisher/]name[@range]".
func (d dependencies) reference(path, text string) (shared.Dependency, bool) {
	ref, err := shared.ParseRef(strings.TrimSpace(text))
	if err != nil {
		typed := shared.AsError(err)
		d.refuse(path, typed.Hint, "dependency %q: %s", text, typed.Message)
		return shared.Dependency{}, false
	}
	return shared.Dependency{Publisher: ref.Publisher, Name: ref.Name, Constraint: ref.Constraint}, true
}

func (d dependencies) add(path string, dep shared.Dependency) {
	dep.Constraint = strings.TrimSpace(dep.Constraint)
	if dep.Constraint == "*" || dep.Constraint == "latest" {
		dep.Constraint = ""
	}
	d.checkRangeAt(path, dep.Constraint)
	if dep.Publisher != "" && !dep.Publisher.Complete() {
		d.refuse(path, "`ggen marketplace info` shows the whole ID", "dependency %s: the publisher %q is not a whole ID of 64 digits", dep.Name, dep.Publisher)
	}
	if earlier, twice := d.byName[dep.Name]; twice && earlier != dep {
		d.refuse(path, "keep one of them", "dependency %s is named twice, with different requirements", dep.Name)
	}
	d.byName[dep.Name] = dep
}

// checkDependencies looks at what only shows when all of them are known.
func (r *reader) checkDependencies(m *Manifest) {
	if len(m.Dependencies) > publisher.MaxDeps {
		r.fail("dependencies", "dependencies", "split the package", "there are %d dependencies; %d are allowed", len(m.Dependencies), publisher.MaxDeps)
	}
	for _, dep := range m.Dependencies {
		if dep.Name == m.Name && dep.Publisher == "" {
			r.fail("dependencies", "dependencies", "take "+m.Name+" out of its own dependencies", "the package depends on itself")
		}
	}
}
