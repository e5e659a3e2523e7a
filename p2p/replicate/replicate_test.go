package replicate_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"go.uber.org/goleak"

	"ggen.dev/marketplace/p2p/replicate"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is a small catalogue: entry i of a publisher is the hash of both, so it
// verifies without keys. An update is publisher, size of the log, from, and
// entries of 32 bytes, after padding to make updates large.
type ledger struct {
	mu      sync.Mutex
	sizes   map[shared.PublisherID]int64
	forks   map[shared.PublisherID]bool // publishers that were found to have two logs
	applied int
	perPage int64 // entries in one update; 0: as many as fit
	broken  error // of Apply
}

func newLedger() *ledger {
	return &ledger{sizes: map[shared.PublisherID]int64{}, forks: map[shared.PublisherID]bool{}}
}

func publisherNo(i int) shared.PublisherID {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return shared.PublisherID(hex.EncodeToString(sum[:]))
}

func entry(p shared.PublisherID, i int64) []byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(p), uint64(i)))
	return sum[:]
}

func headOf(p shared.PublisherID, size int64) replicate.Head {
	return replicate.Head{Publisher: p, Size: size, Hash: [32]byte(entry(p, size))}
}

func (l *ledger) set(p shared.PublisherID, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sizes[p] = size
}

func (l *ledger) snapshot() map[shared.PublisherID]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.sizes)
}

func (l *ledger) Heads() iter.Seq[replicate.Head] {
	sizes := l.snapshot()
	return func(yield func(replicate.Head) bool) {
		for _, p := range slices.Sorted(maps.Keys(sizes)) {
			if !yield(headOf(p, sizes[p])) {
				return
			}
		}
	}
}

func (l *ledger) Wants(h replicate.Head) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := l.sizes[h.Publisher]
	if size == h.Size && h.Size > 0 {
		return size, h != headOf(h.Publisher, size) && !l.forks[h.Publisher]
	}
	return size, h.Size > size
}

func (l *ledger) Since(p shared.PublisherID, from int64, maxBytes int) ([]byte, int64, error) {
	l.mu.Lock()
	size := l.sizes[p]
	l.mu.Unlock()
	if size == 0 || from > size {
		return nil, 0, fmt.Errorf("publisher %s from %d: %w", p.Short(), from, replicate.ErrNone)
	}
	count := min(size-from, int64(maxBytes-80)/32)
	if l.perPage > 0 {
		count = min(count, l.perPage)
	}
	update := binary.BigEndian.AppendUint64([]byte(p), uint64(from))
	for i := range count {
		update = append(update, entry(p, from+i)...)
	}
	if from+count < size {
		return update, from + count, nil
	}
	return update, 0, nil
}

func (l *ledger) Apply(_ context.Context, _ peer.ID, update []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	if len(update) < 72 || (len(update)-72)%32 != 0 {
		return shared.NewError(shared.ReasonIntegrity, "the update is cut off")
	}
	p, from := shared.PublisherID(update[:64]), int64(binary.BigEndian.Uint64(update[64:72]))
	for i := range int64(len(update)-72) / 32 {
		if !slices.Equal(update[72+32*i:][:32], entry(p, from+i)) {
			return shared.NewError(shared.ReasonIntegrity, "entry %d is not the publisher's", from+i)
		}
	}
	if from > l.sizes[p] {
		return nil // a gap: of no use
	}
	if from == l.sizes[p] && len(update) == 72 {
		l.forks[p] = true
	}
	l.applied++
	l.sizes[p] = max(l.sizes[p], from+int64(len(update)-72)/32)
	return nil
}

func loopbackHost(tb testing.TB) host.Host {
	tb.Helper()
	h, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = h.Close() })
	return h
}

type node struct {
	*replicate.Replicator
	host   host.Host
	ledger *ledger
	blamed atomic.Int32
}

