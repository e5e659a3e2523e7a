package publisher

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/Masterminds/semver/v3"

	"ggen.dev/marketplace/shared"
)

// Limits on the texts of a release, in bytes. All of them together stay below
// [MaxEntrySize]; longer descriptions are cut by [CutText] before signing.
const (
	MaxTitle       = 200
	MaxDescription = 4 << 10
	MaxAuthor      = 200
	MaxAuthors     = 16
	MaxLicense     = 200
	MaxCategory    = 64
	MaxTag         = 64
	MaxTags        = 32
	MaxRepository  = 500
	MaxReadme      = 512
	MaxConstraint  = 200
	MaxDeps        = 128
)

// Release states that a version of a package consists of exactly this content.
type Release struct {
	Name         string       `json:"name"`
	Version      string       `json:"version"` // strict semver
	Title        string       `json:"title,omitempty"`
	Description  string       `json:"description,omitempty"`
	Authors      []string     `json:"authors,omitempty"`
	License      string       `json:"license,omitempty"`
	Category     string       `json:"category,omitempty"`
	Tags         []string     `json:"tags,omitempty"`
	Keywords     []string     `json:"keywords,omitempty"`
	Repository   string       `json:"repository,omitempty"`
	Readme       string       `json:"readme,omitempty"` // the beginning of the readme as plain text, for searches
	Dependencies []Dependency `json:"dependencies,omitempty"`
	Files        int          `json:"files"`
	Archive      Content      `json:"archive"` // the canonical archive; its digest is the package's
	Index        Content      `json:"index"`   // lists the archive's chunks and files
}

// Content names bytes by digest and length.
type Content struct {
	Digest shared.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// Dependency is a requirement on another package.
type Dependency struct {
	Publisher  shared.PublisherID `json:"publisher,omitempty"`
	Name       string             `json:"name"`
	Constraint string             `json:"range,omitempty"`
	Optional   bool               `json:"optional,omitempty"`
}

// MaxContentSize bounds what a release may claim to hold, in bytes.
const MaxContentSize = 1 << 40

func (r *Release) check() error {
	if err := checkNameVersion(r.Name, r.Version); err != nil {
		return err
	}
	for _, text := range []struct {
		field, value string
		most         int
	}{
		{"title", r.Title, MaxTitle},
		{"description", r.Description, MaxDescription},
		{"license", r.License, MaxLicense},
		{"category", r.Category, MaxCategory},
		{"repository", r.Repository, MaxRepository},
		{"readme", r.Readme, MaxReadme},
	} {
		if err := checkText(text.field, text.value, text.most); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		field  string
		values []string
		count  int
		most   int
	}{
		{"authors", r.Authors, MaxAuthors, MaxAuthor},
		{"tags", r.Tags, MaxTags, MaxTag},
		{"keywords", r.Keywords, MaxTags, MaxTag},
	} {
		if len(list.values) > list.count {
			return invalid("%d %s; %d are allowed", len(list.values), list.field, list.count)
		}
		for _, value := range list.values {
			if err := checkText(list.field, value, list.most); err != nil {
				return err
			}
		}
	}
	if len(r.Dependencies) > MaxDeps {
		return invalid("%d dependencies; %d are allowed", len(r.Dependencies), MaxDeps)
	}
	for _, dep := range r.Dependencies {
		if err := dep.check(); err != nil {
			return err
		}
	}
	if r.Files < 0 {
		return invalid("%d files", r.Files)
	}
	for field, content := range map[string]Content{"archive": r.Archive, "index": r.Index} {
		if _, err := shared.ParseDigest(string(content.Digest)); err != nil {
			return invalid("%s: %w", field, err)
		}
		if content.Size < 0 || content.Size > MaxContentSize {
			return invalid("%s: size %d", field, content.Size)
		}
	}
	return nil
}

func (d Dependency) check() error {
	if err := shared.CheckName(d.Name); err != nil {
		return invalid("dependency: %w", err)
	}
	if d.Publisher != "" && !d.Publisher.Complete() {
		return invalid("dependency %s: the publisher is abbreviated", d.Name)
	}
	if err := checkText("dependency range", d.Constraint, MaxConstraint); err != nil {
		return err
	}
	if d.Constraint != "" {
		if _, err := semver.NewConstraint(d.Constraint); err != nil {
			return invalid("dependency %s: range %q: %w", d.Name, d.Constraint, err)
		}
	}
	return nil
}

func checkNameVersion(name, version string) error {
	if err := shared.CheckName(name); err != nil {
		return invalid("%w", err)
	}
	if len(version) > 128 {
		return invalid("the version of %s has %d bytes", name, len(version))
	}
	if _, err := semver.StrictNewVersion(version); err != nil {
		return invalid("version %q of %s: %w", version, name, err)
	}
	return nil
}

// checkText refuses what is too long or holds control characters other than
// line breaks and tabs.
func checkText(field, text string, most int) error {
	if len(text) > most {
		return invalid("%s has %d bytes; %d are allowed", field, len(text), most)
	}
	for _, r := range text {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return invalid("%s holds the control character %U", field, r)
		}
	}
	return nil
}

// CutText shortens text to most bytes at a character's border, ending in "…".
func CutText(text string, most int) string {
	if len(text) <= most {
		return text
	}
	cut := text[:most-len("…")]
	for !utf8.ValidString(cut) {
		cut = cut[:len(cut)-1]
	}
	return fmt.Sprintf("%s…", cut)
}
