// Package publisher is the language in which publishers speak: what a statement
// looks like, who may make it, and how anybody checks it alone. It is used by
// every part of the engine that stores, forwards or believes what a publisher
// said.
//
// A publisher is a [Chain] of root documents; the SHA-256 of the first one is
// its ID, for good. What it states (releases, yanks, deprecations, new roots)
// are [Entry]s in its append-only Merkle log; a [Head] is its signature under
// the whole log so far. An [Update] is a piece of a log as it travels: the
// roots, a head, some consecutive entries, and the hashes that tie them to the
// head, so that it can be verified without holding the rest of the log. Two
// heads that cannot be heads of one log make an [EquivocationProof].
//
// Everything that was verified has a type of its own which only verification
// makes: [Chain], [Head] and [Verified].
//
// The package does no I/O except for key files. Package p2p/catalog stores logs
// and compares updates with what it holds; p2p/gossip, p2p/replicate and
// p2p/routing move updates as bytes.
package publisher

import (
	"errors"
	"fmt"

	"ggen.dev/marketplace/shared"
)

// Why an update is not taken. ErrInvalid is the fault of whoever sent it; the
// others are not.
var (
	// ErrInvalid: malformed, wrongly signed, or not part of the log it claims.
	ErrInvalid = errors.New("invalid")
	// ErrStale: genuine, and says nothing that is not known.
	ErrStale = errors.New("nothing new")
	// ErrFuture: dated ahead of this node's clock by more than [MaxClockSkew];
	// either clock may be wrong.
	ErrFuture = errors.New("dated in the future")
	// ErrGap is matched by every [*GapError].
	ErrGap = errors.New("entries before it are missing")
	// ErrEquivocation is matched by every [*EquivocationError].
	ErrEquivocation = errors.New("the publisher has contradicted itself")
)

// GapError says that an update continues a log further on than it is held.
type GapError struct {
	Publisher shared.PublisherID
	Need      int64 // index of the first entry that is missing
}

// Error names the publisher and the first missing entry.
func (e *GapError) Error() string {
	return fmt.Sprintf("log of publisher %s: %v: entry %d is needed first", e.Publisher.Short(), ErrGap, e.Need)
}

// Is matches [ErrGap].
func (e *GapError) Is(target error) bool { return target == ErrGap }

// EquivocationError says that a publisher has signed two heads that cannot
// belong to one log, and proves it.
type EquivocationError struct {
	Publisher shared.PublisherID
	Proof     *EquivocationProof
}

// Error names the publisher.
func (e *EquivocationError) Error() string {
	return fmt.Sprintf("log of publisher %s: %v", e.Publisher.Short(), ErrEquivocation)
}

// Is matches [ErrEquivocation], and the contract's INTEGRITY.
func (e *EquivocationError) Is(target error) bool {
	return target == ErrEquivocation || target == shared.ReasonIntegrity
}

// invalidf makes an INTEGRITY error that matches [ErrInvalid].
func invalidf(format string, args ...any) error {
	return shared.NewError(shared.ReasonIntegrity, "%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
