package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/shared"
)

// hedges is how many peers are asked for a small blob at once, when the first ones
// are slow or do not have it. Each that sends costs the blob's size in memory.
const hedges = 4

// FetchBlob fetches a small blob of a known size into memory: one peer is asked
// for all of it, and one more whenever nothing arrives for a while; the first
// that delivers verified content wins. The result is shared with other callers
// and must not be changed.
//
// Errors: LIMIT_EXCEEDED if size is over maxBytes; UNAVAILABLE, PEERS_FAILED,
// TIMEOUT, INTEGRITY as for [Client.Fetch]; CANCELED, DEADLINE_EXCEEDED.
func (c *Client) FetchBlob(ctx context.Context, digest shared.Digest, size, maxBytes int64, peers Candidates) ([]byte, error) {
	if _, err := shared.ParseDigest(string(digest)); err != nil {
		return nil, err
	}
	switch {
	case size < 0 || peers == nil:
		return nil, shared.NewError(shared.ReasonInvalidArgument, "fetch %s: a size of %d bytes, or no source of peers", digest, size)
	case size > maxBytes:
		return nil, shared.NewError(shared.ReasonLimitExceeded, "fetch %s: it has %d bytes; %d are allowed", digest, size, maxBytes).
			With("limit", fmt.Sprint(maxBytes)).With("value", fmt.Sprint(size))
	case size == 0:
		if digest != shared.DigestOf(nil) {
			return nil, shared.NewError(shared.ReasonInvalidArgument, "fetch %s: it cannot be empty", digest)
		}
		return nil, nil
	}
	key := fmt.Sprintf("memory %s %d", digest, size)
	f, err := c.share(ctx, key, digest, nil, func(ctx context.Context, f *flight) error {
		b := &blobFetch{client: c, digest: digest, size: size, done: make(chan struct{}), moved: make(chan struct{}, 1)}
		crew := crew{client: c, limit: 1, most: hedges, work: b.work, done: b.done, moved: b.moved}
		crew.run(ctx, peers)
		if b.data == nil {
			return verdict(digest, crew.failed)
		}
		f.data = b.data
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f.data, nil
}

type blobFetch struct {
	client *Client
	digest shared.Digest
	size   int64
	moved  chan struct{}

	won  sync.Once
	data []byte // set before done is closed
	done chan struct{}
}

func (b *blobFetch) work(ctx context.Context, p peer.AddrInfo) *failure {
	return b.client.persist(ctx, func() (bool, *failure) {
		fail := b.attempt(ctx, p)
		if fail != nil && ctx.Err() == nil {
			b.client.cfg.Observe(Outcome{Peer: p.ID, Kind: fail.kind})
		}
		return false, fail
	})
}

func (b *blobFetch) attempt(ctx context.Context, p peer.AddrInfo) (fail *failure) {
	s, fail := b.client.dial(ctx, p)
	if fail != nil {
		return fail
	}
	stop := context.AfterFunc(ctx, func() { _ = s.stream.Reset() }) // makes reading end
	defer func() { s.close(stop() && fail == nil) }()

	var pending []request // sent and not answered, after those that are not sent
	var firstByte time.Duration
	started := time.Now()
	sum := b.digest.Sum()
	data := make([]byte, 0, min(b.size, MaxRange)) // grows as it arrives
	for next := int64(0); int64(len(data)) < b.size; {
		var batch []request
		for ; next < b.size && len(pending)+len(batch) < maxWindow; next += MaxRange {
			batch = append(batch, request{zstd: !s.local, sum: sum, offset: next, length: int(min(MaxRange, b.size-next))})
		}
		if len(batch) > 0 {
			if fail := s.send(batch...); fail != nil {
				return fail
			}
			pending = append(pending, batch...)
		}
		piece, arrived, fail := s.receive(pending[0])
		if fail != nil {
			return fail
		}
		if firstByte == 0 {
			firstByte = arrived.Sub(started)
		}
		pending = pending[1:]
		data = append(data, piece...)
		select {
		case b.moved <- struct{}{}:
		default:
		}
	}
	if shared.DigestOf(data) != b.digest {
		return &failure{peer: p.ID, kind: WrongContent, cause: errors.New("it sent content that does not match")}
	}
	b.client.cfg.Observe(Outcome{Peer: p.ID, Kind: Delivered, Bytes: b.size, Took: time.Since(started), FirstByte: firstByte})
	b.won.Do(func() {
		b.data = data
		close(b.done)
	})
	return nil
}
