package replicate_test

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"ggen.dev/marketplace/p2p/replicate"
	"ggen.dev/marketplace/shared"
)

// liar is a catalogue that lies in one way.
type liar struct {
	*ledger
	heads func() iter.Seq[replicate.Head]
	since func(p shared.PublisherID, from int64) ([]byte, int64, error)
}

func (l liar) Heads() iter.Seq[replicate.Head] {
	if l.heads != nil {
		return l.heads()
	}
	return l.ledger.Heads()
}

func (l liar) Since(p shared.PublisherID, from int64, maxBytes int) ([]byte, int64, error) {
	if l.since != nil {
		return l.since(p, from)
	}
	return l.ledger.Since(p, from, maxBytes)
}

func TestLyingPeers(t *testing.T) {
	// Our own server hashes all heads of its catalogue, so there must be an end.
	plenty := func() iter.Seq[replicate.Head] {
		return func(yield func(replicate.Head) bool) {
			for i := range uint64(1 << 17) {
				var raw [32]byte
				binary.BigEndian.PutUint64(raw[:], i+1)
				if !yield(replicate.Head{Publisher: shared.PublisherID(hex.EncodeToString(raw[:])), Size: 1}) {
					return
				}
			}
		}
	}
	for _, tc := range []struct {
		name string
		liar liar
	}{
		{"heads without logs behind them", liar{heads: plenty}},
		{"entries of somebody else", liar{since: func(p shared.PublisherID, from int64) ([]byte, int64, error) {
			return append(binary.BigEndian.AppendUint64([]byte(p), uint64(from)), make([]byte, 32)...), 0, nil
		}}},
		{"old entries again and again", liar{heads: func() iter.Seq[replicate.Head] {
			return func(yield func(replicate.Head) bool) {
				for _, i := range sortedPublishers(500) {
					if !yield(headOf(i, 1000)) {
						return
					}
				}
			}
		}, since: func(p shared.PublisherID, _ int64) ([]byte, int64, error) {
			return append(binary.BigEndian.AppendUint64([]byte(p), 0), entry(p, 0)...), 500, nil
		}}},
		{"heads out of order", liar{heads: func() iter.Seq[replicate.Head] {
			return slices.Values([]replicate.Head{headOf("f"+publisherNo(1)[1:], 1), headOf("0"+publisherNo(2)[1:], 1)})
		}}},
		{"an impossible size", liar{heads: func() iter.Seq[replicate.Head] {
			return slices.Values([]replicate.Head{headOf(publisherNo(1), 1<<50)})
		}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			honest, server := newNode(t, replicate.Config{}), loopbackHost(t)
			tc.liar.ledger = newLedger()
			tc.liar.set(publisherNo(5), 3)
			r, err := replicate.New(server, tc.liar, replicate.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			connect(t, honest.host, server)
			stats, err := honest.Sync(t.Context(), server.ID())
			wantReason(t, err, shared.ReasonIntegrity)
			if honest.blamed.Load() != 1 {
				t.Errorf("blamed %d times", honest.blamed.Load())
			}
			if stats.Bytes > 4<<20 || stats.Updates > 700 {
				t.Errorf("the liar cost %+v", stats)
			}
		})
	}
	babble := func(name string, answer []byte, reason shared.Reason) {
		t.Run(name, func(t *testing.T) {
			honest, server := newNode(t, replicate.Config{Timeout: 200 * time.Millisecond}), loopbackHost(t)
			quit := make(chan struct{})
			server.SetStreamHandler(replicate.Protocol, func(s network.Stream) {
				_, _ = s.Write(answer)
				<-quit
				_ = s.Reset()
			})
			defer close(quit)
			connect(t, honest.host, server)
			_, err := honest.Sync(t.Context(), server.ID())
			wantReason(t, err, reason)
		})
	}
	huge := make([]byte, 64)
	_, _ = rand.Read(huge[5:])
	copy(huge, []byte{0xff, 0xff, 0xff, 0xff, 129})
	babble("a frame that is too large", huge, shared.ReasonIntegrity)
	babble("an empty frame", make([]byte, 8), shared.ReasonIntegrity)
	babble("an answer to another question", []byte{0, 0, 0, 1, 132}, shared.ReasonIntegrity)
	babble("same, and more", []byte{0, 0, 0, 2, 130, 1}, shared.ReasonIntegrity)
	babble("silence", nil, shared.ReasonTimeout)
	babble("a frame that never ends", []byte{0, 0, 1, 0, 129}, shared.ReasonTimeout)
}

func sortedPublishers(n int) (ids []shared.PublisherID) {
	for i := range n {
		ids = append(ids, publisherNo(i))
	}
	slices.Sort(ids)
	return ids
}
