package shared

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Reason tells failures apart that a caller may treat differently. Reasons are
// sent by name, so one that this side does not know stays readable; a name,
// once released, never changes its meaning. The same list is the enum Reason of
// the proto, which a test compares.
type Reason string

// The reasons.
const (
	ReasonInternal         Reason = "INTERNAL"          // a bug on the answering side
	ReasonInvalidArgument  Reason = "INVALID_ARGUMENT"  // the request makes no sense
	ReasonInvalidManifest  Reason = "INVALID_MANIFEST"  // no manifest, or not a valid one; metadata file, line, column
	ReasonInvalidPackage   Reason = "INVALID_PACKAGE"   // a file that a package must not contain; metadata path
	ReasonLimitExceeded    Reason = "LIMIT_EXCEEDED"    // too many or too large; metadata limit, value
	ReasonNotFound         Reason = "NOT_FOUND"         // asked everywhere it could be known, and nobody knows it
	ReasonVersionExists    Reason = "VERSION_EXISTS"    // published before with other content
	ReasonAmbiguous        Reason = "AMBIGUOUS"         // several publishers offer this name
	ReasonUntrusted        Reason = "UNTRUSTED"         // refused by trust policy; metadata pinned, offered
	ReasonIntegrity        Reason = "INTEGRITY"         // bytes do not match their digest or signature
	ReasonModified         Reason = "MODIFIED"          // files in the way have local changes
	ReasonUnsatisfiable    Reason = "UNSATISFIABLE"     // no set of versions fits all requirements
	ReasonLockfile         Reason = "LOCKFILE"          // ggen.lock is unreadable or contradicts the request
	ReasonNoPeers          Reason = "NO_PEERS"          // no other peer is connected
	ReasonUnavailable      Reason = "UNAVAILABLE"       // known, but no peer that is online holds the content
	ReasonPeersFailed      Reason = "PEERS_FAILED"      // peers hold it, and all of them failed
	ReasonTimeout          Reason = "TIMEOUT"           // peers were asked, and none answered in time
	ReasonOffline          Reason = "OFFLINE"           // would need the network, which the request forbade
	ReasonCanceled         Reason = "CANCELED"          // the caller gave up
	ReasonDeadlineExceeded Reason = "DEADLINE_EXCEEDED" // the caller's deadline passed
	ReasonStorageFull      Reason = "STORAGE_FULL"      // disk or quota is full
	ReasonStorage          Reason = "STORAGE"           // a file of the engine cannot be read or written
	ReasonAddressInUse     Reason = "ADDRESS_IN_USE"    // cannot listen where it was told to
	ReasonUnimplemented    Reason = "UNIMPLEMENTED"     // this engine does not know the call
	ReasonEngineNotFound   Reason = "ENGINE_NOT_FOUND"  // no engine binary
	ReasonEngineInvalid    Reason = "ENGINE_INVALID"    // the binary cannot be trusted or is no engine
	ReasonEngineProtocol   Reason = "ENGINE_PROTOCOL"   // no protocol version in common
	ReasonEngineFailed     Reason = "ENGINE_FAILED"     // it did not start, crashed or hung up
	ReasonEngineTimeout    Reason = "ENGINE_TIMEOUT"    // it runs and does not answer
	ReasonEngineDraining   Reason = "ENGINE_DRAINING"   // it is stopping; metadata retry_after_ms
	ReasonEngineCrashing   Reason = "ENGINE_CRASHING"   // it crashed too often to be started again now; metadata retry_after_ms, log
)

// Reasons returns all reasons of this contract version, sorted.
func Reasons() []Reason {
	all := []Reason{
		ReasonInternal, ReasonInvalidArgument, ReasonInvalidManifest, ReasonInvalidPackage, ReasonLimitExceeded,
		ReasonNotFound, ReasonVersionExists, ReasonAmbiguous, ReasonUntrusted, ReasonIntegrity, ReasonModified,
		ReasonUnsatisfiable, ReasonLockfile, ReasonNoPeers, ReasonUnavailable, ReasonPeersFailed, ReasonTimeout,
		ReasonOffline, ReasonCanceled, ReasonDeadlineExceeded, ReasonStorageFull, ReasonStorage,
		ReasonAddressInUse, ReasonUnimplemented, ReasonEngineNotFound, ReasonEngineInvalid, ReasonEngineProtocol,
		ReasonEngineFailed, ReasonEngineTimeout, ReasonEngineDraining, ReasonEngineCrashing,
	}
	slices.Sort(all)
	return all
}

// Error lets a caller compare reasons: errors.Is(err, shared.ReasonNotFound).
func (r Reason) Error() string { return strings.ToLower(strings.ReplaceAll(string(r), "_", " ")) }

// Error is the only error type that crosses the contract. What it carries looks
// the same on both sides of the wire, except its cause, which stays behind.
type Error struct {
	Reason    Reason
	Message   string            // what failed, on what, why; one line
	Hint      string            // what to do next; may be empty
	Retryable bool              // the same call may succeed later
	Metadata  map[string]string // stable keys named at the reasons
	cause     error
}

// NewError makes an error with a formatted message. A %w cause is kept for
// errors.Is and errors.As on this side of the wire.
func NewError(reason Reason, format string, args ...any) *Error {
	formatted := fmt.Errorf(format, args...)
	return &Error{Reason: reason, Message: formatted.Error(), Retryable: retryable[reason], cause: errors.Unwrap(formatted)}
}

// retryable are the reasons whose errors a later try may not meet again.
var retryable = map[Reason]bool{
	ReasonNoPeers: true, ReasonUnavailable: true, ReasonPeersFailed: true, ReasonTimeout: true,
	ReasonEngineFailed: true, ReasonEngineTimeout: true, ReasonEngineDraining: true, ReasonEngineCrashing: true, ReasonDeadlineExceeded: true,
}

// WithHint returns e with its hint set.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// With returns e with one metadata pair added.
func (e *Error) With(key, value string) *Error {
	e.Metadata = maps.Clone(e.Metadata)
	if e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	e.Metadata[key] = value
	return e
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, which is nil for an error that came over the wire.
func (e *Error) Unwrap() error { return e.cause }

// Is matches a [Reason], another [*Error] of the same reason, and the context
// package's errors for the two reasons that stand for them.
func (e *Error) Is(target error) bool {
	switch t := target.(type) {
	case Reason:
		return e.Reason == t
	case *Error:
		return e.Reason == t.Reason
	}
	return target == context.Canceled && e.Reason == ReasonCanceled ||
		target == context.DeadlineExceeded && e.Reason == ReasonDeadlineExceeded
}

// AsError gives any error the contract's shape: nil stays nil, a [*Error] in
// the chain keeps its reason, hint and metadata under the full text of err, the
// context's errors get their reasons, and everything else is INTERNAL.
func AsError(err error) *Error {
	var typed *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &typed):
		if err.Error() == typed.Message { // err is typed itself, or adds nothing to it
			return typed
		}
		wrapped := *typed
		wrapped.Message, wrapped.cause = err.Error(), err
		return &wrapped
	case errors.Is(err, context.Canceled):
		return NewError(ReasonCanceled, "%w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return NewError(ReasonDeadlineExceeded, "%w", err)
	}
	return NewError(ReasonInternal, "%w", err)
}
