package telemetry

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.uber.org/goleak"

	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg Config) *Meters {
	t.Helper()
	cfg.State, cfg.Logger = func() State { return State{ActivePeers: 7} }, slog.New(slog.DiscardHandler)
	m, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Close(), m.Close()); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return m
}

func TestWithoutReadersNothingIsKept(t *testing.T) {
	m := open(t, Config{})
	if m.On() {
		t.Error("somebody could read it")
	}
	m.Lookup(t.Context(), "head", true, time.Second)
	m.Propagated(t.Context(), time.Second)
}

func TestOnlyLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:9464": true, "[::1]:9464": true, "localhost:1": true, "localhost": true, "127.8.9.1:1": true,
		"0.0.0.0:9464": false, "[::]:1": false, "192.0.2.1:9464": false, "example.org:80": false, "": false, "localhost.evil.example:1": false,
	} {
		if local(address) != want {
			t.Errorf("%q: %v", address, !want)
		}
	}
	_, err := Open(t.Context(), Config{Addr: "0.0.0.0:0", State: func() State { return State{} }, Logger: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, shared.ReasonInvalidArgument) {
		t.Errorf("an address for everybody: %v", err)
	}
}

func TestATakenAddressIsAnError(t *testing.T) {
	m := open(t, Config{Addr: "127.0.0.1:39464"})
	_ = m
	_, err := Open(t.Context(), Config{Addr: "127.0.0.1:39464", State: func() State { return State{} }, Logger: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, shared.ReasonAddressInUse) {
		t.Errorf("it is taken: %v", err)
	}
}

func TestRatesAreOfTheLastOutcomes(t *testing.T) {
	var r recent
	if _, known := r.share(); known {
		t.Error("a rate of nothing")
	}
	for range 1000 {
		r.note(false)
	}
	for range 128 {
		r.note(true)
	}
	if share, _ := r.share(); share != 0.5 {
		t.Errorf("128 of the last 256 are %v", share)
	}
}

func TestTopicsOfOthersAreOneLabel(t *testing.T) {
	for topic, want := range map[string]string{"/ggen/public/announce/1": "announce", "/ggen/x/peers/1": "peers", "/evil/\x00": "other", "": "other"} {
		if got := topicOf(topic); got != want {
			t.Errorf("%q is %q", topic, got)
		}
	}
}

// read is what Prometheus would read at an address.
func read(t *testing.T, address string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestImpossibleTimesAreLeftOut has two clocks that differ.
func TestImpossibleTimesAreLeftOut(t *testing.T) {
	m := open(t, Config{Addr: "127.0.0.1:39465"})
	for _, took := range []time.Duration{-time.Second, time.Hour, time.Second} {
		m.Propagated(t.Context(), took)
	}
	text := read(t, "127.0.0.1:39465")
	if !strings.Contains(text, "\ngossip_propagation_time_seconds_count 1\n") || !strings.Contains(text, "\nactive_peers 7\n") {
		t.Errorf("it reads\n%s", text)
	}
}

// TestCountersBeginAtZero: a peer that has never got an announcement is what GgenGossipSilent
// is for, and a sum over a series that is not there alarms nobody.
func TestCountersBeginAtZero(t *testing.T) {
	open(t, Config{Addr: "127.0.0.1:39466"})
	text := read(t, "127.0.0.1:39466")
	for _, series := range []string{
		`gossip_messages_received{topic="announce"}`, `gossip_messages_received{topic="peers"}`, `gossip_messages_sent{topic="announce"}`,
		`dht_lookups_total{kind="head",outcome="found"}`, `dht_lookups_total{kind="providers",outcome="missing"}`,
		`cache_hits_total{tier="hot"}`, `cache_misses_total{tier="content"}`, `connection_errors_total{transport="quic"}`,
		`transfer_outcomes_total{kind="wrong-content"}`, `catalogue_updates_total{outcome="refused"}`,
		`transfer_received_bytes_total`, `transfer_sent_bytes_total`,
	} {
		if !strings.Contains(text, "\n"+series+" 0\n") && !strings.Contains(text, "\n"+series+" 0.0\n") {
			t.Errorf("%s is not 0 in\n%s", series, text)
		}
	}
}

// BenchmarkLookup is what a lookup costs to record, off and on.
func BenchmarkLookup(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(map[bool]string{false: "off", true: "on"}[on], func(b *testing.B) {
			cfg := Config{State: func() State { return State{} }, Logger: slog.New(slog.DiscardHandler)}
			if on {
				cfg.Readers = []metric.Reader{metric.NewManualReader()}
			}
			m, err := Open(b.Context(), cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = m.Close() }()
			for b.Loop() {
				m.Lookup(b.Context(), "head", true, time.Millisecond)
			}
		})
	}
}
