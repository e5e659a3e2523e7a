package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.opentelemetry.io/otel/attribute"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/tracing"
)

// hedges is how many peers are asked for small blobs at once, when the first ones
// are slow or do not have them. Each that sends costs the blobs' size in memory.
const hedges = 4

// FetchBlobs fetches small blobs that belong together into memory: one peer is asked
// for all of them at once, so that they come in one round trip, and one more whenever
// nothing arrives for a while; the first that delivers all of them, verified, wins. The
// results, in the order of wants, are shared with other callers and must not be changed.
//
// Errors: LIMIT_EXCEEDED if they have over maxBytes together; UNAVAILABLE, PEERS_FAILED,
// TIMEOUT, INTEGRITY as for [Client.Fetch]; CANCELED, DEADLINE_EXCEEDED.
func (c *Client) FetchBlobs(ctx context.Context, wants []Want, maxBytes int64, peers Candidates) ([][]byte, Stats, error) {
	if len(wants) == 0 || peers == nil {
		return nil, Stats{}, shared.NewError(shared.ReasonInvalidArgument, "fetch nothing, or without a source of peers")
	}
	first, total, key := wants[0].Digest, int64(0), "memory"
	for _, w := range wants {
		if _, err := shared.ParseDigest(string(w.Digest)); err != nil {
			return nil, Stats{}, err
		}
		if w.Size < 0 || w.Size == 0 && w.Digest != shared.DigestOf(nil) {
			return nil, Stats{}, shared.NewError(shared.ReasonInvalidArgument, "fetch %s: it cannot have %d bytes", w.Digest, w.Size)
		}
		if total += w.Size; w.Size > maxBytes || total > maxBytes {
			return nil, Stats{}, shared.NewError(shared.ReasonLimitExceeded, "fetch %s: it has %d bytes; %d are allowed", w.Digest, total, maxBytes).
				With("limit", fmt.Sprint(maxBytes)).With("value", fmt.Sprint(total))
		}
		key += fmt.Sprintf(" %s %d", w.Digest, w.Size)
	}
	if total == 0 {
		return make([][]byte, len(wants)), Stats{}, nil
	}
	f, err := c.share(ctx, key, first, nil, func(ctx context.Context, f *flight) error {
		b := &blobFetch{client: c, wants: wants, size: total, done: make(chan struct{}), moved: make(chan struct{}, 1)}
		crew := crew{client: c, limit: 1, most: hedges, work: b.work, done: b.done, moved: b.moved}
		crew.run(ctx, peers)
		if b.data == nil {
			return verdict(first, crew.failed)
		}
		f.data, f.stats = b.data, Stats{Fetched: total, From: b.from}
		return nil
	})
	if err != nil {
		return nil, Stats{}, err
	}
	return f.data, f.stats, nil
}

type blobFetch struct {
	client *Client
	wants  []Want
	size   int64 // of all of them
	moved  chan struct{}

	won  sync.Once
	data [][]byte // set before done is closed, like from
	from []peer.ID
	done chan struct{}
}

func (b *blobFetch) work(ctx context.Context, p peer.AddrInfo) *failure {
	ctx, end := tracing.Start(ctx, "peer", attribute.String("peer", p.ID.String()), attribute.Int64("bytes", b.size))
	fail := b.client.persist(ctx, p.ID, func() (bool, *failure) {
		fail := b.attempt(ctx, p)
		if fail != nil && ctx.Err() == nil {
			b.client.cfg.Observe(ctx, Outcome{Peer: p.ID, Kind: fail.kind})
		}
		return false, fail
	})
	endSpan(ctx, end, fail)
	return fail
}

func (b *blobFetch) attempt(ctx context.Context, p peer.AddrInfo) (fail *failure) {
	s, fail := b.client.dial(ctx, p)
	if fail != nil {
		return fail
	}
	stop := context.AfterFunc(ctx, func() { _ = s.stream.Reset() }) // makes reading end
	defer func() { s.close(stop() && fail == nil) }()

	var queue []request // not sent yet; then pending, of which the answers are to come
	for _, w := range b.wants {
		for offset := int64(0); offset < w.Size; offset += MaxRange {
			queue = append(queue, request{zstd: !s.local, sum: w.Digest.Sum(), offset: offset, length: int(min(MaxRange, w.Size-offset))})
		}
	}
	var pending []request
	var firstByte time.Duration
	started := time.Now()
	all := make([]byte, 0, min(b.size, MaxRange)) // grows as it arrives
	for len(queue)+len(pending) > 0 {
		if n := min(maxWindow/MaxRange-len(pending), len(queue)); n > 0 {
			if fail := s.send(queue[:n]...); fail != nil {
				return fail
			}
			pending, queue = append(pending, queue[:n]...), queue[n:]
		}
		piece, arrived, fail := s.receive(pending[0])
		if fail != nil {
			return fail
		}
		if firstByte == 0 {
			firstByte = arrived.Sub(started)
		}
		pending = pending[1:]
		all = append(all, piece...)
		select {
		case b.moved <- struct{}{}:
		default:
		}
	}
	data := make([][]byte, len(b.wants))
	for i, w := range b.wants {
		data[i], all = all[:w.Size:w.Size], all[w.Size:]
		if shared.DigestOf(data[i]) != w.Digest {
			return &failure{peer: p.ID, kind: WrongContent, cause: errors.New("it sent content that does not match")}
		}
	}
	b.client.cfg.Observe(ctx, Outcome{Peer: p.ID, Kind: Delivered, Bytes: b.size, Took: time.Since(started), FirstByte: firstByte})
	b.won.Do(func() {
		b.data, b.from = data, []peer.ID{p.ID}
		close(b.done)
	})
	return nil
}
