// Package publisher holds the signed records of the marketplace: who a publisher
// is ([Root]), what it states ([Entry]) and the head of its append-only log
// ([Head]). An [Update] is how a piece of a log travels between peers; [Extend]
// verifies one against what is already known, [Update.Verify] one that comes
// without its past.
//
// The log is a Merkle tree as in RFC 6962, computed by golang.org/x/mod/sumdb/tlog;
// a head is a signed note as in the Go checksum database (sumdb/note). Both can
// be checked with tools that know nothing of ggen.
//
// Everything here is pure computation on bytes, except for the [Keyring]: the files
// of a publisher's keys, and the [Mark] beside them, which keeps it from
// contradicting itself. Package
// catalog stores logs; packages gossip, routing and replicate carry updates.
package publisher

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"ggen.dev/marketplace/shared"
)

// Limits on what a publisher may state; they are part of the format.
const (
	MaxEntrySize = 16 << 10 // bytes of a log entry; a typical release has 700
	MaxHeadSize  = 2 << 10  // bytes of a signed head
	MaxLogSize   = 1 << 24  // entries of one log
)

// MaxClockSkew is how far ahead of ours a publisher's clock may be. A day
// forgives a wrong time zone; more would let a head look fresh long after its
// publisher stopped.
const MaxClockSkew = 24 * time.Hour

// Why an update is not accepted. Use errors.Is.
var (
	// ErrInvalid: the bytes are not what they claim; whoever sent them is broken or lies.
	ErrInvalid = errors.New("invalid record")
	// ErrStale: there is nothing in it to take, and the sender is not to blame: it
	// is old, of a format that only newer peers know, or dated ahead of our clock.
	ErrStale = errors.New("stale record")
	// ErrGap: what the update builds on is not here, or is something else here:
	// fetch the log from the first entry that is missing. The answer decides.
	ErrGap = errors.New("entries are missing")
	// ErrDivergent, always with ErrStale: it is not the log that is held.
	ErrDivergent = errors.New("this is another log than the known one")
)

// invalid makes an ErrInvalid that says why.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// stale makes an ErrStale that says why.
func stale(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrStale, fmt.Errorf(format, args...))
}

// Kind is what an entry states.
type Kind string

// The kinds of entries. An entry of a kind that is not known here is kept and
// proven like any other, and has no effect.
const (
	KindRelease   Kind = "release"
	KindYank      Kind = "yank"
	KindUnyank    Kind = "unyank"
	KindDeprecate Kind = "deprecate"
	KindRoot      Kind = "root" // from here on, other keys sign
)

// Entry is one statement of a publisher. Its exact bytes are what the log
// hashes; they are JSON so that a second implementation is easy.
//
// In every format, now and later, an entry is one JSON object with the fields v,
// kind, publisher and time, whose keys are different plain lower-case words.
// What else an entry of an unknown format or kind says is not looked at: it has
// no Release, Yank, Advice or Root, and no effect.
type Entry struct {
	Format    int                `json:"v"` // 1
	Kind      Kind               `json:"kind"`
	Publisher shared.PublisherID `json:"publisher"`
	Time      int64              `json:"time"`              // Unix seconds, the author's clock
	Release   *Release           `json:"release,omitempty"` // of KindRelease alone
	Yank      *Yank              `json:"yank,omitempty"`    // of KindYank and KindUnyank alone
	Advice    *Advice            `json:"advice,omitempty"`  // of KindDeprecate alone
	Root      *RootRef           `json:"root,omitempty"`    // of KindRoot alone
}

// RootRef names a root document of the log's publisher.
type RootRef struct {
	Version int           `json:"version"`
	Digest  shared.Digest `json:"digest"` // of what its keys have signed
}

// Yank names a release that should not be chosen any more (or again).
type Yank struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Why     string `json:"why,omitempty"`
}

// Advice is against a package, or takes that back.
type Advice struct {
	Name      string `json:"name"`
	Successor string `json:"successor,omitempty"` // a name or publisher/name
	Why       string `json:"why,omitempty"`
	Undo      bool   `json:"undo,omitempty"`
}

func (a Advice) check() error {
	if err := shared.CheckName(a.Name); err != nil {
		return invalid("%w", err)
	}
	if a.Successor != "" {
		ref, err := shared.ParseRef(a.Successor)
		if err != nil || ref.Constraint != "" || ref.Publisher != "" && !ref.Publisher.Complete() {
			return invalid("the successor %q is neither a name nor publisher/name", CutText(a.Successor, MaxTitle))
		}
	}
	return checkText("why", a.Why, 512)
}

// Encode checks the entry and gives its bytes. It is stricter than [ParseEntry]:
// it refuses to state what would have no effect, such as build metadata that
// makes two versions out of one.
func (e Entry) Encode() ([]byte, error) {
	e.Format = entryFormat
	if e.Release != nil {
		if _, metadata, found := strings.Cut(e.Release.Version, "+"); found {
			return nil, invalid("version %q: build metadata does not tell releases apart: leave out \"+%s\"", e.Release.Version, metadata)
		}
	}
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	if _, err := ParseEntry(data, time.Now()); err != nil {
		return nil, err
	}
	return data, nil
}

const entryFormat = 1

