package telemetry

import (
	"context"
	"errors"
	"strings"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments are what is recorded when it happens.
type instruments struct {
	dhtLookups       metric.Int64Counter
	dhtDuration      metric.Float64Histogram
	gossipSent       metric.Int64Counter
	gossipReceived   metric.Int64Counter
	gossipTime       metric.Float64Histogram
	cacheHits        metric.Int64Counter
	cacheMisses      metric.Int64Counter
	connectionErrors metric.Int64Counter
	connections      metric.Int64UpDownCounter

	transfers    metric.Float64Histogram
	transferOuts metric.Int64Counter
	received     metric.Int64Counter
	sent         metric.Int64Counter
	applied      metric.Int64Counter
}

// The buckets end where the figures that are aimed at and the alerts' thresholds are.
var (
	lookupBuckets   = []float64{.005, .01, .02, .03, .05, .08, .1, .15, .2, .3, .5, 1, 2, 5, 10}
	gossipBuckets   = []float64{.01, .03, .05, .1, .15, .2, .3, .5, 1, 2, 5, 15, 60, 300}
	transferBuckets = []float64{.005, .01, .03, .1, .3, 1, 3, 10, 30, 100, 300}
)

func newInstruments(ctx context.Context, m metric.Meter) (i instruments, err error) {
	var errs []error
	counter := func(name, unit, what string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
		return c
	}
	histogram := func(name, what string, buckets []float64) metric.Float64Histogram {
		h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(what), metric.WithExplicitBucketBoundaries(buckets...))
		errs = append(errs, err)
		return h
	}
	i = instruments{
		dhtLookups:       counter("dht_lookups_total", "{lookup}", "Lookups in the DHT, by kind (head, providers) and outcome (found, missing)."),
		dhtDuration:      histogram("dht_lookup_duration_seconds", "Time from the beginning of a lookup to its first verified answer, by kind.", lookupBuckets),
		gossipSent:       counter("gossip_messages_sent", "{message}", "Announcements handed to neighbours, own ones and others', by topic."),
		gossipReceived:   counter("gossip_messages_received", "{message}", "Announcements that came from neighbours, duplicates included, by topic."),
		gossipTime:       histogram("gossip_propagation_time_seconds", "Time from the signing of a head to its arrival here by gossip, by both clocks.", gossipBuckets),
		cacheHits:        counter("cache_hits_total", "{request}", "What was wanted and here, by tier."),
		cacheMisses:      counter("cache_misses_total", "{request}", "What was wanted and had to be fetched, by tier."),
		connectionErrors: counter("connection_errors_total", "{error}", "Addresses of peers that could not be dialled, by transport."),
		transfers:        histogram("transfer_duration_seconds", "Time to fetch the content of one package, by outcome (done, or the reason of the error).", transferBuckets),
		transferOuts:     counter("transfer_outcomes_total", "{dealing}", "How dealing with peers went, by kind (delivered, absent, busy, unreachable, disconnected, stalled, malformed, wrong-content)."),
		received:         counter("transfer_received_bytes_total", "By", "Verified content from peers."),
		sent:             counter("transfer_sent_bytes_total", "By", "Content that was read for peers."),
		applied:          counter("catalogue_updates_total", "{update}", "Updates of publishers' logs, by outcome (applied, refused)."),
	}
	i.connections, err = m.Int64UpDownCounter("connections", metric.WithUnit("{connection}"), metric.WithDescription("Open connections, by direction and transport."))
	if err := errors.Join(append(errs, err)...); err != nil {
		return i, err
	}
	i.begin(ctx)
	return i, nil
}

// begin shows the counters before anything has happened. One that appears with its first event
// hides that event from a rate, and an alert for what never happens is about a series
// that is not there.
func (i *instruments) begin(ctx context.Context) {
	for _, c := range []struct {
		counter metric.Int64Counter
		key     string
		values  []string
	}{
		{i.gossipSent, "topic", topics},
		{i.gossipReceived, "topic", topics},
		{i.cacheHits, "tier", tiers},
		{i.cacheMisses, "tier", tiers},
		{i.connectionErrors, "transport", []string{"quic", "tcp", "relay"}},
		{i.transferOuts, "kind", kinds},
		{i.applied, "outcome", []string{"applied", "refused"}},
	} {
		for _, value := range c.values {
			c.counter.Add(ctx, 0, label(c.key, value))
		}
	}
	for _, kind := range []string{"head", "providers"} {
		for _, outcome := range []string{"found", "missing"} {
			i.dhtLookups.Add(ctx, 0, metric.WithAttributes(attribute.String("kind", kind), attribute.String("outcome", outcome)))
		}
	}
	i.received.Add(ctx, 0)
	i.sent.Add(ctx, 0)
}

