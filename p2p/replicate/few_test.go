package replicate

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/shared"
)

// fewLogs is a catalogue of two logs of three entries, which wants nothing.
type fewLogs struct{}

func (fewLogs) Heads() iter.Seq[Head] {
	return slices.Values([]Head{{publisherOf(1), 3, [32]byte{1}}, {publisherOf(2), 3, [32]byte{2}}})
}

func (fewLogs) Wants(Head) (int64, bool) { return 0, false }

func (fewLogs) Since(p shared.PublisherID, from int64, _ int) ([]byte, int64, error) {
	if p != publisherOf(1) || from > 3 {
		return nil, 0, fmt.Errorf("%s: %w", p, ErrNone)
	}
	return []byte("update"), 0, nil
}

func (fewLogs) Apply(context.Context, peer.ID, []byte) error { return nil }
