// Package telemetry exports what a process traces, of the host and of the engine alike; as
// W3C trace context in the metadata of gRPC calls, a trace crosses the boundary between the two.
//
// It is off unless the environment asks for it by OpenTelemetry's variables
// (OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT, …): then
// nothing is made. Spans are made with package tracing; what is measured is the engine's
// business alone.
package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"ggen.dev/marketplace/shared"
)

// Wanted tells whether the environment asks for a signal, "TRACES" or "METRICS".
func Wanted(signal string) bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return false
	}
	if exporter, set := os.LookupEnv("OTEL_" + signal + "_EXPORTER"); set {
		return exporter != "none"
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// Tracing tells whether the environment asks for traces.
func Tracing() bool { return Wanted("TRACES") }

// newExporter makes what sends spans, as the environment says. It knows less ways than
// OpenTelemetry's own package for this, which would make every command 0.8 ms slower.
func newExporter(ctx context.Context) (trace.SpanExporter, error) {
	switch name := cmp.Or(os.Getenv("OTEL_TRACES_EXPORTER"), "otlp"); name {
	case "otlp":
	case "console":
		return stdouttrace.New(stdouttrace.WithWriter(os.Stderr))
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q, and neither otlp nor console nor none", name)
	}
	switch protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"); protocol {
	case "grpc":
		return otlptracegrpc.New(ctx)
	case "http/protobuf":
		return otlptracehttp.New(ctx)
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q, and neither grpc nor http/protobuf", protocol)
	}
}

func refused(what string, err error) error {
	if err == nil {
		return nil
	}
	return shared.NewError(shared.ReasonInvalidArgument, "%s: %w", what, err).WithHint("look at the OTEL_… variables of the environment")
}

// closeTimeout bounds the export of the last spans.
const closeTimeout = 2 * time.Second

// Traces makes the process export its traces, if the environment asks for it, until done is
// called, which waits 2 s at most for those that are not sent. Call it once, before
// anything is traced. Errors: INVALID_ARGUMENT for an environment that no exporter can be
// made of; done can be called all the same.
func Traces(ctx context.Context, service, version string) (done func(), err error) {
	if !Tracing() {
		return func() {}, nil
	}
	exporter, err := newExporter(ctx)
	if err != nil {
		return func() {}, refused("trace exporter", err)
	}
	res, err := resource.Merge(resource.Default(), resource.NewSchemaless(semconv.ServiceName(service), semconv.ServiceVersion(version)))
	if err != nil {
		res = resource.Default()
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(res))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) // a collector that is gone must not write to anybody's terminal
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = provider.Shutdown(ctx) // what is not sent by now is lost, and nobody can be told
	}, nil
}

// FromEnvironment is ctx below the span that TRACEPARENT names, if there is one: then the
// command is a part of what called it.
func FromEnvironment(ctx context.Context) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": os.Getenv("TRACEPARENT"), "tracestate": os.Getenv("TRACESTATE")})
}
