package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

func TestFetch(t *testing.T) {
	data := content(40*chunkSize + 777)
	digest := shared.DigestOf(data)
	good := memory{data: data}

	t.Run("from one to four peers", func(t *testing.T) {
		for n := 1; n <= 4; n++ {
			var peers []peer.AddrInfo
			for range n {
				peers = append(peers, info(serving(t, digest, good, transfer.Limits{})))
			}
			seen := &outcomes{}
			into := newTarget(t, t.TempDir(), data)
			var last int64
			stats, err := client(t, transfer.Config{Observe: seen.observe}).Fetch(t.Context(), into.want, into.open, candidates(peers...), func(done, total int64) {
				if done < last || total != int64(len(data)) {
					t.Errorf("progress %d of %d after %d", done, total, last)
				}
				last = done
			})
			if err != nil {
				t.Fatal(err)
			}
			into.mustHold(t)
			if stats.Fetched != int64(len(data)) || len(stats.From) < 1 || len(stats.From) > n || last != int64(len(data)) {
				t.Fatalf("%d peers: %+v, progress %d", n, stats, last)
			}
			contributed := 0
			for _, p := range peers {
				if slices.Equal(seen.of(p.ID), []transfer.Kind{transfer.Delivered}) {
					contributed++
				}
			}
			if contributed != len(stats.From) {
				t.Fatalf("%d peers are said to have contributed, observed were %d", len(stats.From), contributed)
			}
		}
	})
	t.Run("content that compresses arrives the same", func(t *testing.T) {
		data := bytes.Repeat([]byte("ontology and template "), 50_000)
		into := newTarget(t, t.TempDir(), data)
		server := serving(t, into.want.Digest, memory{data: data}, transfer.Limits{})
		if _, err := client(t, transfer.Config{}).Fetch(t.Context(), into.want, into.open, candidates(info(server)), nil); err != nil {
			t.Fatal(err)
		}
		into.mustHold(t)
	})
	t.Run("a liar is found out exactly and done without", func(t *testing.T) {
		bad := bytes.Clone(data)
		for i := 3; i < len(bad); i += chunkSize / 2 {
			bad[i] ^= 1
		}
		honest, liar := serving(t, digest, good, transfer.Limits{}), serving(t, digest, memory{data: bad}, transfer.Limits{})
		seen := &outcomes{}
		into := newTarget(t, t.TempDir(), data)
		if _, err := client(t, transfer.Config{Observe: seen.observe}).Fetch(t.Context(), into.want, into.open, candidates(info(liar), info(honest)), nil); err != nil {
			t.Fatal(err)
		}
		into.mustHold(t)
		if got := seen.of(liar.ID()); !slices.Equal(got, []transfer.Kind{transfer.WrongContent}) {
			t.Errorf("the liar's outcomes are %v", got)
		}
		if got := seen.of(honest.ID()); !slices.Equal(got, []transfer.Kind{transfer.Delivered}) {
			t.Errorf("the honest peer's outcomes are %v", got)
		}
	})
	t.Run("only liars are an integrity error, and nothing is kept", func(t *testing.T) {
		bad := bytes.Repeat([]byte{1}, len(data))
		var peers []peer.AddrInfo
		for range 3 {
			peers = append(peers, info(serving(t, digest, memory{data: bad}, transfer.Limits{})))
		}
		peers = append(peers, info(serving(t, "", nil, transfer.Limits{}))) // has nothing
		into := newTarget(t, t.TempDir(), data)
		_, err := client(t, transfer.Config{}).Fetch(t.Context(), into.want, into.open, candidates(peers...), nil)
		wantReason(t, err, shared.ReasonIntegrity)
		if e := shared.AsError(err); strings.Count(e.Metadata["peers"], ";") != 3 || e.Hint == "" {
			t.Fatalf("%+v", e)
		}
		if into.store.Has(digest) {
			t.Fatal("wrong content was kept")
		}
	})
	t.Run("what a stalled peer owes is asked elsewhere", func(t *testing.T) {
		release := make(chan struct{})
		staller := serving(t, digest, memory{data: data, before: func(off int64) error {
			if off >= 2*chunkSize {
				<-release
			}
			return nil
		}}, transfer.Limits{})
		t.Cleanup(func() { close(release) })
		honest := serving(t, digest, good, transfer.Limits{})
		seen := &outcomes{}
		into := newTarget(t, t.TempDir(), data)
		// The staller alone holds the download for an hour, so only stealing ends it.
		c := client(t, transfer.Config{Observe: seen.observe, StallTimeout: time.Hour})
		if _, err := c.Fetch(t.Context(), into.want, into.open, candidates(info(staller), info(honest)), nil); err != nil {
			t.Fatal(err)
		}
		into.mustHold(t)
		if got := seen.of(honest.ID()); !slices.Contains(got, transfer.Delivered) {
			t.Errorf("the honest peer's outcomes are %v", got)
		}
	})
	t.Run("a peer that disappears is replaced", func(t *testing.T) {
		var vanish sync.Once
		var vanishing func()
		gone := serving(t, digest, memory{data: data, before: func(off int64) error {
			if off >= 6*chunkSize {
				vanish.Do(func() { go vanishing() })
				return io.ErrUnexpectedEOF
			}
			return nil
		}}, transfer.Limits{})
		vanishing = func() { _ = gone.Close() }
		honest := serving(t, digest, good, transfer.Limits{})
		into := newTarget(t, t.TempDir(), data)
		if _, err := client(t, transfer.Config{}).Fetch(t.Context(), into.want, into.open, candidates(info(gone), info(honest)), nil); err != nil {
			t.Fatal(err)
		}
		into.mustHold(t)
	})
	t.Run("peers may arrive while it runs", func(t *testing.T) {
		first, second := serving(t, digest, good, transfer.Limits{}), serving(t, digest, good, transfer.Limits{})
		dead := peer.AddrInfo{ID: "12D3dead", Addrs: first.Addrs()}
		into := newTarget(t, t.TempDir(), data)
		var reached atomic.Bool
		_, err := client(t, transfer.Config{}).Fetch(t.Context(), into.want, into.open, func(ctx context.Context) iter.Seq[peer.AddrInfo] {
			return func(yield func(peer.AddrInfo) bool) {
				if yield(dead) && yield(info(first)) && yield(info(first)) && yield(info(second)) {
					reached.Store(true)
					<-ctx.Done() // still searching
				}
			}
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		into.mustHold(t)
	})
	t.Run("nobody is known", func(t *testing.T) {
		into := newTarget(t, t.TempDir(), data)
		_, err := client(t, transfer.Config{}).Fetch(t.Context(), into.want, into.open, candidates(), nil)
		wantReason(t, err, shared.ReasonUnavailable)
	})
	t.Run("nobody has it or can be reached", func(t *testing.T) {
		empty := serving(t, "", nil, transfer.Limits{})
		stranger := loopbackHost(t) // does not speak the protocol
		gone := loopbackHost(t)
		offline := info(gone)
		_ = gone.Close()
		seen := &outcomes{}
		into := newTarget(t, t.TempDir(), data)
		_, err := client(t, transfer.Config{Observe: seen.observe}).Fetch(t.Context(), into.want, into.open, candidates(info(empty), info(stranger), offline), nil)
		wantReason(t, err, shared.ReasonUnavailable)
		for p, want := range map[peer.ID]transfer.Kind{empty.ID(): transfer.Absent, stranger.ID(): transfer.Absent, offline.ID: transfer.Unreachable} {
			if got := seen.of(p); !slices.Equal(got, []transfer.Kind{want}) {
				t.Errorf("outcomes %v, want %s", got, want)
			}
		}
	})
	t.Run("all stall", func(t *testing.T) {
		release := make(chan struct{})
		staller := serving(t, digest, memory{data: data, before: func(int64) error { <-release; return nil }}, transfer.Limits{})
		t.Cleanup(func() { close(release) })
		seen := &outcomes{}
		into := newTarget(t, t.TempDir(), data)
		_, err := client(t, transfer.Config{StallTimeout: 100 * time.Millisecond, Observe: seen.observe}).Fetch(t.Context(), into.want, into.open, candidates(info(staller)), nil)
		wantReason(t, err, shared.ReasonTimeout)
		if got := seen.of(staller.ID()); !slices.Equal(got, []transfer.Kind{transfer.Stalled}) {
			t.Errorf("outcomes %v", got)
		}
	})
	t.Run("all fail in different ways", func(t *testing.T) {
		broken := serving(t, digest, memory{data: data, before: func(int64) error { return errors.New("disk") }}, transfer.Limits{})
		liar := serving(t, digest, memory{data: make([]byte, len(data))}, transfer.Limits{})
		into := newTarget(t, t.TempDir(), data)
		_, err := client(t, transfer.Config{}).Fetch(t.Context(), into.want, into.open, candidates(info(broken), info(liar)), nil)
		wantReason(t, err, shared.ReasonPeersFailed)
	})
	t.Run("a peer that breaks the protocol is named", func(t *testing.T) {
		babbler := loopbackHost(t)
		babbler.SetStreamHandler(transfer.Protocol, func(s network.Stream) {
			_, _ = s.Write(bytes.Repeat([]byte{0xff}, 100))
			_ = s.Close()
		})
		seen := &outcomes{}
		into := newTarget(t, t.TempDir(), data)
		_, err := client(t, transfer.Config{Observe: seen.observe}).Fetch(t.Context(), into.want, into.open, candidates(info(babbler)), nil)
		wantReason(t, err, shared.ReasonIntegrity)
		if got := seen.of(babbler.ID()); !slices.Equal(got, []transfer.Kind{transfer.Malformed}) {
			t.Errorf("outcomes %v", got)
		}
	})
	t.Run("a full disk is not the peers' fault", func(t *testing.T) {
		into := newTarget(t, t.TempDir(), data)
		small, err := store.Open(t.TempDir(), store.Options{MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		into.store = small
		seen := &outcomes{}
		_, err = client(t, transfer.Config{Observe: seen.observe}).Fetch(t.Context(), into.want, into.open, candidates(info(serving(t, digest, good, transfer.Limits{}))), nil)
		wantReason(t, err, shared.ReasonStorageFull)

		failing := &failingSink{Sink: must(newTarget(t, t.TempDir(), data).open())}
		_, err = client(t, transfer.Config{Observe: seen.observe}).Fetch(t.Context(), into.want, func() (transfer.Sink, error) { return failing, nil }, candidates(info(serving(t, digest, good, transfer.Limits{}))), nil)
		wantReason(t, err, shared.ReasonStorageFull)
		if !failing.closed.Load() {
			t.Error("the sink was not closed")
		}
		for _, o := range seen.all {
			if o.Kind != transfer.Delivered {
				t.Errorf("outcome %+v", o)
			}
		}
	})
	t.Run("nonsense is refused", func(t *testing.T) {
		into := newTarget(t, t.TempDir(), data)
		for _, want := range []transfer.Want{{"x", 1}, {digest, -1}} {
			_, err := client(t, transfer.Config{}).Fetch(t.Context(), want, into.open, candidates(), nil)
			wantReason(t, err, shared.ReasonInvalidArgument)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// failingSink has room for five chunks.
type failingSink struct {
	transfer.Sink
	written atomic.Int32
	closed  atomic.Bool
}

func (s *failingSink) Write(i int, data []byte) error {
	if s.written.Add(1) > 5 {
		return shared.NewError(shared.ReasonStorageFull, "no space left")
	}
	return s.Sink.Write(i, data)
}

func (s *failingSink) Close() error {
	s.closed.Store(true)
	return s.Sink.Close()
}

func TestCallersShareOneDownload(t *testing.T) {
	data := content(12 * chunkSize)
	digest := shared.DigestOf(data)
	gate := make(chan struct{})
	var reads atomic.Int32
	server := serving(t, digest, memory{data: data, before: func(off int64) error {
		reads.Add(1)
		if off >= 4*chunkSize {
			<-gate
		}
		return nil
	}}, transfer.Limits{})
	c := client(t, transfer.Config{StallTimeout: time.Hour})
	into := newTarget(t, t.TempDir(), data)
	first, leave := context.WithCancel(t.Context())
	errs := make(chan error, 8)
	fetch := func(ctx context.Context) {
		_, err := c.Fetch(ctx, into.want, into.open, candidates(info(server)), nil)
		errs <- err
	}
	go fetch(first)
	eventually(t, "the server to hold back", func() bool { return reads.Load() >= 5 })
	for range 7 {
		go fetch(t.Context())
	}
	eventually(t, "everybody to wait", func() bool { return c.Waiting() == 8 })
	leave()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Fatalf("the first caller got %v", err)
	}
	close(gate)
	for range 7 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	into.mustHold(t)
	if into.opened.Load() != 1 || reads.Load() != 12 {
		t.Errorf("%d sinks were opened and %d chunks read", into.opened.Load(), reads.Load())
	}
}

func TestTheLastCallerEndsTheDownload(t *testing.T) {
	data := content(12 * chunkSize)
	digest := shared.DigestOf(data)
	gate := make(chan struct{})
	var reads atomic.Int32
	server := serving(t, digest, memory{data: data, before: func(off int64) error {
		if reads.Add(1) > 4 {
			<-gate
		}
		return nil
	}}, transfer.Limits{})
	t.Cleanup(func() { close(gate) })
	c := client(t, transfer.Config{StallTimeout: time.Hour})
	into := newTarget(t, t.TempDir(), data)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Fetch(ctx, into.want, into.open, candidates(info(server)), nil)
		done <- err
	}()
	eventually(t, "the server to hold back", func() bool { return reads.Load() > 4 })
	cancel()
	wantReason(t, <-done, shared.ReasonCanceled)
	t.Run("and a new one goes on where it was", func(t *testing.T) {
		other := serving(t, digest, memory{data: data}, transfer.Limits{})
		stats, err := c.Fetch(t.Context(), into.want, into.open, candidates(info(other)), nil)
		if err != nil || stats.Resumed == 0 || stats.Resumed+stats.Fetched != int64(len(data)) {
			t.Fatalf("%+v, %v", stats, err)
		}
		into.mustHold(t)
	})
}

func TestCloseEndsDownloads(t *testing.T) {
	data := content(2 * chunkSize)
	gate := make(chan struct{})
	server := serving(t, shared.DigestOf(data), memory{data: data, before: func(int64) error { <-gate; return nil }}, transfer.Limits{})
	t.Cleanup(func() { close(gate) })
	c := client(t, transfer.Config{StallTimeout: time.Hour})
	into := newTarget(t, t.TempDir(), data)
	done := make(chan error, 1)
	go func() {
		_, err := c.Fetch(t.Context(), into.want, into.open, candidates(info(server)), nil)
		done <- err
	}()
	eventually(t, "the download to begin", func() bool { return into.opened.Load() == 1 })
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, <-done, shared.ReasonCanceled)
	_, err := c.Fetch(t.Context(), into.want, into.open, candidates(info(server)), nil)
	wantReason(t, err, shared.ReasonCanceled)
}

func TestFetchBlobs(t *testing.T) {
	data := content(3*chunkSize + 5)
	digest, size := shared.DigestOf(data), int64(len(data))
	const limit = 8 << 20
	honest := serving(t, digest, memory{data: data}, transfer.Limits{})
	check := func(t *testing.T, c *transfer.Client, peers ...peer.AddrInfo) {
		t.Helper()
		got, stats, err := c.FetchBlobs(t.Context(), []transfer.Want{{digest, size}}, limit, candidates(peers...))
		if err != nil || !bytes.Equal(got[0], data) || stats.Fetched != size {
			t.Fatalf("%d bytes, %v", stats.Fetched, err)
		}
	}
	t.Run("from one peer", func(t *testing.T) { check(t, client(t, transfer.Config{}), info(honest)) })
	t.Run("past a liar", func(t *testing.T) {
		liar := serving(t, digest, memory{data: make([]byte, size)}, transfer.Limits{})
		short := serving(t, digest, memory{data: data[:10]}, transfer.Limits{})
		seen := &outcomes{}
		check(t, client(t, transfer.Config{Observe: seen.observe}), info(liar), info(short), info(honest))
		for _, h := range []peer.ID{liar.ID(), short.ID()} {
			if got := seen.of(h); !slices.Equal(got, []transfer.Kind{transfer.WrongContent}) {
				t.Errorf("outcomes %v", got)
			}
		}
	})
	t.Run("past one that is silent", func(t *testing.T) {
		gate := make(chan struct{})
		silent := serving(t, digest, memory{data: data, before: func(int64) error { <-gate; return nil }}, transfer.Limits{})
		t.Cleanup(func() { close(gate) })
		check(t, client(t, transfer.Config{StallTimeout: time.Hour}), info(silent), info(honest))
	})
	t.Run("an empty one needs nobody", func(t *testing.T) {
		got, _, err := client(t, transfer.Config{}).FetchBlobs(t.Context(), []transfer.Want{{shared.DigestOf(nil), 0}}, limit, candidates())
		if err != nil || len(got) != 1 || len(got[0]) != 0 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("a size over the limit is refused", func(t *testing.T) {
		_, _, err := client(t, transfer.Config{}).FetchBlobs(t.Context(), []transfer.Want{{digest, limit - 1}, {digest, 2}}, limit, candidates(info(honest)))
		wantReason(t, err, shared.ReasonLimitExceeded)
	})
	t.Run("nobody has it", func(t *testing.T) {
		_, _, err := client(t, transfer.Config{}).FetchBlobs(t.Context(), []transfer.Want{{digest, size}, {shared.DigestOf([]byte("else")), 4}}, limit, candidates(info(honest)))
		wantReason(t, err, shared.ReasonUnavailable)
	})
}
