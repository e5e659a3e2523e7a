package p2p

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/p2p/reputation"
	"ggen.dev/marketplace/p2p/selection"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

// population is a network of peers of which each has everything, and of clients that
// fetch. The same seed makes the same one.
type population struct {
	seed    uint64
	mbps    []int           // by host; servers come first
	away    []time.Duration // of each host from the middle of the network, one way
	servers int
	clients int
	lanes   int // downloads of one client at once
	fetches int // of each lane, one after the other
}

// lines are what people have: uplinks in Mbit/s, each as often as it stands here.
var lines = []int{100, 100, 50, 50, 40, 20, 20, 10, 10, 5, 5, 2, 1}

// sizes are those of packages: most are small.
var sizes = []int{32 << 10, 128 << 10, 256 << 10, 1 << 20, 1 << 20, 4 << 20}

func newPopulation(seed uint64) population {
	p := population{seed: seed, servers: 30, clients: 3, lanes: 2, fetches: 60}
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range p.servers + p.clients {
		mbps := lines[r.IntN(len(lines))]
		if i >= p.servers {
			mbps = 200
		}
		p.mbps = append(p.mbps, mbps)
		p.away = append(p.away, time.Duration(2+r.IntN(68))*time.Millisecond)
	}
	return p
}

func (p population) oneWay(from, to int) time.Duration {
	if from < 0 || to < 0 {
		return 0
	}
	return p.away[from] + p.away[to]
}

// order is [selection.Selector.Order] or something in its place.
type order func(candidates []selection.Candidate, bytes int64) []string

// policy is a way to choose among servers. It may know the truth about them.
type policy struct {
	name   string
	choose func(w *world, client int) order
}

var policies = []policy{
	{"random", func(w *world, client int) order {
		r := rand.New(rand.NewPCG(w.seed, uint64(client)))
		return locked(func(c []selection.Candidate, _ int64) []string {
			ids := idsOf(c)
			r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			return ids
		})
	}},
	{"nearest first", func(w *world, client int) order {
		return w.byKey(func(server int, _ int64) float64 { return w.oneWay(server, w.servers+client).Seconds() })
	}},
	{"oracle", func(w *world, client int) order {
		return w.byKey(func(server int, bytes int64) float64 {
			return 2*w.oneWay(server, w.servers+client).Seconds() + float64(bytes)*8/float64(w.mbps[server])/1e6*float64(1+w.load[server].Load())
		})
	}},
	{"fair oracle", func(w *world, client int) order { // it does not know what the other clients do
		s := selection.New(nil) // counts
		w.selectors[client] = s
		return w.byKey(func(server int, bytes int64) float64 {
			return 2*w.oneWay(server, w.servers+client).Seconds() + float64(bytes)*8/float64(w.mbps[server])/1e6*float64(1+s.InFlight(w.ids[server].String()))
		})
	}},
	{"adaptive", func(w *world, client int) order {
		s := selection.New(rand.NewPCG(w.seed, uint64(client)))
		w.selectors[client] = s
		return s.Order
	}},
}

func locked(choose order) order {
	var mu sync.Mutex
	return func(c []selection.Candidate, bytes int64) []string {
		mu.Lock()
		defer mu.Unlock()
		return choose(c, bytes)
	}
}

func idsOf(candidates []selection.Candidate) (ids []string) {
	for _, c := range candidates {
		ids = append(ids, c.ID)
	}
	slices.Sort(ids)
	return ids
}

// badness is what may become of a server.
type badness string

const (
	lies   badness = "lies"
	stalls badness = "stalls"
	breaks badness = "breaks off"
	crawls badness = "crawls"
)

// world is a population that runs, by one policy.
type world struct {
	population
	t         *testing.T
	ids       []peer.ID
	number    map[string]int // of a server, by ID
	load      []atomic.Int64 // downloads that a server has now, of all clients
	sent      []atomic.Int64 // bytes
	asked     []atomic.Int64 // streams on which a server was asked for something, repeated attempts included
	bad       atomic.Int64   // the server that is bad; -1: none
	how       badness
	contents  map[shared.Digest][]byte
	digests   [][]shared.Digest // by lane and size
	selectors []*selection.Selector
	books     []*reputation.Book
	hang      chan struct{} // closed at the end
}

