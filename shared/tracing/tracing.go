// Package tracing makes spans where the work is done, in the host and in the engine alike.
// They cost some nanoseconds while nobody exports them (package telemetry of shared does,
// if the environment asks for it).
package tracing

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	api "go.opentelemetry.io/otel/trace"

	"ggen.dev/marketplace/shared"
)

// scope is the name under which spans are made.
const scope = "ggen.dev/marketplace"

// Start begins a span below that of ctx. end ends it, with an error that may be nil.
func Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (_ context.Context, end func(error)) {
	ctx, span := otel.Tracer(scope).Start(ctx, name)
	if !span.IsRecording() {
		return ctx, func(error) {}
	}
	span.SetAttributes(attributes...)
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, string(shared.AsError(err).Reason))
			span.RecordError(err)
		}
		span.End()
	}
}

// Below is ctx, with its own end, in the trace of another context.
func Below(ctx, other context.Context) context.Context {
	return api.ContextWithSpanContext(ctx, api.SpanContextFromContext(other))
}

// Note adds to the span of ctx.
func Note(ctx context.Context, attributes ...attribute.KeyValue) {
	if span := api.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attributes...)
	}
}

// Logs adds the IDs of trace and span to records that are logged with the context of one.
func Logs(to slog.Handler) slog.Handler { return logs{to} }

type logs struct{ slog.Handler }

// Handle implements slog.Handler.
func (l logs) Handle(ctx context.Context, r slog.Record) error {
	if s := api.SpanContextFromContext(ctx); s.IsValid() {
		r.AddAttrs(slog.String("trace_id", s.TraceID().String()), slog.String("span_id", s.SpanID().String()))
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l logs) WithAttrs(attrs []slog.Attr) slog.Handler { return logs{l.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (l logs) WithGroup(name string) slog.Handler { return logs{l.Handler.WithGroup(name)} }
