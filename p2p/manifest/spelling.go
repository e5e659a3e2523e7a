package manifest

import (
	"fmt"
	"maps"
	"slices"

	"ggen.dev/marketplace/shared"
)

// knownKeys are the keys of the package's table that mean something here.
var knownKeys = []string{
	"name", "title", "full_name", "version", "description", "authors", "author", "license", "licence", "category", "categories",
	"tags", "keywords", "repository", "homepage", "readme", "ggen", "include", "exclude", "executables", "dependencies", "inputs", "extra",
}

// checkSpelling warns of unknown keys that look like known ones.
func (r *reader) checkSpelling() {
	for _, key := range slices.Sorted(maps.Keys(r.fields)) {
		if len(key) < 3 || slices.Contains(knownKeys, key) {
			continue
		}
		if i := slices.IndexFunc(knownKeys, func(known string) bool { return shared.OneSlip(key, known) }); i >= 0 {
			r.warn("spelling", key, fmt.Sprintf("write %s, if that is what you mean", knownKeys[i]), "the key %q is not known", key)
		}
	}
}