func (w *world) byKey(key func(server int, bytes int64) float64) order {
	return func(c []selection.Candidate, bytes int64) []string {
		ids := idsOf(c)
		keys := map[string]float64{}
		for _, id := range ids {
			keys[id] = key(w.number[id], bytes)
		}
		slices.SortStableFunc(ids, func(a, b string) int { return cmp.Compare(keys[a], keys[b]) })
		return ids
	}
}

// blob is content as a server sends it.
type blob struct {
	w      *world
	server int
	data   []byte
}

// ReadAt implements io.ReaderAt.
func (b blob) ReadAt(into []byte, offset int64) (int, error) {
	n := copy(into, b.data[offset:])
	b.w.sent[b.server].Add(int64(n))
	if b.w.bad.Load() == int64(b.server) {
		switch b.w.how {
		case lies:
			into[0] ^= 1
		case stalls:
			<-b.w.hang
			return 0, errors.New("it is over")
		case breaks:
			return 0, errors.New("the disk is broken")
		case crawls: // 1 Mbit/s
			<-time.After(time.Duration(len(into)) * 8 * time.Microsecond)
		}
	}
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}

func (b blob) Close() error { return nil }
func (b blob) Size() int64  { return int64(len(b.data)) }

// memory is a sink that knows what must come.
type memory struct {
	want []byte
	mu   sync.Mutex
	left map[int]bool
}

func newMemory(want []byte) *memory {
	m := &memory{want: want, left: map[int]bool{}}
	for i := range (len(want) + transfer.MaxRange - 1) / transfer.MaxRange {
		m.left[i] = true
	}
	return m
}

func (m *memory) Missing() (missing []transfer.Piece) {
	for i := range len(m.left) {
		offset := i * transfer.MaxRange
		missing = append(missing, transfer.Piece{Offset: int64(offset), Length: min(transfer.MaxRange, len(m.want)-offset)})
	}
	return missing
}

func (m *memory) Write(i int, data []byte) error {
	offset := i * transfer.MaxRange
	if !bytes.Equal(data, m.want[offset:min(offset+transfer.MaxRange, len(m.want))]) {
		return shared.NewError(shared.ReasonIntegrity, "chunk %d is wrong", i)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.left, i)
	return nil
}

func (m *memory) Commit() error { return nil }
func (m *memory) Close() error  { return nil }

// result is what a world has shown.
type result struct {
	early, late []time.Duration // of downloads: the first third of each lane, and the rest
	sent        []int64         // by server
	after       int64           // how often the bad server was asked after it had turned
}

