package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
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

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) {
	if runAsDownloader() {
		return
	}
	goleak.VerifyTestMain(m)
}

const chunkSize = transfer.MaxRange

func newHost() (host.Host, error) {
	return libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(), libp2p.DisableMetrics())
}

func loopbackHost(tb testing.TB) host.Host {
	tb.Helper()
	h, err := newHost()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = h.Close() })
	return h
}

func info(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// content is repeatable and does not compress.
func content(size int) []byte {
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8)})
	_, _ = source.Read(data)
	return data
}

// memory is a blob that a test can tamper with.
type memory struct {
	data   []byte
	before func(off int64) error // may be nil
}

func (m memory) Size() int64  { return int64(len(m.data)) }
func (m memory) Close() error { return nil }
func (m memory) ReadAt(p []byte, off int64) (int, error) {
	if m.before != nil {
		if err := m.before(off); err != nil {
			return 0, err
		}
	}
	return bytes.NewReader(m.data).ReadAt(p, off)
}

// serving answers for one digest, whatever the blob is.
func serving(tb testing.TB, digest shared.Digest, blob transfer.Blob, limits transfer.Limits) host.Host {
	tb.Helper()
	h := loopbackHost(tb)
	server, err := transfer.Serve(h, func(d shared.Digest) (transfer.Blob, error) {
		if d != digest {
			return nil, fmt.Errorf("no %s: %w", d, fs.ErrNotExist)
		}
		return blob, nil
	}, limits)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = server.Close() })
	return h
}

func candidates(peers ...peer.AddrInfo) transfer.Candidates {
	return func(context.Context) iter.Seq[peer.AddrInfo] { return slices.Values(peers) }
}

// outcomes records what an observer hears.
type outcomes struct {
	mu  sync.Mutex
	all []transfer.Outcome
}

func (o *outcomes) observe(_ context.Context, outcome transfer.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, outcome)
}

func (o *outcomes) of(p peer.ID) (kinds []transfer.Kind) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, outcome := range o.all {
		if outcome.Peer == p {
			kinds = append(kinds, outcome.Kind)
		}
	}
	return kinds
}

func client(tb testing.TB, cfg transfer.Config) *transfer.Client {
	tb.Helper()
	c, err := transfer.NewClient(loopbackHost(tb), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// target is a store to download into.
type target struct {
	store  *store.Store
	want   transfer.Want
	chunks []shared.Digest
	opened atomic.Int32
}

func newTarget(tb testing.TB, dir string, data []byte) *target {
	tb.Helper()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	t := &target{store: s, want: transfer.Want{Digest: shared.DigestOf(data), Size: int64(len(data))}}
	for piece := range slices.Chunk(data, chunkSize) {
		t.chunks = append(t.chunks, shared.DigestOf(piece))
	}
	return t
}

func (t *target) open() (transfer.Sink, error) {
	t.opened.Add(1)
	p, err := t.store.Partial(t.want.Digest, t.want.Size, chunkSize, t.chunks)
	if err != nil {
		return nil, err
	}
	return &chunks{Partial: p, size: t.want.Size, missing: p.Missing()}, nil
}

// chunks is a download whose pieces are its missing chunks.
type chunks struct {
	*store.Partial
	size    int64
	missing []int
}

func (c *chunks) Missing() []transfer.Piece { return pieces(c.size, c.missing) }

func (c *chunks) Write(i int, data []byte) error { return c.WriteChunk(c.missing[i], data) }

// pieces are chunks of a blob.
func pieces(size int64, chunks []int) (all []transfer.Piece) {
	for _, i := range chunks {
		offset := int64(i) * chunkSize
		all = append(all, transfer.Piece{Offset: offset, Length: int(min(chunkSize, size-offset))})
	}
	return all
}

func (t *target) mustHold(tb testing.TB) {
	tb.Helper()
	if err := t.store.Verify(tb.Context(), t.want.Digest); err != nil {
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
