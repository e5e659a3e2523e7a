package transfer

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// crew decides which peers work on a download, and when one more is needed.
type crew struct {
	client *Client
	limit  int // peers at work now; grows when nothing arrives
	most   int // limit's limit

	work   func(ctx context.Context, p peer.AddrInfo) *failure // nil: nothing is left to do
	done   <-chan struct{}                                     // closed when all is there, or nothing helps
	moved  <-chan struct{}                                     // a token after something arrived
	failed []*failure
}

// run puts candidates to work until done, until none is left, or until ctx ends.
// When it returns nobody works any more.
func (w *crew) run(ctx context.Context, from Candidates) {
	ctx, cancel := context.WithCancel(ctx)
	arriving := make(chan peer.AddrInfo)
	go w.client.pump(ctx, from, arriving)
	ended := make(chan *failure)
	active := 0
	beside := false // one more is at work because of a stranger; one is enough
	var waiting []peer.AddrInfo
	candidates := (<-chan peer.AddrInfo)(arriving)
	defer func() { // leave no goroutine behind
		cancel()
		for ; active > 0; active-- {
			if f := <-ended; f != nil {
				w.failed = append(w.failed, f)
			}
		}
		for p := range arriving {
			waiting = append(waiting, p) // not wanted any more
		}
	}()
	patience := w.client.cfg.HedgeAfter
	hedge := time.NewTimer(patience)
	defer hedge.Stop()
	for {
		for ; active < w.limit && len(waiting) > 0; waiting = waiting[1:] {
			p := waiting[0]
			active++
			go func() { ended <- w.work(ctx, p) }()
			expected := w.client.cfg.Expect(p.ID)
			if expected.Stranger && !beside {
				beside, w.limit = true, min(w.limit+1, w.most)
			}
			patience = w.client.patience(expected)
			hedge.Reset(patience)
		}
		if active == 0 && candidates == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-w.done:
			return
		case p, ok := <-candidates:
			if !ok {
				candidates = nil
				continue
			}
			waiting = append(waiting, p)
		case f := <-ended:
			active--
			if f != nil {
				w.failed = append(w.failed, f)
				if f.kind == Absent { // ask around faster; a refusal costs nothing
					w.limit = min(2*w.limit, w.most)
				}
			}
		case <-w.moved:
			hedge.Reset(patience)
		case <-hedge.C:
			w.limit = min(w.limit+1, w.most)
			hedge.Reset(patience)
		}
	}
}