// live runs a world. With a kind of badness, the server that has served most turns bad
// after the first third, and stays so for the rest.
func (p population) live(t *testing.T, by policy, turns badness) (r result) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			population: p, t: t, number: map[string]int{}, load: make([]atomic.Int64, p.servers), sent: make([]atomic.Int64, p.servers),
			asked: make([]atomic.Int64, p.servers), how: turns, contents: map[shared.Digest][]byte{}, selectors: make([]*selection.Selector, p.clients),
			hang: make(chan struct{}),
		}
		w.bad.Store(-1)
		network := p2ptest.NewNetwork(t, p2ptest.Links{Between: p.oneWay, Rate: func(i int) int { return p.mbps[i] }, Streams: everyday()})
		t.Cleanup(func() { <-time.After(time.Minute) }) // lets the transports' timers run out
		random := rand.NewChaCha8([32]byte{byte(p.seed)})
		for lane := range p.lanes {
			w.digests = append(w.digests, nil)
			for _, size := range sizes {
				data := make([]byte, size)
				_, _ = random.Read(data) // never fails
				digest := shared.DigestOf(data)
				w.contents[digest] = data
				w.digests[lane] = append(w.digests[lane], digest)
			}
		}
		var addrs []peer.AddrInfo
		for i := range p.servers {
			h := network.Host(t, i)
			server, err := transfer.Serve(h, func(digest shared.Digest) (transfer.Blob, error) {
				w.asked[i].Add(1)
				return blob{w, i, w.contents[digest]}, nil
			}, transfer.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			w.ids = append(w.ids, h.ID())
			w.number[h.ID().String()] = i
			addrs = append(addrs, peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
		}
		t.Cleanup(func() { close(w.hang) })
		var running sync.WaitGroup
		var mu sync.Mutex // guards r
		for client := range p.clients {
			h := network.Host(t, p.servers+client)
			book := reputation.New()
			w.books = append(w.books, book)
			trips := map[peer.ID]time.Duration{} // as an engine's overlay measures them
			from := &sources{
				host: h, book: book, order: by.choose(w, client), begin: w.begin(client),
				roundTrip: func(p peer.ID) time.Duration { return trips[p] },
			}
			c, err := transfer.NewClient(h, transfer.Config{Observe: func(_ context.Context, o transfer.Outcome) {
				book.Observe(o.Peer.String(), outcomes[o.Kind], o.Bytes, o.Took, o.FirstByte)
			}, Expect: from.expect})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			for _, a := range addrs {
				h.Peerstore().AddAddrs(a.ID, a.Addrs, peerstore.PermanentAddrTTL)
				if err := h.Connect(t.Context(), a); err != nil {
					t.Fatal(err)
				}
				trips[a.ID] = roundTrip(t, h, a.ID)
			}
			for lane := range p.lanes {
				running.Go(func() {
					script := rand.New(rand.NewPCG(p.seed, uint64(client<<8|lane)))
					for i := range p.fetches {
						<-time.After(time.Duration(script.ExpFloat64() * float64(time.Second)))
						took := w.fetch(c, from, w.digests[lane][script.IntN(len(sizes))])
						mu.Lock()
						if i < p.fetches/3 {
							r.early = append(r.early, took)
						} else {
							r.late = append(r.late, took)
						}
						if turns != "" && w.bad.Load() < 0 && len(r.early) == p.clients*p.lanes*(p.fetches/3) {
							w.turn()
						}
						mu.Unlock()
					}
				})
			}
		}
		running.Wait()
		for i := range p.servers {
			r.sent = append(r.sent, w.sent[i].Load())
		}
		if bad := w.bad.Load(); bad >= 0 {
			r.after = w.asked[bad].Load()
		}
	})
	return r
}

// roundTrip pings a peer.
func roundTrip(t *testing.T, h host.Host, p peer.ID) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pong := <-ping.Ping(ctx, h, p)
	if pong.Error != nil {
		t.Fatal(pong.Error)
	}
	return pong.RTT
}

// turn makes the busiest server bad.
func (w *world) turn() {
	busiest := 0
	for i := range w.sent {
		if w.asked[i].Load() > w.asked[busiest].Load() {
			busiest = i
		}
	}
	w.asked[busiest].Store(0)
	w.bad.Store(int64(busiest))
}

// begin counts downloads for everybody, and for the client's own selector.
func (w *world) begin(client int) func(peers ...string) func() {
	return func(peers ...string) func() {
		end := func() {}
		if s := w.selectors[client]; s != nil {
			end = s.Begin(peers...)
		}
		for _, id := range peers {
			w.load[w.number[id]].Add(1)
		}
		return func() {
			end()
			for _, id := range peers {
				w.load[w.number[id]].Add(-1)
			}
		}
	}
}

func (w *world) fetch(c *transfer.Client, from *sources, digest shared.Digest) time.Duration {
	data := w.contents[digest]
	d := &errand{from: from, bytes: int64(len(data)), holders: w.ids, nearby: func() []peer.ID { return w.ids }, started: time.Now()}
	sink := newMemory(data)
	want := transfer.Want{Digest: digest, Size: int64(len(data))}
	_, err := c.Fetch(context.Background(), want, func() (transfer.Sink, error) { return sink, nil }, d.candidates, nil)
	d.finish(err)
	if err != nil {
		w.t.Errorf("fetch: %v", err)
	}
	return time.Since(d.started)
}

func percentile(times []time.Duration, p float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[int(p*float64(len(sorted)-1))]
}

