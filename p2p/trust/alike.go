package trust

import (
	"strings"

	"ggen.dev/marketplace/shared"
)

// minAlike is the length in bytes from which on names that differ by one letter are
// alike: among shorter ones nearly all are.
const minAlike = 5

// Letters, and pairs of them, that look like others in common fonts (after Unicode's
// UTS #39, for the letters that names may have). The pairs come second.
var (
	confusable = strings.NewReplacer("0", "o", "1", "l", "i", "l", "5", "s", "2", "z", "8", "b", "6", "b", "9", "g", "q", "g")
	pairs      = strings.NewReplacer("rn", "m", "vv", "w", "cl", "d")
)

// separators are what people mix up when they remember a name.
var separators = strings.NewReplacer("-", "", "_", "", ".", "")

// Alike says in words how a name may be taken for another one; it is empty if that is
// not likely. Both are valid package names.
func Alike(name, known string) string {
	switch {
	case name == known:
		return ""
	case separators.Replace(name) == separators.Replace(known):
		return "only the separators differ"
	case skeleton(name) == skeleton(known):
		return "it looks nearly the same"
	case sameParts(name, known):
		return "it has the same parts in another order"
	case min(len(name), len(known)) >= minAlike && shared.OneSlip(name, known):
		return "one letter differs"
	}
	return ""
}

// skeleton is the same for names that look the same.
func skeleton(name string) string { return pairs.Replace(confusable.Replace(separators.Replace(name))) }

// sameParts compares "a-b" with "b-a".
func sameParts(a, b string) bool {
	parts := strings.FieldsFunc(a, isSeparator)
	others := strings.FieldsFunc(b, isSeparator)
	return len(parts) == 2 && len(others) == 2 && parts[0] == others[1] && parts[1] == others[0]
}

func isSeparator(r rune) bool { return r == '-' || r == '_' || r == '.' }
