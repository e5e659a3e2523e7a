package trust

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Limits on a signed catalogue; they are part of the format.
const (
	MaxNames = 4096 // what fits into shared.MaxTrustCatalogue
	maxTitle = 100  // bytes
)

const origin = "ggen trust catalogue v1"

// envelope is a signed catalogue as a file: the root documents of its signer, and
// the note. The note's text has a line each for what it is, the signer, the serial
// number, the time in Unix seconds and the title, and then a line "name publisher"
// for every name, sorted.
type envelope struct {
	Roots [][]byte `json:"roots"`
	Note  string   `json:"note"`
}

// Sign makes the signed form of a catalogue in the name of the chain's publisher;
// c.Signer does not matter. Errors: INVALID_ARGUMENT for titles and names that are
// none, LIMIT_EXCEEDED.
func Sign(c shared.TrustCatalogue, chain publisher.Chain, keys ...*publisher.Key) ([]byte, error) {
	c.Signer = chain.ID
	c.Names = slices.SortedFunc(slices.Values(c.Names), func(a, b shared.CatalogueName) int { return cmp.Compare(a.Name, b.Name) })
	if err := check(c); err != nil {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "sign a trust catalogue: %w", err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n%s\n%d\n%d\n%s\n", origin, c.Signer, c.Serial, c.Issued.Unix(), c.Title)
	for _, n := range c.Names {
		fmt.Fprintf(&text, "%s %s\n", n.Name, n.Publisher)
	}
	note, err := publisher.SignNote(chain.ID, text.String(), keys...)
	if err != nil {
		return nil, fmt.Errorf("sign a trust catalogue: %w", err)
	}
	signed, err := json.Marshal(envelope{Roots: chain.Signed(), Note: string(note)})
	if err != nil {
		return nil, err
	}
	if len(signed) > shared.MaxTrustCatalogue {
		return nil, shared.NewError(shared.ReasonLimitExceeded, "the signed catalogue would have %d bytes; %d are allowed", len(signed), shared.MaxTrustCatalogue).
			WithHint("split it in two, with titles of their own")
	}
	return signed, nil
}

// Open reads and verifies a signed catalogue. Whether its signer is one to follow is
// for the caller to know. Errors: INVALID_ARGUMENT for what is no catalogue,
// INTEGRITY for one that is not signed as it says or dated ahead of now by more
// than publisher.MaxClockSkew, LIMIT_EXCEEDED.
func Open(signed []byte, now time.Time) (shared.TrustCatalogue, publisher.Chain, error) {
	none := shared.TrustCatalogue{}
	if len(signed) > shared.MaxTrustCatalogue {
		return none, publisher.Chain{}, shared.NewError(shared.ReasonLimitExceeded, "the catalogue has %d bytes; %d are allowed", len(signed), shared.MaxTrustCatalogue)
	}
	var e envelope
	if err := json.Unmarshal(signed, &e); err != nil || e.Note == "" {
		return none, publisher.Chain{}, shared.NewError(shared.ReasonInvalidArgument, "this is not a signed trust catalogue").
			WithHint("`ggen marketplace trust catalogue sign` makes one out of a list of names and publishers")
	}
	chain, err := publisher.ParseChain(e.Roots)
	if err != nil {
		return none, publisher.Chain{}, forged("its signer's root documents: %w", err)
	}
	text, err := publisher.OpenNote([]byte(e.Note), chain)
	if err != nil {
		return none, publisher.Chain{}, forged("%w", err)
	}
	c, err := parse(text)
	if err != nil {
		return none, publisher.Chain{}, forged("%w", err)
	}
	if c.Signer != chain.ID {
		return none, publisher.Chain{}, forged("it says that it is %s's, and %s signed it", c.Signer.Short(), chain.ID.Short())
	}
	if c.Issued.After(now.Add(publisher.MaxClockSkew)) {
		return none, publisher.Chain{}, forged("it is dated %s: the signer's clock or ours is wrong", c.Issued.UTC().Format(time.RFC3339))
	}
	return c, chain, nil
}

func forged(format string, args ...any) error {
	return shared.NewError(shared.ReasonIntegrity, "the trust catalogue does not hold: %w", fmt.Errorf(format, args...)).
		WithHint("ask its signer for a new one, over another way than this one came")
}

// parse reads the text of a note.
func parse(text string) (c shared.TrustCatalogue, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 6 || lines[0] != origin || lines[len(lines)-1] != "" {
		return c, errors.New("the text that is signed is not a catalogue")
	}
	c.Signer, c.Title = shared.PublisherID(lines[1]), lines[4]
	if c.Serial, err = strconv.ParseInt(lines[2], 10, 64); err != nil {
		return c, fmt.Errorf("serial number %q", lines[2])
	}
	seconds, err := strconv.ParseInt(lines[3], 10, 64)
	if err != nil || seconds <= 0 || seconds > 1<<40 {
		return c, fmt.Errorf("time %q", lines[3])
	}
	c.Issued = time.Unix(seconds, 0).UTC()
	for _, line := range lines[5 : len(lines)-1] {
		name, id, _ := strings.Cut(line, " ")
		c.Names = append(c.Names, shared.CatalogueName{Name: name, Publisher: shared.PublisherID(id)})
	}
	return c, check(c)
}

// check is what both sides demand.
func check(c shared.TrustCatalogue) error {
	switch {
	case !c.Signer.Complete():
		return fmt.Errorf("signer %q", c.Signer)
	case c.Serial < 1:
		return fmt.Errorf("serial number %d: it begins at 1", c.Serial)
	case strings.TrimSpace(c.Title) != c.Title || c.Title == "" || len(c.Title) > maxTitle || !utf8.ValidString(c.Title) || strings.ContainsFunc(c.Title, unprintable):
		return fmt.Errorf("title %q: it has 1 to %d bytes on one line", c.Title, maxTitle)
	case len(c.Names) == 0 || len(c.Names) > MaxNames:
		return fmt.Errorf("%d names: it has 1 to %d", len(c.Names), MaxNames)
	}
	for i, n := range c.Names {
		if err := shared.CheckName(n.Name); err != nil {
			return err
		}
		if !n.Publisher.Complete() {
			return fmt.Errorf("%s: %q is not a whole publisher ID of 64 digits", n.Name, n.Publisher)
		}
		if i > 0 && c.Names[i-1].Name >= n.Name {
			return fmt.Errorf("%s is listed twice, or the names are not sorted", n.Name)
		}
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
