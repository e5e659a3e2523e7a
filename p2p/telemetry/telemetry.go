// Package telemetry owns the engine's metrics: their names, what they are recorded with,
// and where they can be read. Without a listener and without a reader nothing
// is kept, and recording costs a call of an empty function.
//
// It knows nothing of what it measures: the engine calls it, and hands in what can be
// read at any time ([Config.State]). Names are those of the design, section 5, and are the
// same at the Prometheus endpoint and over OTLP. Labels have few values, all of them from
// this program: never a peer, a package, or anything else that others choose.
//
// Traces are no business of it: they are made where the work is done, by package tracing of
// shared.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"ggen.dev/marketplace/shared"
)

// scope is the name of the instruments' library.
const scope = "ggen.dev/marketplace/p2p"

// State is what can be read at any time.
type State struct {
	ActivePeers   int       // connected
	ReputationAvg float64   // of connected peers, 0 to 1; 0.5 without any
	Entries       int64     // of the catalogue
	Publishers    int       // known
	Synced        time.Time // when catalogues were last exchanged with anybody
	StoreBytes    int64     // content that is kept
	FreeBytes     int64     // of the disk that keeps it; negative: not known
}

// Config describes a [Meters].
type Config struct {
	// Addr is the loopback address, host:port, at which metrics can be read. Empty: none.
	Addr string
	// Readers read them, too, and are closed with the meters.
	Readers []sdk.Reader
	// Version is the program's.
	Version string
	// State is called at every collection, concurrently. Required.
	State func() State
	// Logger is told what happens. Required.
	Logger *slog.Logger
}

// Meters are the engine's instruments. The methods may be called concurrently.
type Meters struct {
	provider metric.MeterProvider
	on       bool
	ctx      context.Context // of what happens in no call; never ends
	close    []func() error
	once     sync.Once
	closed   error

	instruments
	lookups, wanted recent
}

// Open makes the instruments, and the listener that they are read by.
// ctx bounds
// nothing. Errors: INVALID_ARGUMENT for an address that others can reach, ADDRESS_IN_USE.
func Open(ctx context.Context, cfg Config) (m *Meters, err error) {
	m = &Meters{provider: noop.NewMeterProvider(), ctx: context.WithoutCancel(ctx)}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	var options []sdk.Option
	for _, reader := range cfg.Readers {
		options = append(options, sdk.WithReader(reader))
	}
	if cfg.Addr != "" {
		reader, err := m.listen(ctx, cfg)
		if err != nil {
			return m, err
		}
		options = append(options, sdk.WithReader(reader))
	}
	if len(options) > 0 {
		res, err := resource.Merge(resource.Default(), resource.NewSchemaless(semconv.ServiceName("ggen-engine"), semconv.ServiceVersion(cfg.Version)))
		if err != nil {
			return m, fmt.Errorf("telemetry: %w", err)
		}
		provider := sdk.NewMeterProvider(append(options, sdk.WithResource(res))...)
		m.provider, m.on = provider, true
		m.close = append(m.close, func() error {
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			if err := provider.Shutdown(ending); err != nil { // a collector that is gone must not fail anything
				cfg.Logger.Info("send the last metrics", "error", err)
			}
			return nil
		})
	}
	meter := m.provider.Meter(scope, metric.WithInstrumentationVersion(cfg.Version))
	if m.instruments, err = newInstruments(ctx, meter); err != nil {
		return m, fmt.Errorf("telemetry: %w", err)
	}
	return m, m.observe(meter, cfg.State)
}

// closeTimeout bounds the export of what was measured last.
const closeTimeout = 2 * time.Second

// On tells whether anybody can read what is recorded.
func (m *Meters) On() bool { return m.on }

// Provider is for libraries that have metrics of their own.
func (m *Meters) Provider() metric.MeterProvider { return m.provider }

// listen serves the metrics to Prometheus.
func (m *Meters) listen(ctx context.Context, cfg Config) (sdk.Reader, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
	}
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithoutSuffixes), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, shared.NewError(shared.ReasonAddressInUse, "serve metrics at %s: %w", cfg.Addr, err).
			WithHint("give another --metrics-addr, or leave it out")
	}
	if !local(listener.Addr().String()) {
		return nil, errors.Join(shared.NewError(shared.ReasonInvalidArgument, "metrics address %s: others could reach it", cfg.Addr).
			WithHint("write 127.0.0.1:9464, and let a collector on this machine read it"), listener.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", onlyLocal(promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cfg.Logger.Error("metrics can no longer be read", "error", err)
		}
	}()
	m.close = append(m.close, func() error {
		err := server.Close()
		<-done
		return err
	})
	return reader, nil
}

// local tells whether an address, host:port, is this machine's alone.
func local(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// onlyLocal refuses requests that were made under another name: a page in a browser can have
// its own name point to this machine, and read what it answers.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r.Host) {
			http.Error(w, "only for this machine", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Close sends what was measured last, and stops serving. It is idempotent.
func (m *Meters) Close() error {
	m.once.Do(func() {
		var errs []error
		for i := len(m.close) - 1; i >= 0; i-- {
			errs = append(errs, m.close[i]())
		}
		m.closed = errors.Join(errs...)
	})
	return m.closed
}

// recent is the share of successes among the last outcomes.
type recent struct {
	mu   sync.Mutex // guards the fields below
	last [256]bool
	next int
	many int
}

func (r *recent) note(success bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[r.next] = success
	r.next = (r.next + 1) % len(r.last)
	r.many = min(r.many+1, len(r.last))
}

// share is 0 to 1; false while there was no outcome.
func (r *recent) share() (float64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	good := 0
	for _, success := range r.last[:r.many] {
		if success {
			good++
		}
	}
	return float64(good) / float64(max(r.many, 1)), r.many > 0
}

func label(key, value string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String(key, value)))
}