// ParseEntry reads and validates an entry; now bounds its time. Errors:
// ErrInvalid, and ErrStale for one that is dated ahead of now by more than
// [MaxClockSkew].
func ParseEntry(data []byte, now time.Time) (Entry, error) {
	if len(data) > MaxEntrySize {
		return Entry{}, invalid("the entry has %d bytes; %d are allowed", len(data), MaxEntrySize)
	}
	e, err := decodeEntry(data)
	if err != nil {
		return Entry{}, invalid("entry: %w", err)
	}
	// How an entry without effect is to be read below its own keys is left to
	// those who know it.
	if err := scanKeys(data, e.Release != nil || e.Yank != nil || e.Advice != nil || e.Root != nil); err != nil {
		return Entry{}, invalid("entry: %w", err)
	}
	if err := e.check(); err != nil {
		return Entry{}, err
	}
	if time.Unix(e.Time, 0).After(now.Add(MaxClockSkew)) {
		return Entry{}, stale("an entry is dated %s: its publisher's clock or ours is wrong", time.Unix(e.Time, 0).UTC().Format(time.RFC3339))
	}
	return e, nil
}

// DecodeEntry reads an entry that [ParseEntry] has accepted before, in a third of
// the time: it validates nothing. Errors: ErrInvalid if it never was one.
func DecodeEntry(data []byte) (Entry, error) {
	e, err := decodeEntry(data)
	if err == nil && e.Format == entryFormat && (e.Kind == KindRelease && e.Release == nil || (e.Kind == KindYank || e.Kind == KindUnyank) && e.Yank == nil || e.Kind == KindDeprecate && e.Advice == nil || e.Kind == KindRoot && e.Root == nil) {
		err = fmt.Errorf("nothing of kind %q in it", e.Kind)
	}
	if err != nil {
		return Entry{}, invalid("entry: %w", err)
	}
	return e, nil
}

// decodeEntry decodes what this version knows, and nothing of the rest.
func decodeEntry(data []byte) (e Entry, err error) {
	if err := json.Unmarshal(data, &e); err != nil {
		return decodeForeign(data)
	}
	if e.Format != entryFormat || e.Kind != KindRelease {
		e.Release = nil
	}
	if e.Format != entryFormat || e.Kind != KindYank && e.Kind != KindUnyank {
		e.Yank = nil
	}
	if e.Format != entryFormat || e.Kind != KindDeprecate {
		e.Advice = nil
	}
	if e.Format != entryFormat || e.Kind != KindRoot {
		e.Root = nil
	}
	return e, nil
}

// decodeForeign is decodeEntry for an entry whose unknown parts have the names of
// known ones.
func decodeForeign(data []byte) (Entry, error) {
	var e struct {
		Format    int                `json:"v"`
		Kind      Kind               `json:"kind"`
		Publisher shared.PublisherID `json:"publisher"`
		Time      int64              `json:"time"`
		Release   json.RawMessage    `json:"release"`
		Yank      json.RawMessage    `json:"yank"`
		Advice    json.RawMessage    `json:"advice"`
		Root      json.RawMessage    `json:"root"`
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return Entry{}, err
	}
	entry := Entry{Format: e.Format, Kind: e.Kind, Publisher: e.Publisher, Time: e.Time}
	if e.Format != entryFormat {
		return entry, nil
	}
	var err error
	switch {
	case e.Kind == KindRelease && len(e.Release) > 0:
		err = json.Unmarshal(e.Release, &entry.Release)
	case (e.Kind == KindYank || e.Kind == KindUnyank) && len(e.Yank) > 0:
		err = json.Unmarshal(e.Yank, &entry.Yank)
	case e.Kind == KindDeprecate && len(e.Advice) > 0:
		err = json.Unmarshal(e.Advice, &entry.Advice)
	case e.Kind == KindRoot && len(e.Root) > 0:
		err = json.Unmarshal(e.Root, &entry.Root)
	}
	return entry, err
}

// maxTime is some thousand years ahead, in Unix seconds: package time counts
// without overflow up to there.
const maxTime = 1 << 37

func (e Entry) check() error {
	switch {
	case e.Format < 1:
		return invalid("the entry has no format")
	case !e.Publisher.Complete():
		return invalid("the entry names no publisher")
	case e.Time <= 0 || e.Time > maxTime:
		return invalid("the entry's time %d is not sane", e.Time)
	case e.Kind == "" || len(e.Kind) > 32:
		return invalid("the entry has no kind")
	case e.Format != entryFormat:
		return nil
	}
	switch e.Kind {
	case KindRelease:
		if e.Release == nil {
			return invalid("the release entry has no release")
		}
		return e.Release.check()
	case KindYank, KindUnyank:
		if e.Yank == nil {
			return invalid("the %s entry names no release", e.Kind)
		}
		if err := checkNameVersion(e.Yank.Name, e.Yank.Version); err != nil {
			return err
		}
		return checkText("why", e.Yank.Why, 512)
	case KindDeprecate:
		if e.Advice == nil {
			return invalid("the %s entry names no package", e.Kind)
		}
		return e.Advice.check()
	case KindRoot:
		if e.Root == nil {
			return invalid("the %s entry names no document", e.Kind)
		}
		if e.Root.Version < 2 || e.Root.Version > MaxRoots {
			return invalid("the %s entry names document %d", e.Kind, e.Root.Version)
		}
		if _, err := shared.ParseDigest(string(e.Root.Digest)); err != nil {
			return invalid("the %s entry: %w", e.Kind, err)
		}
	}
	return nil
}
