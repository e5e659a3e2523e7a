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
// Everything here is pure computation on bytes, except for the key file. Package
// catalog stores logs; packages gossip, routing and replicate carry updates.
package publisher

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

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
	// ErrStale: nothing new; harmless.
	ErrStale = errors.New("stale record")
	// ErrGap: entries between ours and the update's are missing; fetch them.
	ErrGap = errors.New("entries are missing")
)

// invalid makes an ErrInvalid that says why.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
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
	KindRoot      Kind = "root"
	KindBeacon    Kind = "beacon"
)

// Entry is one statement of a publisher. Its exact bytes are what the log
// hashes; they are JSON so that a second implementation is easy.
type Entry struct {
	Format    int                `json:"v"` // 1
	Kind      Kind               `json:"kind"`
	Publisher shared.PublisherID `json:"publisher"`
	Time      int64              `json:"time"` // Unix seconds, the author's clock
	Release   *Release           `json:"release,omitempty"`
	Yank      *Yank              `json:"yank,omitempty"` // of KindYank and KindUnyank
}

// Yank names a release that should not be chosen any more (or again).
type Yank struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Why     string `json:"why,omitempty"`
}

// Encode checks the entry and gives its bytes.
func (e Entry) Encode() ([]byte, error) {
	e.Format = 1
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	if _, err := ParseEntry(data, time.Now()); err != nil {
		return nil, err
	}
	return data, nil
}

// ParseEntry reads and validates an entry. now bounds its time.
func ParseEntry(data []byte, now time.Time) (Entry, error) {
	var e Entry
	if len(data) > MaxEntrySize {
		return e, invalid("the entry has %d bytes; %d are allowed", len(data), MaxEntrySize)
	}
	if !utf8.Valid(data) {
		return e, invalid("the entry is not UTF-8")
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return Entry{}, invalid("entry: %w", err)
	}
	if err := e.check(now); err != nil {
		return Entry{}, err
	}
	return e, nil
}

func (e Entry) check(now time.Time) error {
	switch {
	case e.Format != 1:
		return invalid("entry format %d is not known", e.Format)
	case !e.Publisher.Complete():
		return invalid("the entry names no publisher")
	case e.Time <= 0 || time.Unix(e.Time, 0).After(now.Add(MaxClockSkew)):
		return invalid("the entry's time %d is not sane", e.Time)
	case e.Kind == "" || len(e.Kind) > 32:
		return invalid("the entry has no kind")
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
	}
	return nil
}
