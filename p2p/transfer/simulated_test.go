package transfer_test

import (
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

// links are servers of one content, and the way to them from one client.
type links struct {
	oneWay  time.Duration
	oneWays []time.Duration // of each server, if they differ
	uplinks []int           // of each server, Mbit/s
	loss    float64         // share of packets
	warm    bool            // the client is connected, and has fetched before

	stall int // the last server stops after so many chunks; 0: it does not
	slow  int // the last server has 1 Mbit/s after so many chunks; 0: it does not

	expected []transfer.Expected // of each server
}

// world is a client and servers on simulated QUIC.
type world struct {
	client *transfer.Client
	peers  []peer.AddrInfo
}

// lost is how late a packet is that does not arrive.
const lost = time.Hour

func (l links) latency(r *rand.Rand) func(*simnet.Packet) time.Duration {
	var mu sync.Mutex
	return func(p *simnet.Packet) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if r.Float64() < l.loss {
			return lost
		}
		for i, oneWay := range l.oneWays {
			ip := simnet.IntToPublicIPv4(i + 1).String()
			for _, end := range []string{p.From.String(), p.To.String()} {
				if end == ip+":8000" {
					return oneWay
				}
			}
		}
		return l.oneWay
	}
}

// run calls use in a world that serves contents.
func (l links) run(t *testing.T, contents [][]byte, use func(t *testing.T, w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sim := &simnet.Simnet{LatencyFunc: l.latency(rand.New(rand.NewPCG(1, 1))), Logger: slog.New(slog.DiscardHandler)}
		sim.Start()
		defer sim.Close()
		newHost := func(i, up, down int) host.Host {
			h, err := libp2p.New(
				libp2p.ListenAddrStrings("/ip4/"+simnet.IntToPublicIPv4(i).String()+"/udp/8000/quic-v1"),
				simlibp2p.QUICSimnet(sim, simnet.NodeBiDiLinkSettings{
					Uplink:   simnet.LinkSettings{BitsPerSecond: up * simlibp2p.OneMbps},
					Downlink: simnet.LinkSettings{BitsPerSecond: down * simlibp2p.OneMbps},
				}),
				libp2p.DisableIdentifyAddressDiscovery(), libp2p.ResourceManager(&network.NullResourceManager{}),
				libp2p.DisableRelay(), libp2p.DisableMetrics())
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		byDigest := map[shared.Digest][]byte{}
		for _, data := range append(contents, warmUp) {
			byDigest[shared.DigestOf(data)] = data
		}
		release := make(chan struct{})
		var w world
		var closing []func() error
		for i, up := range l.uplinks {
			h := newHost(i+1, up, 100)
			before := l.fault(i, release)
			server, err := transfer.Serve(h, func(d shared.Digest) (transfer.Blob, error) {
				data, ok := byDigest[d]
				if !ok {
					return nil, fs.ErrNotExist
				}
				return memory{data: data, before: before}, nil
			}, transfer.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			w.peers = append(w.peers, info(h))
			closing = append(closing, server.Close, h.Close)
		}
		h := newHost(0, 1000, 1000)
		var err error
		if w.client, err = transfer.NewClient(h, transfer.Config{Expect: l.expect(w.peers)}); err != nil {
			t.Fatal(err)
		}
		if l.warm {
			for _, p := range w.peers {
				if _, _, err := w.client.FetchBlobs(t.Context(), []transfer.Want{{Digest: shared.DigestOf(warmUp), Size: int64(len(warmUp))}}, 1<<20, candidates(p)); err != nil {
					t.Fatal(err)
				}
			}
			<-time.After(time.Second)
		}
		use(t, w)
		close(release)
		for _, end := range append([]func() error{w.client.Close, h.Close}, closing...) {
			_ = end()
		}
		<-time.After(2 * lost) // virtual: lets the timers run out
	})
}

// warmUp is what has been fetched over a connection that is not new.
var warmUp = content(16 << 10)

// expect tells what is known of servers.
func (l links) expect(servers []peer.AddrInfo) func(peer.ID) transfer.Expected {
	known := map[peer.ID]transfer.Expected{}
	for i, e := range l.expected {
		known[servers[i].ID] = e
	}
	return func(p peer.ID) transfer.Expected { return known[p] }
}

// fault is what server i does before it reads a chunk; nil: nothing.
func (l links) fault(i int, release <-chan struct{}) func(int64) error {
	if i != len(l.uplinks)-1 || l.stall+l.slow == 0 {
		return nil
	}
	var mu sync.Mutex
	served := 0
	return func(int64) error {
		mu.Lock()
		served++
		n := served
		mu.Unlock()
		switch {
		case l.stall > 0 && n > l.stall:
			<-release
		case l.slow > 0 && n > l.slow:
			<-time.After(chunkSize * 8 * time.Microsecond)
		}
		return nil
	}
}

// fetch fetches data from some of the servers, and tells the virtual time it took.
func (w world) fetch(t *testing.T, data []byte, peers ...peer.AddrInfo) (time.Duration, transfer.Stats) {
	t.Helper()
	into := newTarget(t, t.TempDir(), data)
	started := time.Now()
	stats, err := w.client.Fetch(t.Context(), into.want, into.open, candidates(peers...), nil)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(started)
	into.mustHold(t)
	return took, stats
}

// simulated fetches data from all servers.
func (l links) simulated(t *testing.T, data []byte) (took time.Duration, stats transfer.Stats) {
	l.run(t, [][]byte{data}, func(t *testing.T, w world) { took, stats = w.fetch(t, data, w.peers...) })
	return took, stats
}

// split fetches data in equal parts from all servers at once, each part from one of them:
// what is done without work-stealing.
func (l links) split(t *testing.T, data []byte) (took time.Duration) {
	var parts [][]byte
	n := len(l.uplinks)
	for i := range n {
		parts = append(parts, data[i*len(data)/n:(i+1)*len(data)/n])
	}
	l.run(t, parts, func(t *testing.T, w world) {
		var group sync.WaitGroup
		started := time.Now()
		for i, part := range parts {
			group.Go(func() { w.fetch(t, part, w.peers[i]) })
		}
		group.Wait()
		took = time.Since(started)
	})
	return took
}

const rtt = 90 * time.Millisecond

// TestSimulatedLinks fetches 6 MiB over links of 45 ms. It asserts what must hold
// on any schedule; the times are for people.
func TestSimulatedLinks(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates some seconds of packets")
	}
	data := content(6 << 20)
	for _, tc := range []struct {
		name  string
		links links
	}{
		{"one peer of 20 Mbit/s", links{uplinks: []int{20}}},
		{"four peers of 20 Mbit/s", links{uplinks: []int{20, 20, 20, 20}}},
		{"four peers of 50 Mbit/s", links{uplinks: []int{50, 50, 50, 50}}},
		{"three of 20 and one of 1 Mbit/s", links{uplinks: []int{20, 20, 20, 1}}},
		{"three of 20 and one that stalls", links{uplinks: []int{20, 20, 20, 20}, stall: 3}},
		{"three of 20 and one that becomes slow", links{uplinks: []int{20, 20, 20, 20}, slow: 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.links.oneWay = rtt / 2
			took, stats := tc.links.simulated(t, data)
			t.Logf("%s, %d peers, %.1f %% arrived twice", took.Round(time.Millisecond), len(stats.From), 100*float64(stats.Wasted)/float64(len(data)))
			if stats.Wasted > int64(len(data))/4 {
				t.Errorf("%d bytes arrived twice", stats.Wasted)
			}
		})
	}
}

