package rpc

import (
	"context"
	"errors"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

// errorDomain marks the ErrorInfo that is ours among details of others.
const errorDomain = "ggen.marketplace"

// Keys of the ErrorInfo's metadata for what is not the error's own metadata.
const (
	keyHint      = "ggen-hint"
	keyRetryable = "ggen-retryable"
)

// maxErrorText bounds each text of an error on the wire. gRPC breaks the whole
// connection over details of about 8 MiB, and its headers hold the message twice.
const maxErrorText = 16 << 10

// maxManifest bounds the normal form of a manifest on the wire, and what is signed:
// with a manifest of the largest size they fit into one message.
const maxManifest = 320 << 10

// maxFinding bounds each text of a finding on the wire; a receipt has up to 100.
const maxFinding = 4 << 10

// maxErrorPairs bounds the metadata of an error on the wire.
const maxErrorPairs = 32

// codeOf gives a reason the gRPC code that fits best, for tools that know no
// reasons. The way back never looks at it when a reason was sent.
func codeOf(reason shared.Reason) codes.Code {
	switch reason {
	case shared.ReasonInvalidArgument, shared.ReasonInvalidManifest, shared.ReasonInvalidPackage:
		return codes.InvalidArgument
	case shared.ReasonNotFound, shared.ReasonEngineNotFound:
		return codes.NotFound
	case shared.ReasonVersionExists:
		return codes.AlreadyExists
	case shared.ReasonUntrusted, shared.ReasonAmbiguous:
		return codes.PermissionDenied
	case shared.ReasonLimitExceeded, shared.ReasonStorageFull:
		return codes.ResourceExhausted
	case shared.ReasonUnsatisfiable, shared.ReasonLockfile, shared.ReasonModified, shared.ReasonOffline, shared.ReasonAddressInUse,
		shared.ReasonEngineInvalid, shared.ReasonEngineProtocol:
		return codes.FailedPrecondition
	case shared.ReasonIntegrity, shared.ReasonStorage:
		return codes.DataLoss
	case shared.ReasonNoPeers, shared.ReasonUnavailable, shared.ReasonPeersFailed, shared.ReasonTimeout,
		shared.ReasonEngineFailed, shared.ReasonEngineTimeout, shared.ReasonEngineDraining, shared.ReasonEngineCrashing:
		return codes.Unavailable
	case shared.ReasonCanceled:
		return codes.Canceled
	case shared.ReasonDeadlineExceeded:
		return codes.DeadlineExceeded
	case shared.ReasonUnimplemented:
		return codes.Unimplemented
	case shared.ReasonInternal:
		return codes.Internal
	}
	return codes.Unknown
}

// toStatus turns an error into what goes over the wire; nil stays nil, and no
// error ever becomes a status OK.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	e := shared.AsError(err)
	info := &errdetails.ErrorInfo{Reason: string(e.Reason), Domain: errorDomain, Metadata: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		if len(info.Metadata) == maxErrorPairs {
			break
		}
		info.Metadata[clean(key, 256)] = clean(e.Metadata[key], maxErrorText/8)
	}
	if e.Hint != "" {
		info.Metadata[keyHint] = clean(e.Hint, maxErrorText)
	}
	info.Metadata[keyRetryable] = strconv.FormatBool(e.Retryable)
	st := status.New(codeOf(e.Reason), clean(e.Message, maxErrorText))
	if detailed, detailErr := st.WithDetails(info); detailErr == nil {
		st = detailed
	}
	return st.Err()
}

// clean makes a text that protocol buffers accept, of at most most bytes.
func clean(text string, most int) string {
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// fromStatus turns what came over the wire back into a [*shared.Error]; nil stays
// nil. ctx is the call's: when it has ended, that is the error, whatever raced in.
func fromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var typed *shared.Error
	if errors.As(err, &typed) { // made on this side
		return typed
	}
	st, ok := status.FromError(err)
	if !ok {
		return shared.AsError(err)
	}
	if e := decode(st); e != nil {
		return e
	}
	if st.Code() == codes.Canceled || st.Code() == codes.DeadlineExceeded {
		awaitDeadline(ctx)
		if ctxErr := ctx.Err(); ctxErr != nil {
			return shared.AsError(ctxErr)
		}
	}
	return withoutReason(st)
}

