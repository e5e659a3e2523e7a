package shared

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// Limits on names, from DESIGN D1. They keep what peers say out of shells,
// paths and terminals.
const (
	MaxNameLen         = 64 // bytes of a package name
	MinPublisherPrefix = 8  // hex digits by which a person may abbreviate a publisher
	publisherIDLen     = 2 * sha256.Size
)

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// CheckName returns an INVALID_ARGUMENT error unless name is a package name:
// [a-z0-9][a-z0-9._-]*, at most [MaxNameLen] bytes.
func CheckName(name string) error {
	switch {
	case name == "":
		return NewError(ReasonInvalidArgument, "the package name is empty")
	case len(name) > MaxNameLen:
		return NewError(ReasonInvalidArgument, "the package name %q has %d bytes; %d are allowed", name[:MaxNameLen]+"…", len(name), MaxNameLen)
	case !namePattern.MatchString(name):
		return NewError(ReasonInvalidArgument, "the package name %q is not allowed", name).
			WithHint("use lower-case letters, digits, '.', '_' and '-', starting with a letter or digit")
	}
	return nil
}

// PublisherID is the lower-case hex SHA-256 of a publisher's first root
// document (64 digits). In a [Ref] or query it may be an abbreviation.
type PublisherID string

// Short abbreviates the ID for people, to 12 digits.
func (id PublisherID) Short() string { return string(id[:min(len(id), 12)]) }

// Complete tells whether id is a whole ID and not an abbreviation.
func (id PublisherID) Complete() bool { return len(id) == publisherIDLen && isHex(string(id)) }

// ParsePublisherID accepts a complete ID or a prefix of at least
// [MinPublisherPrefix] digits.
func ParsePublisherID(s string) (PublisherID, error) {
	if len(s) < MinPublisherPrefix || len(s) > publisherIDLen || !isHex(s) {
		return "", NewError(ReasonInvalidArgument, "%q is not a publisher", s).
			WithHint("a publisher is written as %d to %d hexadecimal digits; `ggen marketplace info NAME` shows it", MinPublisherPrefix, publisherIDLen)
	}
	return PublisherID(s), nil
}

// Digest is "sha256:" and 64 lower-case hex digits.
type Digest string

const digestPrefix = "sha256:"

// DigestOf hashes data.
func DigestOf(data []byte) Digest { return DigestFromSum(sha256.Sum256(data)) }

// DigestFromSum names a finished SHA-256.
func DigestFromSum(sum [sha256.Size]byte) Digest {
	return Digest(digestPrefix + hex.EncodeToString(sum[:]))
}

// ParseDigest returns an INVALID_ARGUMENT error unless s is a [Digest].
func ParseDigest(s string) (Digest, error) {
	digits, ok := strings.CutPrefix(s, digestPrefix)
	if !ok || len(digits) != 2*sha256.Size || !isHex(digits) {
		return "", NewError(ReasonInvalidArgument, "%q is not a digest", s).
			WithHint("a digest is written as sha256: and %d hexadecimal digits", 2*sha256.Size)
	}
	return Digest(s), nil
}

// Sum returns the raw hash. It is the zero value for an invalid digest.
func (d Digest) Sum() (sum [sha256.Size]byte) {
	if _, err := ParseDigest(string(d)); err == nil {
		_, _ = hex.Decode(sum[:], []byte(d[len(digestPrefix):]))
	}
	return sum
}

// Hex returns the digits alone, for file names.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

// Ref is what a person types to mean a package: [publisher/]name[@range].
type Ref struct {
	Publisher  PublisherID // may be empty or abbreviated
	Name       string
	Constraint string // semver range or version; empty means the newest release
}

// ParseRef parses [publisher/]name[@range]. It checks the name and the
// publisher; the range is checked by the resolver.
func ParseRef(s string) (Ref, error) {
	rest, constraint, hasConstraint := strings.Cut(s, "@")
	if hasConstraint && strings.TrimSpace(constraint) == "" {
		return Ref{}, NewError(ReasonInvalidArgument, "%q has an empty version after @", s)
	}
	ref := Ref{Name: rest, Constraint: constraint}
	if publisher, name, ok := strings.Cut(rest, "/"); ok {
		id, err := ParsePublisherID(publisher)
		if err != nil {
			return Ref{}, err
		}
		ref.Publisher, ref.Name = id, name
	}
	if err := CheckName(ref.Name); err != nil {
		return Ref{}, err
	}
	return ref, nil
}

// String is the form that [ParseRef] reads.
func (r Ref) String() string {
	var b strings.Builder
	if r.Publisher != "" {
		fmt.Fprintf(&b, "%s/", r.Publisher)
	}
	b.WriteString(r.Name)
	if r.Constraint != "" {
		fmt.Fprintf(&b, "@%s", r.Constraint)
	}
	return b.String()
}

// Compare orders refs by name, then publisher, then constraint.
func (r Ref) Compare(other Ref) int {
	return cmp.Or(cmp.Compare(r.Name, other.Name), cmp.Compare(r.Publisher, other.Publisher), cmp.Compare(r.Constraint, other.Constraint))
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// OneSlip tells whether two words differ in one letter that is missing, too many or
// another, or in two neighbours that changed places: the four slips of Damerau (1964). Bytes count, so
// it is for names and keys in ASCII.
func OneSlip(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	rest, other := a[i:], b[i:]
	switch len(other) - len(rest) {
	case 0:
		return rest != "" && (rest[1:] == other[1:] ||
			len(rest) > 1 && rest[0] == other[1] && rest[1] == other[0] && rest[2:] == other[2:])
	case 1:
		return rest == other[1:]
	}
	return false
}
