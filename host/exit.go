package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"syscall"

	"ggen.dev/marketplace/shared"
)

// exitCode is what the process ends with.
type exitCode int

// The exit codes; scripts rely on them.
const (
	exitDone       exitCode = 0
	exitInternal   exitCode = 1
	exitUsage      exitCode = 2
	exitNotFound   exitCode = 3
	exitTrust      exitCode = 4
	exitIntegrity  exitCode = 5
	exitNetwork    exitCode = 6
	exitResolution exitCode = 7
	exitEngine     exitCode = 8
	exitFindings   exitCode = 9
	exitSignal     exitCode = 128 // plus the signal's number
	exitInterrupt           = exitSignal + exitCode(syscall.SIGINT)
	exitTerminate           = exitSignal + exitCode(syscall.SIGTERM)
)

// exitMeanings explains the codes in --help and docs/CLI.md.
var exitMeanings = []struct {
	code    exitCode
	meaning string
}{
	{exitDone, "done"},
	{exitInternal, "internal error, or the disk failed"},
	{exitUsage, "wrong usage, or wrong input such as a package that cannot be published"},
	{exitNotFound, "not found"},
	{exitTrust, "refused by trust policy"},
	{exitIntegrity, "files or signatures are not what they should be"},
	{exitNetwork, "network; trying again may help"},
	{exitResolution, "versions cannot be resolved, others need the package, or ggen.lock is wrong"},
	{exitEngine, "engine or plugin"},
	{exitFindings, "findings (only with --exit-code)"},
	{exitInterrupt, "interrupted (SIGINT)"},
	{exitTerminate, "terminated (SIGTERM)"},
}

// exitCodes gives every reason of the contract its code. One that a newer engine
// sends and that is not here ends with [exitInternal].
var exitCodes = map[shared.Reason]exitCode{
	shared.ReasonInternal:         exitInternal,
	shared.ReasonStorage:          exitInternal,
	shared.ReasonStorageFull:      exitInternal,
	shared.ReasonInvalidArgument:  exitUsage,
	shared.ReasonInvalidManifest:  exitUsage,
	shared.ReasonInvalidPackage:   exitUsage,
	shared.ReasonLimitExceeded:    exitUsage,
	shared.ReasonVersionExists:    exitUsage,
	shared.ReasonNotFound:         exitNotFound,
	shared.ReasonAmbiguous:        exitTrust,
	shared.ReasonUntrusted:        exitTrust,
	shared.ReasonIntegrity:        exitIntegrity,
	shared.ReasonModified:         exitIntegrity,
	shared.ReasonNoPeers:          exitNetwork,
	shared.ReasonUnavailable:      exitNetwork,
	shared.ReasonPeersFailed:      exitNetwork,
	shared.ReasonTimeout:          exitNetwork,
	shared.ReasonOffline:          exitNetwork,
	shared.ReasonDeadlineExceeded: exitNetwork,
	shared.ReasonUnsatisfiable:    exitResolution,
	shared.ReasonLockfile:         exitResolution,
	shared.ReasonAddressInUse:     exitEngine,
	shared.ReasonUnimplemented:    exitEngine,
	shared.ReasonEngineNotFound:   exitEngine,
	shared.ReasonEngineInvalid:    exitEngine,
	shared.ReasonEngineProtocol:   exitEngine,
	shared.ReasonEngineFailed:     exitEngine,
	shared.ReasonEngineTimeout:    exitEngine,
	shared.ReasonEngineDraining:   exitEngine,
	shared.ReasonEngineCrashing:   exitEngine,
	shared.ReasonCanceled:         exitInterrupt,
}

func codeOf(reason shared.Reason) exitCode {
	if code, known := exitCodes[reason]; known {
		return code
	}
	return exitInternal
}

// signalled is the cause of a context that ended because of a signal.
type signalled struct{ signal os.Signal }

func (s signalled) Error() string { return "interrupted by " + s.signal.String() }

// Is makes it look like any other cancellation to those below.
func (s signalled) Is(target error) bool { return target == context.Canceled }

// finding is a failure whose document has been printed: verify's differences, or
// bootstrap addresses of which none answered.
type finding struct {
	cause *shared.Error
	code  exitCode // 0: that of the cause's reason
}

func (f finding) Error() string { return f.cause.Message }

// Unwrap gives the error itself.
func (f finding) Unwrap() error { return f.cause }

// outcome turns a command's error into what is said and how the process ends.
func outcome(ctx context.Context, err error) (said *shared.Error, printed bool, code exitCode) {
	var signal signalled
	if errors.As(context.Cause(ctx), &signal) {
		said = shared.NewError(shared.ReasonCanceled, "%w", signal)
		if number, ok := signal.signal.(syscall.Signal); ok {
			return said, false, exitSignal + exitCode(number)
		}
		return said, false, exitInterrupt
	}
	var found finding
	if errors.As(err, &found) {
		return found.cause, true, cmp.Or(found.code, codeOf(found.cause.Reason))
	}
	said = shared.AsError(err)
	return said, false, codeOf(said.Reason)
}
