package e2e

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// peerHome is a home of a peer in this test, and its environment.
type peerHome struct {
	t    *testing.T
	home string
	env  []string
}

// newPeer is a peer whose engine is stopped at the end.
func newPeer(t *testing.T, env ...string) peerHome {
	t.Helper()
	dir, err := os.MkdirTemp("", "gg") // sockets need short paths
	if err != nil {
		t.Fatal(err)
	}
	p := peerHome{t, dir, append(env, "GGEN_HOME="+dir, "NO_COLOR=1", "GGEN_P2P_LISTEN=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1", "GGEN_P2P_MDNS=false")}
	t.Cleanup(func() {
		p.run("p2p", "stop")
		_ = os.RemoveAll(dir)
	})
	return p
}

// run runs `ggen marketplace` and returns what it prints.
func (p peerHome) run(args ...string) string {
	p.t.Helper()
	out, problems, err := p.try(args...)
	if err != nil {
		p.t.Fatalf("%v: %v\n%s%s", args, err, out, problems)
	}
	return out
}

// try runs a command that may fail.
func (p peerHome) try(args ...string) (out, problems string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "ggen"), append([]string{"marketplace"}, args...)...)
	cmd.Env = append(os.Environ(), p.env...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

// address is where the peer listens.
func (p peerHome) address() string {
	p.t.Helper()
	return regexp.MustCompile(`/ip4/127\.0\.0\.1/tcp/\d+/p2p/\w+`).FindString(p.run("p2p", "status", "--json"))
}

// author makes and publishes a package of that name.
func (p peerHome) author(name string) {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), name)
	if err := os.MkdirAll(filepath.Join(dir, "templates"), 0o755); err != nil {
		p.t.Fatal(err)
	}
	for file, text := range map[string]string{
		"package.toml":     fmt.Sprintf("[package]\nname = %q\nversion = \"1.0.0\"\ndescription = \"a test\"\n", name),
		"templates/a.tmpl": strings.Repeat("a line of a template\n", 50),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	p.run("publish", dir)
}

// installs installs a package as soon as it is known.
func (p peerHome) installs(name string) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(p.run("search", "--json"), name); {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not arrive", name)
		}
		<-time.After(20 * time.Millisecond)
	}
	p.run("install", name, "--trust", "--project", p.t.TempDir())
}

// freeAddress is one that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func scrape(t *testing.T, address string) string {
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
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", response.Status, err)
	}
	return string(text)
}

// families are the names of metrics, as in DESIGN section 5.
var families = []string{
	"dht_lookups_total", "dht_lookup_duration_seconds", "dht_success_rate", "gossip_messages_sent", "gossip_messages_received",
	"gossip_propagation_time_seconds", "cache_hits_total", "cache_misses_total", "cache_hit_rate", "active_peers", "peer_reputation_avg", "connection_errors_total",
}

// TestMetrics scrapes the engine of a peer that has published, looked up and fetched.
func TestMetrics(t *testing.T) {
	author, address := newPeer(t), freeAddress(t)
	author.run("p2p", "start")
	user := newPeer(t)
	// Nobody listens at the second one.
	user.run("p2p", "start", "--metrics-addr", address, "--bootstrap", author.address(), "--bootstrap", "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWJAHQ326q6AjuZwPcnSV3a2gNb5i98pLFSPZYqbt4RtWf")
	user.author("own-work")
	author.author("measured-package")
	user.installs("measured-package")
	user.installs("measured-package")

	var text string
	shown := map[string]bool{}
	for deadline := time.Now().Add(time.Minute); ; {
		text = scrape(t, address)
		missing := slices.DeleteFunc(slices.Clone(families), func(name string) bool { return regexp.MustCompile(`(?m)^` + name + `(_count)?[{ ]`).MatchString(text) })
		if len(missing) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("these are missing: %v in\n%s", missing, text)
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Run("labels name no peer and no package", func(t *testing.T) {
		if found := regexp.MustCompile(`12D3Koo\w+|own-work|measured-package|/ip4/\S+`).FindString(text); found != "" {
			t.Errorf("%q is in\n%s", found, text)
		}
	})
	t.Run("dashboard and alerts show what there is", func(t *testing.T) {
		for _, match := range regexp.MustCompile(`(?m)^([a-z_]+)[{ ]`).FindAllStringSubmatch(text, -1) {
			shown[match[1]] = true
		}
		// What has not happened here is not shown.
		shown["rpc_server_call_duration_count"] = true
		for _, file := range []string{"grafana/dashboard.json", "prometheus/alerts.yml"} {
			data, err := os.ReadFile(filepath.Join("..", "..", "deploy", file))
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range regexp.MustCompile(`\b((?:dht|gossip|cache|transfer|catalogue|store|process|go|rpc|peer|active|connection)s?_[a-z_]+)\b`).FindAllStringSubmatch(string(data), -1) {
				name := match[1]
				if !shown[name] && name != "rpc_method" {
					t.Errorf("%s shows %s, which the engine does not", file, name)
				}
			}
		}
	})
	t.Run("only this machine may read", func(t *testing.T) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "evil.example"
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("a page of another name gets %s", response.Status)
		}
	})
}