// tiers are those of the cache for what is looked up, and the store of packages. kinds are
// how dealing with a peer goes.
var (
	tiers = []string{"hot", "warm", "cold", "content"}
	kinds = []string{"delivered", "absent", "busy", "unreachable", "disconnected", "stalled", "malformed", "wrong-content"}
)

// observe registers what is read at every collection.
func (m *Meters) observe(meter metric.Meter, state func() State) error {
	var errs []error
	gauge := func(name, unit, what string) metric.Float64ObservableGauge {
		g, err := meter.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
		return g
	}
	success := gauge("dht_success_rate", "1", "Share of the last 256 lookups that found something.")
	hits := gauge("cache_hit_rate", "1", "Share of the last 256 packages that were wanted and already here.")
	active := gauge("active_peers", "{peer}", "Connected peers.")
	average := gauge("peer_reputation_avg", "1", "Average reputation of the connected peers; 0.5 is a stranger's.")
	entries := gauge("catalogue_entries", "{entry}", "Entries of all publishers' logs.")
	publishers := gauge("catalogue_publishers", "{publisher}", "Publishers that are known.")
	age := gauge("catalogue_sync_age_seconds", "s", "Time since the catalogue was last compared with another peer's.")
	stored := gauge("store_bytes", "By", "Content that is kept.")
	free := gauge("store_free_bytes", "By", "Room on the disk that keeps it.")
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := state()
		if share, ok := m.lookups.share(); ok {
			o.ObserveFloat64(success, share)
		}
		if share, ok := m.wanted.share(); ok {
			o.ObserveFloat64(hits, share)
		}
		o.ObserveFloat64(active, float64(s.ActivePeers))
		o.ObserveFloat64(average, s.ReputationAvg)
		o.ObserveFloat64(entries, float64(s.Entries))
		o.ObserveFloat64(publishers, float64(s.Publishers))
		o.ObserveFloat64(age, time.Since(s.Synced).Seconds())
		o.ObserveFloat64(stored, float64(s.StoreBytes))
		if s.FreeBytes >= 0 {
			o.ObserveFloat64(free, float64(s.FreeBytes))
		}
		return nil
	}, success, hits, active, average, entries, publishers, age, stored, free)
	return errors.Join(append(errs, err)...)
}

// Lookup records a lookup in the DHT that ran to its first answer, or found nothing.
func (m *Meters) Lookup(ctx context.Context, kind string, found bool, took time.Duration) {
	if !m.on {
		return
	}
	outcome := "missing"
	if found {
		outcome = "found"
		m.dhtDuration.Record(ctx, took.Seconds(), label("kind", kind))
	}
	m.lookups.note(found)
	m.dhtLookups.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", kind), attribute.String("outcome", outcome)))
}

// maxPropagation bounds what is believed of two clocks.
const maxPropagation = 10 * time.Minute

// Propagated records how long an announcement was under way. What cannot be, since one of
// two clocks is wrong, is left out.
func (m *Meters) Propagated(ctx context.Context, took time.Duration) {
	if m.on && took >= 0 && took <= maxPropagation {
		m.gossipTime.Record(ctx, took.Seconds())
	}
}

// Wanted records whether something that was wanted was in a tier of the cache. Only
// packages, of the tier "content", count for the rate.
func (m *Meters) Wanted(ctx context.Context, tier string, here bool) {
	if !m.on {
		return
	}
	if tier == "content" {
		m.wanted.note(here)
	}
	if here {
		m.cacheHits.Add(ctx, 1, label("tier", tier))
	} else {
		m.cacheMisses.Add(ctx, 1, label("tier", tier))
	}
}

// Transferred records a package's download.
func (m *Meters) Transferred(ctx context.Context, outcome string, took time.Duration) {
	if !m.on {
		return
	}
	m.transfers.Record(ctx, took.Seconds(), label("outcome", outcome))
}

// Dealt records how dealing with a peer went, and what it sent.
func (m *Meters) Dealt(kind string, bytes int64) {
	if !m.on {
		return
	}
	m.transferOuts.Add(m.ctx, 1, label("kind", kind))
	m.received.Add(m.ctx, bytes)
}

// Served records content that was read for a peer.
func (m *Meters) Served(bytes int64) {
	if !m.on {
		return
	}
	m.sent.Add(m.ctx, bytes)
}

// Updated records an update of a log.
func (m *Meters) Updated(applied bool) {
	if !m.on {
		return
	}
	outcome := "refused"
	if applied {
		outcome = "applied"
	}
	m.applied.Add(m.ctx, 1, label("outcome", outcome))
}

// topics are the kinds of announcements that there are.
var topics = []string{"announce", "peers"}

// topicOf is a topic's kind; what others make up is all one.
func topicOf(topic string) string {
	for _, kind := range topics {
		if strings.HasSuffix(topic, "/"+kind+"/1") {
			return kind
		}
	}
	return "other"
}

