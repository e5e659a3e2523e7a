package archive

import (
	"archive/tar"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"ggen.dev/marketplace/shared"
)

// MaxPath bounds a path in a package, in bytes: with the folder it is installed
// in it stays below Windows' 260.
const MaxPath = 240

// reserved are device names of Windows, with any extension.
var reserved = []string{
	"con", "prn", "aux", "nul",
	"conin$", "conout$",
	"com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9",
	"lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
}

// CheckPath returns an INVALID_PACKAGE error, with metadata path, unless name is
// a relative, slash-separated path that every system can hold.
func CheckPath(name string) error {
	switch {
	case !utf8.ValidString(name):
		return refuse(name, "its name is not UTF-8")
	case len(name) > MaxPath:
		return refuse(name, "its path has %d bytes; %d are allowed", len(name), MaxPath)
	case name == "" || strings.HasPrefix(name, "/"):
		return refuse(name, "its path is not relative")
	}
	for part := range strings.SplitSeq(name, "/") {
		if why := checkPart(part); why != "" {
			return refuse(name, "%s", why)
		}
	}
	return nil
}

func checkPart(part string) string {
	switch {
	case part == "" || part == "." || part == "..":
		return fmt.Sprintf("its path has a part %q", part)
	case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
		return fmt.Sprintf("%q ends in a dot or space, which Windows drops", part)
	}
	if i := strings.IndexFunc(part, func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || strings.ContainsRune(`\<>:"|?*`, r)
	}); i >= 0 {
		r, _ := utf8.DecodeRuneInString(part[i:])
		return fmt.Sprintf("its name holds the character %q, which not every system can hold", r)
	}
	folded := foldPath(part) // Windows takes the digits of COM¹ for plain ones
	stem, _, _ := strings.Cut(folded, ".")
	switch {
	case slices.Contains(reserved, strings.TrimRight(stem, " ")):
		return fmt.Sprintf("%q is a device on Windows", part)
	case isGit(folded):
		return fmt.Sprintf("%q is a folder whose settings git executes", part)
	}
	return ""
}

// isGit tells whether git may take a part of a folded path for its own folder.
// Entering such a folder and asking for the status runs what its settings name,
// and installing a package must never lead to running its code. NTFS knows the
// folder by a short name too.
func isGit(folded string) bool { return folded == ".git" || folded == "git~1" }

// excluded returns the folder because of which name is left out of a package
// without a word to its author but a note: version control at any depth, and
// ggen's own state at the top. It is empty for all other names.
func excluded(name string) string {
	end := 0
	for part := range strings.SplitSeq(name, "/") {
		end += len(part)
		if folded := foldPath(part); folded == ".git" || end == len(part) && folded == ".ggen" {
			return name[:end]
		}
		end++
	}
	return ""
}

// foldPath maps names that some file system takes for one to one string.
func foldPath(name string) string {
	if isASCII(name) {
		return strings.ToLower(name)
	}
	return cases.Fold().String(norm.NFKC.String(name))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func refuse(name, format string, args ...any) *shared.Error {
	shown := name
	if len(shown) > MaxPath {
		shown = shown[:MaxPath] + "…"
	}
	shown = strings.ToValidUTF8(shown, "\uFFFD") // last: the cut may split a letter
	return shared.NewError(shared.ReasonInvalidPackage, "%q cannot be part of a package: %s", shown, fmt.Sprintf(format, args...)).
		WithHint("rename or remove it").With("path", shown)
}

func typeName(flag byte) string {
	switch flag {
	case tar.TypeLink:
		return "a hard link"
	case tar.TypeChar, tar.TypeBlock:
		return "a device"
	case tar.TypeFifo:
		return "a named pipe"
	}
	return fmt.Sprintf("type %q", flag)
}