// TestAlerts holds the alerts against their unit tests, and against the runbook.
func TestAlerts(t *testing.T) {
	folder := filepath.Join("..", "..", "deploy", "prometheus")
	rules, err := os.ReadFile(filepath.Join(folder, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile(filepath.Join(folder, "alerts_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	book, err := os.ReadFile(filepath.Join("..", "..", "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	if len(names) == 0 {
		t.Fatal("there are no alerts")
	}
	for _, match := range names {
		if !strings.Contains(string(book), "\n### "+match[1]+"\n") {
			t.Errorf("docs/OPERATIONS.md has no entry %s", match[1])
		}
		for _, how := range []string{"fires", "is quiet"} {
			if !strings.Contains(string(unit), "- name: "+match[1]+" "+how+"\n") {
				t.Errorf("nothing tests that %s %s", match[1], how)
			}
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: prometheus)")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// spans are those that a collector has got, by trace: service and name.
type spans struct {
	mu  sync.Mutex
	all map[string]map[string]bool
}

// collect starts a collector of traces.
func collect(t *testing.T) (*spans, string) {
	t.Helper()
	s := &spans{all: map[string]map[string]bool{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unpacked
		}
		data, err := io.ReadAll(body)
		var sent collector.ExportTraceServiceRequest
		if err == nil && r.URL.Path == "/v1/traces" {
			err = proto.Unmarshal(data, &sent)
		}
		if err != nil {
			t.Error(err)
		}
		s.take(&sent)
	}))
	t.Cleanup(server.Close)
	return s, server.URL
}

func (s *spans) take(sent *collector.ExportTraceServiceRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range sent.GetResourceSpans() {
		service := ""
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				id := hex.EncodeToString(span.GetTraceId())
				if s.all[id] == nil {
					s.all[id] = map[string]bool{}
				}
				s.all[id][service+": "+span.GetName()] = true
			}
		}
	}
}

// traceWith finds the trace that has a span, or nil.
func (s *spans) traceWith(span string) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, trace := range s.all {
		if trace[span] {
			names = slices.Sorted(maps.Keys(trace))
		}
	}
	return names
}

// TestOneTraceShowsCommandEngineAndPeers sends the traces of both processes to a collector.
func TestOneTraceShowsCommandEngineAndPeers(t *testing.T) {
	got, url := collect(t)
	env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + url, "OTEL_METRICS_EXPORTER=none", "OTEL_BSP_SCHEDULE_DELAY=50"}
	author := newPeer(t, env...)
	author.run("p2p", "start")
	user := newPeer(t, env...)
	user.run("p2p", "start", "--bootstrap", author.address())
	author.author("traced")
	user.installs("traced")
	for command, want := range map[string][]string{
		"ggen: ggen marketplace install": {
			"ggen: ggen.marketplace.v1.MarketplaceService/Install", "ggen-engine: ggen.marketplace.v1.MarketplaceService/Install",
			"ggen-engine: resolve", "ggen-engine: fetch", "ggen-engine: peer", "ggen-engine: unpack", "ggen-engine: dht.provide",
		},
		"ggen: ggen marketplace publish": {
			"ggen: ggen.marketplace.v1.MarketplaceService/Publish", "ggen-engine: ggen.marketplace.v1.MarketplaceService/Publish",
			"ggen-engine: archive", "ggen-engine: store", "ggen-engine: sign", "ggen-engine: announce", "ggen-engine: dht.record",
		},
	} {
		var names []string
		for deadline := time.Now().Add(time.Minute); ; {
			names = got.traceWith(command)
			missing := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return slices.Contains(names, name) })
			if len(missing) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the trace of %q has no %q, only %q", command, missing, names)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
}

// TestLogsAreJSONWithTraces reads the log of an engine in which a call has failed. The trace
// is that of whoever has called the command.
func TestLogsAreJSONWithTraces(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	_, url := collect(t)
	p := newPeer(t, "GGEN_LOG_FORMAT=json", "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_METRICS_EXPORTER=none", "TRACEPARENT=00-"+trace+"-00f067aa0ba902b7-01")
	p.run("p2p", "start")
	if _, _, err := p.try("p2p", "peer-info", "12D3KooWJAHQ326q6AjuZwPcnSV3a2gNb5i98pLFSPZYqbt4RtWf"); err == nil {
		t.Fatal("nobody is somebody")
	}
	p.run("p2p", "stop")
	files, err := filepath.Glob(filepath.Join(p.home, "log", "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	type record struct {
		Time    time.Time `json:"time"`
		Method  string    `json:"method"`
		Reason  string    `json:"reason"`
		TraceID string    `json:"trace_id"`
		SpanID  string    `json:"span_id"`
	}
	var found record
	for line := range strings.Lines(string(data)) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Time.IsZero() {
			t.Errorf("%v in %s", err, line)
		}
		if r.Method != "" {
			found = r
		}
	}
	if found.Method != "Peers" || found.Reason != "NOT_FOUND" || found.TraceID != trace || found.SpanID == "" {
		t.Errorf("%+v in\n%s", found, data)
	}
}