// uneven says how a load is shared: the busiest server's in multiples of the mean, and the
// Gini coefficient (0: alike, 1: one has all).
func uneven(sent []int64) (most, gini float64) {
	sorted := slices.Sorted(slices.Values(sent))
	sum, weighted := 0.0, 0.0
	for i, n := range sorted {
		sum += float64(n)
		weighted += float64(i+1) * float64(n)
	}
	n := float64(len(sorted))
	return float64(sorted[len(sorted)-1]) * n / sum, 2*weighted/(n*sum) - (n+1)/n
}

// seeds are those of the histories that a test runs: GGEN_TEST_SEEDS of them, from
// GGEN_TEST_SEED on.
func seeds(t *testing.T, usual int) (all []uint64) {
	first, err := strconv.ParseUint(cmp.Or(os.Getenv("GGEN_TEST_SEED"), "1"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	count, err := strconv.Atoi(cmp.Or(os.Getenv("GGEN_TEST_SEEDS"), strconv.Itoa(usual)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		all = append(all, first+uint64(i))
	}
	return all
}

// everyday tells that nobody asked for histories to report on. Streams of bytes then take the
// place of QUIC's packets, for a fraction of the time.
func everyday() bool { return os.Getenv("GGEN_TEST_SEEDS") == "" }

// TestChoosingPeers compares the ways to choose over the same populations: real
// transfers over simulated links. See docs/benchmarks/selection.md.
func TestChoosingPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates minutes of transfers")
	}
	all := map[string]*result{}
	most, gini := map[string]float64{}, map[string]float64{}
	seeds, policies := seeds(t, 1), policies
	if everyday() { // the comparison that the test asserts
		policies = []policy{policies[0], policies[len(policies)-1]}
	}
	for _, seed := range seeds {
		for _, by := range policies {
			r := newPopulation(seed).live(t, by, "")
			sum := all[by.name]
			if sum == nil {
				sum = &result{}
				all[by.name] = sum
			}
			sum.early, sum.late = append(sum.early, r.early...), append(sum.late, r.late...)
			m, g := uneven(r.sent)
			most[by.name] += m / float64(len(seeds))
			gini[by.name] += g / float64(len(seeds))
		}
	}
	whole := func(r *result) []time.Duration { return slices.Concat(r.early, r.late) }
	for _, by := range policies {
		r := all[by.name]
		row := fmt.Sprintf("| %s |", by.name)
		for _, times := range [][]time.Duration{whole(r), r.early, r.late} {
			row += fmt.Sprintf(" %d | %d |", percentile(times, 0.5).Milliseconds(), percentile(times, 0.95).Milliseconds())
		}
		t.Logf("%s %.1f | %.2f |", row, most[by.name], gini[by.name])
	}
	ratio := func(a, b string, times func(*result) []time.Duration, p float64) float64 {
		return float64(percentile(times(all[a]), p)) / float64(percentile(times(all[b]), p))
	}
	late := func(r *result) []time.Duration { return r.late }
	for name, times := range map[string]func(*result) []time.Duration{"whole": whole, "late": late} {
		for _, by := range policies[:len(policies)-1] {
			t.Logf("%s: adaptive/%s p50 %.2f p95 %.2f", name, by.name, ratio("adaptive", by.name, times, 0.5), ratio("adaptive", by.name, times, 0.95))
		}
	}
	if r := ratio("adaptive", "random", late, 0.5); r > 0.9 || math.IsNaN(r) {
		t.Errorf("what was learnt gains nothing: %.2f of random's median", r)
	}
}

// TestWhoeverTurnsBadIsLeftAlone: a server that has served best and begins to fail is asked
// no more than three times. One that only becomes slow may still be right for what is small:
// how often it is asked is for people.
func TestWhoeverTurnsBadIsLeftAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates minutes of transfers")
	}
	adaptive := policies[len(policies)-1]
	for _, how := range []badness{lies, stalls, breaks, crawls} {
		t.Run(string(how), func(t *testing.T) {
			for _, seed := range seeds(t, 1) {
				p := newPopulation(seed)
				p.clients = 1
				r := p.live(t, adaptive, how)
				t.Logf("seed %d: asked %d times in %d downloads after it had turned", seed, r.after, len(r.late))
				if r.after > 3 && how != crawls {
					t.Errorf("seed %d: it is still asked %d times", seed, r.after)
				}
			}
		})
	}
}