func newNode(tb testing.TB, cfg replicate.Config) *node {
	tb.Helper()
	n := &node{host: loopbackHost(tb), ledger: newLedger()}
	cfg.Misbehaved = func(peer.ID, error) { n.blamed.Add(1) }
	r, err := replicate.New(n.host, n.ledger, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	n.Replicator = r
	tb.Cleanup(func() { _ = r.Close() })
	return n
}

func connect(tb testing.TB, from, to host.Host) {
	tb.Helper()
	if err := from.Connect(tb.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
		tb.Fatal(err)
	}
}

func wantReason(tb testing.TB, err error, reason shared.Reason) {
	tb.Helper()
	if !errors.Is(err, reason) {
		tb.Fatalf("error is %v, want %s", err, reason)
	}
}

func eventually(tb testing.TB, what string, met func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); !met(); {
		if time.Now().After(deadline) {
			tb.Fatalf("waited a minute for: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func wantSame(tb testing.TB, a, b *node) {
	tb.Helper()
	if got, want := a.ledger.snapshot(), b.ledger.snapshot(); !maps.Equal(got, want) {
		tb.Fatalf("%d logs here, %d there, or of other sizes", len(got), len(want))
	}
}

func TestSync(t *testing.T) {
	t.Run("a late joiner gets everything", func(t *testing.T) {
		old, late := newNode(t, replicate.Config{}), newNode(t, replicate.Config{})
		for i := range 10_000 {
			old.ledger.set(publisherNo(i), int64(i%3)+1)
		}
		old.ledger.set(publisherNo(7), 100_000) // four updates
		connect(t, late.host, old.host)
		stats, err := late.Sync(t.Context(), old.host.ID())
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, late, old)
		if stats.Heads != 10_000 || stats.Updates != 10_003 {
			t.Errorf("%+v", stats)
		}
		t.Run("and then nothing is left to say", func(t *testing.T) {
			stats, err := late.Sync(t.Context(), old.host.ID())
			if err != nil || stats.Heads != 0 || stats.Updates != 0 || stats.Bytes > 100 {
				t.Fatalf("%+v, %v", stats, err)
			}
		})
		t.Run("and later only what is new", func(t *testing.T) {
			old.ledger.set(publisherNo(7), 100_001)
			old.ledger.set(publisherNo(10_001), 5)
			stats, err := late.Sync(t.Context(), old.host.ID())
			if err != nil || stats.Updates != 2 {
				t.Fatalf("%+v, %v", stats, err)
			}
			wantSame(t, late, old)
		})
	})
	t.Run("both directions make equal catalogues", func(t *testing.T) {
		a, b := newNode(t, replicate.Config{}), newNode(t, replicate.Config{})
		for i := range 50 {
			a.ledger.set(publisherNo(i), int64(i+1))
			b.ledger.set(publisherNo(i+25), int64(60-i))
		}
		connect(t, a.host, b.host)
		for from, to := range map[*node]*node{a: b, b: a} {
			if _, err := from.Sync(t.Context(), to.host.ID()); err != nil {
				t.Fatal(err)
			}
		}
		wantSame(t, a, b)
	})
	t.Run("an interrupted one goes on where it was", func(t *testing.T) {
		old, late := newNode(t, replicate.Config{}), newNode(t, replicate.Config{SessionBytes: 2 << 20})
		old.ledger.set(publisherNo(1), 100_000) // 3.2 MB
		old.ledger.set(publisherNo(2), 1)
		connect(t, late.host, old.host)
		_, err := late.Sync(t.Context(), old.host.ID())
		wantReason(t, err, shared.ReasonLimitExceeded)
		got := late.ledger.snapshot()[publisherNo(1)]
		if got == 0 || got == 100_000 {
			t.Fatalf("%d entries after the first session", got)
		}
		for range 2 {
			if _, err = late.Sync(t.Context(), old.host.ID()); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, late, old)
		if late.blamed.Load() != 0 {
			t.Error("an honest peer was blamed")
		}
	})
	t.Run("what was applied is not fetched again", func(t *testing.T) {
		old, late := newNode(t, replicate.Config{}), newNode(t, replicate.Config{SessionBytes: 300 << 10})
		for i := range 3000 {
			old.ledger.set(publisherNo(i), 1)
		}
		connect(t, late.host, old.host)
		updates, sessions := 0, 0
		for err := error(shared.ReasonLimitExceeded); err != nil; sessions++ {
			wantReason(t, err, shared.ReasonLimitExceeded)
			var stats replicate.Stats
			stats, err = late.Sync(t.Context(), old.host.ID())
			if stats.Updates == 0 && err != nil {
				t.Fatalf("session %d brought nothing: %+v, %v", sessions, stats, err)
			}
			updates += stats.Updates
		}
		wantSame(t, late, old)
		if sessions < 2 || updates != 3000 {
			t.Errorf("%d updates in %d sessions", updates, sessions)
		}
	})
	t.Run("a fork is fetched as proof", func(t *testing.T) {
		a, b := newNode(t, replicate.Config{}), newNode(t, replicate.Config{})
		a.ledger.set(publisherNo(1), 3)
		b.ledger.set(publisherNo(1), 3)
		server := loopbackHost(t)
		r, err := replicate.New(server, forked{b.ledger}, replicate.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		connect(t, a.host, server)
		for range 2 {
			if _, err := a.Sync(t.Context(), server.ID()); err != nil {
				t.Fatal(err)
			}
		}
		if !a.ledger.forks[publisherNo(1)] || a.ledger.applied != 1 {
			t.Fatalf("forks %v after %d updates", a.ledger.forks, a.ledger.applied)
		}
	})
	t.Run("own trouble is not the peer's fault", func(t *testing.T) {
		a, b := newNode(t, replicate.Config{}), newNode(t, replicate.Config{})
		b.ledger.set(publisherNo(1), 3)
		a.ledger.broken = shared.NewError(shared.ReasonStorageFull, "no space left")
		connect(t, a.host, b.host)
		_, err := a.Sync(t.Context(), b.host.ID())
		wantReason(t, err, shared.ReasonStorageFull)
		if a.blamed.Load() != 0 {
			t.Error("the peer was blamed")
		}
	})
	t.Run("a peer that is not connected is not dialled", func(t *testing.T) {
		a, b := newNode(t, replicate.Config{}), newNode(t, replicate.Config{})
		_, err := a.Sync(t.Context(), b.host.ID())
		wantReason(t, err, shared.ReasonPeersFailed)
	})
	t.Run("sessions with one peer take turns", func(t *testing.T) {
		a, b := newNode(t, replicate.Config{Sessions: 2}), newNode(t, replicate.Config{Limits: replicate.Limits{StreamsPerPeer: 1}})
		for i := range 100 {
			b.ledger.set(publisherNo(i), 10)
		}
		connect(t, a.host, b.host)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if _, err := a.Sync(t.Context(), b.host.ID()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		wantSame(t, a, b)
		if a.ledger.applied != 100 {
			t.Errorf("%d updates for 100 logs", a.ledger.applied)
		}
	})
}

// forked claims another hash for every log.
type forked struct{ *ledger }

func (f forked) Heads() iter.Seq[replicate.Head] {
	return func(yield func(replicate.Head) bool) {
		for h := range f.ledger.Heads() {
			h.Hash[0] ^= 1
			if !yield(h) {
				return
			}
		}
	}
}

func TestFetch(t *testing.T) {
	a, b := newNode(t, replicate.Config{}), newNode(t, replicate.Config{})
	b.ledger.perPage = 10
	b.ledger.set(publisherNo(1), 95)
	b.ledger.set(publisherNo(2), 5)
	a.ledger.set(publisherNo(1), 33)
	connect(t, a.host, b.host)
	stats, err := a.Fetch(t.Context(), b.host.ID(), publisherNo(1), 33)
	if err != nil || stats.Updates != 7 {
		t.Fatalf("%+v, %v", stats, err)
	}
	if got := a.ledger.snapshot(); got[publisherNo(1)] != 95 || got[publisherNo(2)] != 0 {
		t.Fatalf("now held: %v", got)
	}
	_, err = a.Fetch(t.Context(), b.host.ID(), publisherNo(3), 0)
	wantReason(t, err, shared.ReasonNotFound)
	_, err = a.Fetch(t.Context(), b.host.ID(), "abcdef01", 0)
	wantReason(t, err, shared.ReasonInvalidArgument)
}

func TestRounds(t *testing.T) {
	const interval = 20 * time.Millisecond
	a, b, c := newNode(t, replicate.Config{Interval: interval}), newNode(t, replicate.Config{Interval: interval}), newNode(t, replicate.Config{Interval: interval})
	connect(t, a.host, b.host)
	connect(t, b.host, c.host) // a and c only meet through b
	for _, n := range []*node{a, b, c} {
		n.Start()
		n.Start()
	}
	for i := range 30 {
		[]*node{a, b, c}[i%3].ledger.set(publisherNo(i), int64(i+1))
	}
	eventually(t, "equal catalogues", func() bool {
		return len(a.ledger.snapshot()) == 30 && maps.Equal(a.ledger.snapshot(), b.ledger.snapshot()) && maps.Equal(b.ledger.snapshot(), c.ledger.snapshot())
	})
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.Sync(t.Context(), b.host.ID())
	wantReason(t, err, shared.ReasonCanceled)
}

func TestServerLimits(t *testing.T) {
	server, other := newNode(t, replicate.Config{Limits: replicate.Limits{Streams: 2, StreamsPerPeer: 1}}), newNode(t, replicate.Config{})
	server.ledger.set(publisherNo(1), 3)
	greedy := loopbackHost(t)
	connect(t, greedy, server.host)
	var streams []network.Stream
	answer := make([]byte, 16)
	for i := range 2 {
		s, err := greedy.NewStream(t.Context(), server.host.ID(), replicate.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
		if i == 0 {
			// A whole request, so that we know that this stream is being served.
			_, _ = s.Write(append([]byte{0, 0, 0, 33, 1}, make([]byte, 32)...))
			if _, err := s.Read(answer); err != nil {
				t.Fatal(err)
			}
			continue
		}
		_, _ = s.Write([]byte{0}) // negotiates
		if n, err := s.Read(answer); err != nil || n < 5 || answer[4] != 133 {
			t.Fatalf("the answer is %v, %v", answer[:n], err)
		}
	}
	connect(t, other.host, server.host)
	if _, err := other.Sync(t.Context(), server.host.ID()); err != nil {
		t.Fatal(err)
	}
	wantSame(t, other, server)
	_ = streams[0].Reset()
}

func BenchmarkLateJoiner10000(b *testing.B) {
	old := newNode(b, replicate.Config{})
	for i := range 1000 {
		old.ledger.set(publisherNo(i), 10)
	}
	for b.Loop() {
		late := newNode(b, replicate.Config{})
		connect(b, late.host, old.host)
		if _, err := late.Sync(b.Context(), old.host.ID()); err != nil {
			b.Fatal(err)
		}
		_ = late.Close()
		_ = late.host.Close()
	}
}