// deadlineSkew is how far apart the two ends of a connection may see a deadline pass.
const deadlineSkew = time.Second

// awaitDeadline waits for a deadline that is about to pass: the engine knows it too,
// and its end of the call may have hung up a moment earlier.
func awaitDeadline(ctx context.Context) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < deadlineSkew {
		<-ctx.Done()
	}
}

// decode reads our ErrorInfo among the details, of which there may be others and
// some that nobody here knows. It returns nil when there is none.
func decode(st *status.Status) *shared.Error {
	for _, detail := range st.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != errorDomain || info.GetReason() == "" {
			continue
		}
		e := shared.NewError(shared.Reason(info.GetReason()), "%s", st.Message())
		e.Retryable = false
		for key, value := range info.GetMetadata() {
			switch key {
			case keyHint:
				e.Hint = value
			case keyRetryable:
				e.Retryable, _ = strconv.ParseBool(value) // anything else means no
			default:
				e = e.With(key, value)
			}
		}
		return e
	}
	return nil
}

// withoutReason judges a status that no engine of ours made: gRPC itself did,
// because the connection broke, a limit was exceeded or a call is not known.
func withoutReason(st *status.Status) *shared.Error {
	reason := shared.ReasonInternal
	switch st.Code() {
	case codes.Unavailable:
		reason = shared.ReasonEngineFailed
	case codes.Unimplemented:
		reason = shared.ReasonUnimplemented
	case codes.Canceled:
		reason = shared.ReasonCanceled
	case codes.DeadlineExceeded:
		reason = shared.ReasonDeadlineExceeded
	case codes.ResourceExhausted:
		reason = shared.ReasonLimitExceeded
	}
	e := shared.NewError(reason, "engine: %s", st.Message())
	switch reason {
	case shared.ReasonEngineFailed:
		return e.WithHint("the engine ended or hung up during the call; run the command again, it starts a new one").With("connection", clean(st.Message(), 1<<10))
	case shared.ReasonUnimplemented:
		return e.WithHint("this engine is older than ggen: install a newer one")
	}
	return e
}

// toErrorPB and fromErrorPB carry an error that is part of a result.
func toErrorPB(e *shared.Error) *marketpb.Error {
	if e == nil {
		return nil
	}
	pb := &marketpb.Error{Reason: string(e.Reason), Message: clean(e.Message, maxErrorText), Hint: clean(e.Hint, maxErrorText), Retryable: e.Retryable}
	for key, value := range e.Metadata {
		if pb.Metadata == nil {
			pb.Metadata = map[string]string{}
		}
		pb.Metadata[clean(key, 256)] = clean(value, maxErrorText)
	}
	return pb
}

func fromErrorPB(pb *marketpb.Error) *shared.Error {
	if pb == nil {
		return nil
	}
	e := shared.NewError(shared.Reason(pb.GetReason()), "%s", pb.GetMessage())
	e.Hint, e.Retryable, e.Metadata = pb.GetHint(), pb.GetRetryable(), pb.GetMetadata()
	return e
}

// recoverer turns panics in handlers into errors.
type recoverer struct {
	panicked func(method string, value any, stack []byte)
}

func (r recoverer) failed(method string, value any) error {
	r.panicked(method, value, debug.Stack())
	return toStatus(shared.NewError(shared.ReasonInternal, "the engine failed in %s: %v", method, value).
		WithHint("this is a bug in the engine; its log and the folder crash in its home have the details"))
}

func (r recoverer) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = r.failed(info.FullMethod, value)
		}
	}()
	return handler(ctx, req)
}

func (r recoverer) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = r.failed(info.FullMethod, value)
		}
	}()
	return handler(srv, stream)
}

// Status is the wire's form of an error, for interceptors of a server.
func Status(err error) error { return toStatus(err) }
