package manifest

import (
	"fmt"
	"maps"
	"slices"
)

// knownKeys are the keys of the package's table that mean something here.
var knownKeys = []string{
	"name", "title", "full_name", "version", "description", "authors", "author", "license", "licence", "category", "categories",
	"tags", "keywords", "repository", "homepage", "readme", "ggen", "include", "exclude", "dependencies", "inputs", "extra",
}

// checkSpelling warns of unknown keys that look like known ones.
func (r *reader) checkSpelling() {
	for _, key := range slices.Sorted(maps.Keys(r.fields)) {
		if len(key) < 3 || slices.Contains(knownKeys, key) {
			continue
		}
		if i := slices.IndexFunc(knownKeys, func(known string) bool { return oneSlip(key, known) }); i >= 0 {
			r.warn("spelling", key, fmt.Sprintf("write %s, if that is what you mean", knownKeys[i]), "the key %q is not known", key)
		}
	}
}

// oneSlip tells whether two words differ in one letter that is missing, too many or
// another, or in two neighbours that changed places.
func oneSlip(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch rest, other := a[i:], b[i:]; len(other) - len(rest) {
	case 0:
		return rest == "" || rest[1:] == other[1:] ||
			len(rest) > 1 && rest[0] == other[1] && rest[1] == other[0] && rest[2:] == other[2:]
	case 1:
		return rest == other[1:]
	}
	return false
}