// TestAStrangerIsNotTriedAlone: when it turns out to be slow, it has cost nothing, since
// somebody who is known was asked beside it.
func TestAStrangerIsNotTriedAlone(t *testing.T) {
	stranger := transfer.Expected{FirstByte: rtt, Stranger: true}
	good := transfer.Expected{FirstByte: rtt, Pace: 8 / 20e6}
	data := content(transfer.MaxRange)
	both := links{oneWay: rtt / 2, warm: true, uplinks: []int{1, 20}, expected: []transfer.Expected{stranger, good}}
	alone := links{oneWay: rtt / 2, warm: true, uplinks: []int{20}, expected: []transfer.Expected{good}}
	took, _ := both.simulated(t, data)
	if least, _ := alone.simulated(t, data); took > least+least/4 {
		t.Errorf("%s beside a stranger, %s without it", took, least)
	}
}

// TestFigures prints what docs/benchmarks/transfer.md reports, if GGEN_TEST_FIGURES is set. It
// asserts nothing: TestSimulatedLinks does.
func TestFigures(t *testing.T) {
	if os.Getenv("GGEN_TEST_FIGURES") == "" {
		t.Skip("simulates minutes of packets for a report; GGEN_TEST_FIGURES=1 runs it")
	}
	four := func(mbps int) []int { return []int{mbps, mbps, mbps, mbps} }
	t.Run("several peers, one, and equal parts", func(t *testing.T) {
		data := content(16 << 20)
		t.Log("| links | one peer | equal parts | ours | of the links' rate | arrived twice |")
		for _, tc := range []struct {
			name string
			l    links
		}{
			{"four of 20 Mbit/s", links{uplinks: four(20)}},
			{"four of 20, one falls to 1 half-way", links{uplinks: four(20), slow: 8}},
			{"100, 50, 20, 5 Mbit/s", links{uplinks: []int{100, 50, 20, 5}}},
			{"four of 20, 10 to 150 ms away", links{uplinks: four(20), oneWays: []time.Duration{5e6, 20e6, 45e6, 75e6}}},
			{"four of 20, 1 % of packets lost", links{uplinks: four(20), loss: 0.01}},
			{"four of 20, one stalls", links{uplinks: four(20), stall: 6}},
		} {
			tc.l.oneWay = rtt / 2
			single := tc.l
			single.uplinks, single.stall, single.slow = tc.l.uplinks[:1], 0, 0
			one, _ := single.simulated(t, data)
			parts := "never"
			if tc.l.stall == 0 {
				parts = tc.l.split(t, data).Round(time.Millisecond).String()
			}
			took, stats := tc.l.simulated(t, data)
			sum := 0
			for _, mbps := range tc.l.uplinks {
				sum += mbps
			}
			ideal := float64(len(data)) * 8 / float64(sum) / 1e6
			t.Logf("| %s | %s | %s | %s (%.2f×) | %.2f | %.1f %% |", tc.name, one.Round(time.Millisecond), parts, took.Round(time.Millisecond),
				one.Seconds()/took.Seconds(), ideal/took.Seconds(), 100*float64(stats.Wasted)/float64(len(data)))
		}
	})
	t.Run("cold, 90 ms, 50 Mbit/s", func(t *testing.T) {
		for _, mb := range []int{10, 50} {
			for _, uplinks := range [][]int{{50}, four(50)} {
				took, _ := links{uplinks: uplinks, oneWay: rtt / 2}.simulated(t, content(mb*1e6))
				t.Logf("%d MB from %d: %s", mb, len(uplinks), took.Round(time.Millisecond))
			}
		}
	})
	t.Run("small packages in round trips", func(t *testing.T) {
		for _, kib := range []int{4, 16, 32, 64} {
			for name, archive := range map[string][]byte{"noise": content(kib << 10), "text": prose(t, kib<<10)} {
				for _, warm := range []bool{true, false} {
					index := prose(t, 3<<10)
					links{uplinks: []int{50}, oneWay: rtt / 2, warm: warm}.run(t, [][]byte{index, archive}, func(t *testing.T, w world) {
						started := time.Now()
						wants := []transfer.Want{{Digest: shared.DigestOf(index), Size: int64(len(index))}, {Digest: shared.DigestOf(archive), Size: int64(len(archive))}}
						if _, _, err := w.client.FetchBlobs(t.Context(), wants, 1<<20, candidates(w.peers...)); err != nil {
							t.Fatal(err)
						}
						t.Logf("%d KiB of %s, warm %v: %.2f", kib, name, warm, time.Since(started).Seconds()/rtt.Seconds())
					})
				}
			}
		}
	})
}

// prose is text as packages have it: this project's documents.
func prose(t *testing.T, size int) (text []byte) {
	t.Helper()
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, data...)
	}
	return text[:size]
}