// Gossip counts messages; see pubsub.WithRawTracer.
func (m *Meters) Gossip() pubsub.RawTracer { return gossipTracer{m: m} }

// gossipTracer counts messages.
type gossipTracer struct{ m *Meters }

func (t gossipTracer) count(c metric.Int64Counter, rpc *pubsub.RPC) {
	for _, message := range rpc.GetPublish() {
		c.Add(t.m.ctx, 1, label("topic", topicOf(message.GetTopic())))
	}
}

// SendRPC implements pubsub.RawTracer, as all below do.
func (t gossipTracer) SendRPC(rpc *pubsub.RPC, _ peer.ID) { t.count(t.m.gossipSent, rpc) }

// RecvRPC counts what came.
func (t gossipTracer) RecvRPC(rpc *pubsub.RPC) { t.count(t.m.gossipReceived, rpc) }

// OnNewOutboundStream is not counted.
func (gossipTracer) OnNewOutboundStream(peer.ID, protocol.ID) {}

// OnClosedOutboundStream is not counted.
func (gossipTracer) OnClosedOutboundStream(peer.ID) {}

// Join is not counted.
func (gossipTracer) Join(string) {}

// Leave is not counted.
func (gossipTracer) Leave(string) {}

// Graft is not counted.
func (gossipTracer) Graft(peer.ID, string) {}

// Prune is not counted.
func (gossipTracer) Prune(peer.ID, string) {}

// ValidateMessage is not counted.
func (gossipTracer) ValidateMessage(*pubsub.Message) {}

// DeliverMessage is not counted.
func (gossipTracer) DeliverMessage(*pubsub.Message) {}

// RejectMessage is not counted.
func (gossipTracer) RejectMessage(*pubsub.Message, string) {}

// DuplicateMessage is not counted.
func (gossipTracer) DuplicateMessage(*pubsub.Message) {}

// ThrottlePeer is not counted.
func (gossipTracer) ThrottlePeer(peer.ID) {}

// SendRPCCompleted is not counted.
func (gossipTracer) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}

// DropRPC is not counted.
func (gossipTracer) DropRPC(*pubsub.RPC, peer.ID) {}

// UndeliverableMessage is not counted.
func (gossipTracer) UndeliverableMessage(*pubsub.Message) {}

// Connections counts connections and addresses that cannot be dialled; see
// swarm.WithMetricsTracer.
func (m *Meters) Connections() swarm.MetricsTracer { return swarmTracer{m} }

type swarmTracer struct{ m *Meters }

// transportOf is what an address is dialled by.
func transportOf(addr ma.Multiaddr) string {
	for _, p := range []struct {
		code int
		name string
	}{{ma.P_CIRCUIT, "relay"}, {ma.P_QUIC_V1, "quic"}, {ma.P_WS, "websocket"}, {ma.P_TCP, "tcp"}} {
		if addr != nil {
			if _, err := addr.ValueForProtocol(p.code); err == nil {
				return p.name
			}
		}
	}
	return "other"
}

func (t swarmTracer) add(n int64, d network.Direction, addr ma.Multiaddr) {
	t.m.connections.Add(t.m.ctx, n, metric.WithAttributes(
		attribute.String("direction", strings.ToLower(d.String())), attribute.String("transport", transportOf(addr))))
}

// OpenedConnection implements swarm.MetricsTracer, as all below do.
func (t swarmTracer) OpenedConnection(d network.Direction, _ crypto.PubKey, _ network.ConnectionState, addr ma.Multiaddr) {
	t.add(1, d, addr)
}

// ClosedConnection counts down.
func (t swarmTracer) ClosedConnection(d network.Direction, _ time.Duration, _ network.ConnectionState, addr ma.Multiaddr) {
	t.add(-1, d, addr)
}

// FailedDialing counts an address that cannot be dialled. One that was given up because
// another one of the same peer has answered is no error.
func (t swarmTracer) FailedDialing(addr ma.Multiaddr, err, cause error) {
	if errors.Is(cause, context.Canceled) || errors.Is(err, context.Canceled) {
		return
	}
	t.m.connectionErrors.Add(t.m.ctx, 1, label("transport", transportOf(addr)))
}

// CompletedHandshake is not counted.
func (swarmTracer) CompletedHandshake(time.Duration, network.ConnectionState, ma.Multiaddr) {}

// DialCompleted is not counted.
func (swarmTracer) DialCompleted(bool, int, time.Duration) {}

// DialRankingDelay is not counted.
func (swarmTracer) DialRankingDelay(time.Duration) {}

// UpdatedBlackHoleSuccessCounter is not counted.
func (swarmTracer) UpdatedBlackHoleSuccessCounter(string, swarm.BlackHoleState, int, float64) {}
