package p2p

import (
	"context"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"ggen.dev/marketplace/p2p/telemetry"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/tracing"
)

// This file is where the engine is measured: what is recorded of lookups, and what can be
// read at any time.

// openMeters comes before everything that is measured.
func (e *Engine) openMeters(ctx context.Context) (err error) {
	e.meters, err = telemetry.Open(ctx, telemetry.Config{
		Addr: e.cfg.MetricsAddr, Readers: e.cfg.MetricReaders, Version: e.cfg.Version, State: e.reading, Logger: e.log,
	})
	if err == nil {
		e.opened(e.meters.Close)
	}
	return err
}

// MeterProvider is for what the engine's process measures of itself.
func (e *Engine) MeterProvider() metric.MeterProvider { return e.meters.Provider() }

// measured adds what counts connections to the options of the network.
func (e *Engine) measured(options []libp2p.Option) []libp2p.Option {
	if !e.meters.On() {
		return options
	}
	return append([]libp2p.Option{libp2p.SwarmOpts(swarm.WithMetricsTracer(e.meters.Connections()))}, options...)
}

// tracer counts announcements; nil: nobody wants to know.
func (e *Engine) tracer() pubsub.RawTracer {
	if !e.meters.On() {
		return nil
	}
	return e.meters.Gossip()
}

// hasSynced is told that the catalogue was compared with a peer's.
func (e *Engine) hasSynced(peer.ID) { e.synced.Store(e.now().UnixMilli()) }

// reading is what a collector reads. While the engine opens and closes there is nothing.
func (e *Engine) reading() telemetry.State {
	s := telemetry.State{ReputationAvg: 0.5, FreeBytes: -1, Synced: e.started}
	if !e.up.Load() {
		return s
	}
	connected := e.node.Connected()
	sum := 0.0
	for _, p := range connected {
		sum += e.reputation.Score(p.String()).Total
	}
	if s.ActivePeers = len(connected); s.ActivePeers > 0 {
		s.ReputationAvg = sum / float64(s.ActivePeers)
	}
	s.Publishers, _ = e.catalog.Count()
	s.Entries, _ = e.catalog.Extent()
	if at := e.synced.Load(); at != 0 {
		s.Synced = time.UnixMilli(at)
	}
	if _, bytes, err := e.store.Usage(); err == nil {
		s.StoreBytes = bytes
	}
	s.FreeBytes = e.store.Free()
	return s
}

// findProviders is the router's Providers, recorded. A search that is left before the first
// answer was not needed, and says nothing.
func (e *Engine) findProviders(ctx context.Context, digest shared.Digest, most int) iter.Seq[peer.AddrInfo] {
	return func(yield func(peer.AddrInfo) bool) {
		ctx, end := tracing.Start(ctx, "dht.providers")
		started, found := time.Now(), 0
		defer func() {
			tracing.Note(ctx, attribute.Int("found", found))
			end(nil)
		}()
		for info := range e.routing.Providers(ctx, digest, most) {
			if found++; found == 1 {
				e.meters.Lookup(ctx, "providers", true, time.Since(started))
			}
			if !yield(info) {
				return
			}
		}
		if found == 0 && ctx.Err() == nil {
			e.meters.Lookup(ctx, "providers", false, 0)
		}
	}
}

// findHeads is the router's Heads, recorded.
func (e *Engine) findHeads(ctx context.Context, id shared.PublisherID) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, end := tracing.Start(ctx, "dht.head")
		started, found := time.Now(), 0
		var failed error
		defer func() { end(failed) }()
		for head, err := range e.routing.Heads(ctx, id) {
			switch {
			case err != nil:
				failed = err
				if ctx.Err() == nil {
					e.meters.Lookup(ctx, "head", false, 0)
				}
			case found == 0:
				e.meters.Lookup(ctx, "head", true, time.Since(started))
				found++
			}
			if !yield(head, err) {
				return
			}
		}
	}
}

// wanted notes whether a package's content was here.
func (e *Engine) wanted(ctx context.Context, here bool) {
	if here {
		e.traffic.hits.Add(1)
	} else {
		e.traffic.misses.Add(1)
	}
	e.meters.Wanted(ctx, "content", here)
}

// outcomeOf is an error's reason for a label, of which there are few.
func outcomeOf(err error) string {
	if err == nil {
		return "done"
	}
	return string(shared.AsError(err).Reason)
}
