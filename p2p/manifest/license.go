package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp/spdxlicenses"
)

// licenseID is one licence of an expression, with or without "+".
var licenseID = regexp.MustCompile(`^[A-Za-z0-9.:-]+\+?$`)

// operator is one as people write it.
var operator = regexp.MustCompile(`(?i)\b(and|or|with)\b`)

// checkLicense says what is wrong with an SPDX licence expression and how to write
// it; both are empty if nothing is. Only the lists come from the library: its parser
// panics on expressions such as "(" and "DocumentRef-0" (2.7.0).
func checkLicense(text string) (problem, fix string) {
	ids, problem := splitLicense(text)
	if problem != "" {
		return problem, suggestLicense(text)
	}
	for _, id := range ids {
		if problem, fix := checkLicenseID(id); problem != "" {
			return problem, fix
		}
	}
	return "", ""
}

// splitLicense returns the licences of an expression, each with its exception, or
// says why it is none.
func splitLicense(text string) (ids []string, problem string) {
	words := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text))
	open, wanted := 0, true // parentheses; whether a licence must come next
	for i := 0; i < len(words); i++ {
		word := words[i]
		operator := word == "AND" || word == "OR" || word == "WITH"
		switch {
		case word == "(" && wanted:
			open++
		case word == ")" && !wanted && open > 0:
			open--
		case operator && word != "WITH" && !wanted:
			wanted = true
		case !operator && wanted && licenseID.MatchString(word):
			if i+2 < len(words) && words[i+1] == "WITH" && licenseID.MatchString(words[i+2]) {
				word = strings.Join(words[i:i+3], " ")
				i += 2
			}
			ids, wanted = append(ids, word), false
		default:
			return nil, fmt.Sprintf("%q is not an SPDX licence expression", text)
		}
	}
	if wanted || open > 0 {
		return nil, fmt.Sprintf("%q is not a whole SPDX licence expression", text)
	}
	return ids, ""
}

// licenseRef is a licence that its author defines.
var licenseRef = regexp.MustCompile(`^(DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+$`)

// checkLicenseID looks at a licence and, behind " WITH ", its exception.
func checkLicenseID(text string) (problem, fix string) {
	id, exception, hasException := strings.Cut(text, " WITH ")
	bare := strings.TrimSuffix(id, "+")
	known, _ := spdxlicenses.IsException(exception)
	active, _ := spdxlicenses.IsActiveLicense(bare)
	deprecated, _ := spdxlicenses.IsDeprecatedLicense(bare)
	switch {
	case hasException && !known:
		return fmt.Sprintf("%q is not an SPDX licence exception", exception), "take one from https://spdx.org/licenses/exceptions-index.html"
	case active || licenseRef.MatchString(id):
		return "", ""
	case deprecated:
		return fmt.Sprintf("the SPDX licence %q is deprecated", id), "see https://spdx.org/licenses for its successor, such as GPL-3.0-only or GPL-3.0-or-later for GPL-3.0"
	}
	return fmt.Sprintf("%q is not an SPDX licence", id), suggestLicense(id)
}

// suggestLicense knows what authors write most often instead.
func suggestLicense(text string) string {
	if operator.MatchString(text) {
		return "write AND, OR and WITH in upper case, between licences"
	}
	alternatives := strings.FieldsFunc(text, func(r rune) bool { return r == '/' || r == ',' })
	for i := range alternatives {
		alternatives[i] = commonLicense(alternatives[i])
	}
	if len(alternatives) > 0 && !slices.Contains(alternatives, "") {
		return fmt.Sprintf("write %q", strings.Join(alternatives, " OR "))
	}
	return "take an identifier from https://spdx.org/licenses, or LicenseRef-NAME for a licence of your own"
}

// commonLicense reads "Apache 2.0", "the MIT License" and the like; it is empty for
// what it does not know.
func commonLicense(text string) string {
	words := strings.Fields(strings.ToLower(text))
	words = slices.DeleteFunc(words, func(w string) bool { return w == "the" || w == "license" || w == "licence" || w == "version" })
	id := strings.Join(words, "-")
	for _, try := range []string{id, id + ".0"} {
		if active, canonical := spdxlicenses.IsActiveLicense(try); active {
			return canonical
		}
	}
	return ""
}
