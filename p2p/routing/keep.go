package routing

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"ggen.dev/marketplace/shared"
)

const (
	// keepRate is how many records are announced per second. Each costs a lookup
	// and 20 messages, so 4 are about 150 small messages per second; a node with
	// 1,000 blobs is through in four minutes.
	keepRate = 4

	// keepAtOnce bounds announcements that wait for slow peers.
	keepAtOnce = 8

	// keepRetry is the pause before trying again when there was nobody to tell.
	keepRetry = time.Second

	// keepRepair is the pause before trying again when some records failed.
	keepRepair = 10 * time.Minute

	// keepSettle is the pause before announcing everything on request, so that
	// several requests are one.
	keepSettle = time.Second
)

// Kept is what a router keeps announced. Both sequences are read from one
// goroutine, slowly: they should not hold a lock between elements.
type Kept interface {
	// Heads are publishers and their newest head records.
	Heads() iter.Seq2[shared.PublisherID, []byte]
	// Digests are the blobs that this node serves.
	Digests() iter.Seq[shared.Digest]
}

// Refresh makes the router announce everything in Config.Keep soon, and not only
// when its time has come. It does not wait.
func (r *Router) Refresh() {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// keepAnnounced announces everything when the DHT can first be used, on request
// and every KeepEvery.
func (r *Router) keepAnnounced() {
	pause := time.Duration(0)
	for {
		select {
		case <-r.lifetime.Done():
			return
		case <-time.After(pause):
		case <-r.again:
			select {
			case <-r.lifetime.Done():
				return
			case <-time.After(keepSettle):
			}
			select { // requests of the meantime are served by this round
			case <-r.again:
			default:
			}
		}
		pause = r.announceAll(r.lifetime)
	}
}

// retryLater makes an announcement that failed be made up for with all others.
func (r *Router) retryLater(err error) error {
	if err != nil && !errors.Is(err, shared.ReasonInvalidArgument) {
		r.Refresh()
	}
	return err
}

// announceAll announces every kept record once and returns after which pause to
// do so again. It stops when nobody is there to be told.
func (r *Router) announceAll(ctx context.Context) time.Duration {
	if r.usable() != nil {
		return keepRetry
	}
	started := time.Now()
	var done, failed atomic.Int64
	var lost atomic.Bool
	var group errgroup.Group
	group.SetLimit(keepAtOnce)
	tick := time.NewTicker(time.Second / keepRate)
	defer tick.Stop()
	announce := func(put func() (int, error)) bool {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if lost.Load() {
			return false
		}
		group.Go(func() error {
			if _, err := put(); errors.Is(err, shared.ReasonNoPeers) {
				lost.Store(true)
			} else if err != nil {
				failed.Add(1)
			}
			done.Add(1)
			return nil
		})
		return true
	}
	for publisher, head := range r.keep.Heads() {
		if !announce(func() (int, error) { return r.putHead(ctx, publisher, head) }) {
			break
		}
	}
	for _, digest := range sweep(r.keep.Digests()) {
		if !announce(func() (int, error) { return r.provide(ctx, digest) }) {
			break
		}
	}
	_ = group.Wait() // failures are counted
	r.log.Debug("announced kept records", "records", done.Load(), "failed", failed.Load(), "took", time.Since(started))
	switch {
	case lost.Load():
		return keepRetry
	case failed.Load() > 0:
		return min(keepRepair, r.every)
	}
	return r.every
}

// sweep is the digests in the order of their places in the DHT's space: neighbours are
// kept by the same peers, who are known and connected then.
func sweep(digests iter.Seq[shared.Digest]) []shared.Digest {
	type placed struct {
		digest shared.Digest
		place  [32]byte
	}
	var all []placed
	for digest := range digests {
		if key, err := cidOf(digest); err == nil {
			all = append(all, placed{digest, keyOf(string(key.Hash()))})
		}
	}
	slices.SortFunc(all, func(a, b placed) int { return bytes.Compare(a.place[:], b.place[:]) })
	sorted := make([]shared.Digest, len(all))
	for i, one := range all {
		sorted[i] = one.digest
	}
	return sorted
}
