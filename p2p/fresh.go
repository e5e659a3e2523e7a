package p2p

import (
	"context"
	"errors"
	"sync"
	"time"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

const (
	// askAgain is how long the answer to "is there a newer head?" is good for: gossip and
	// the exchange of catalogues bring news within a minute, this is the second opinion.
	askAgain = 10 * time.Minute

	// freshTimeout bounds one such question, and what it leads to.
	freshTimeout = 30 * time.Second

	// maxOpinions bounds the memory for when each publisher was asked about.
	maxOpinions = 4096
)

// asking is when the DHT was last asked about each publisher.
type asking struct {
	mu   sync.Mutex
	last map[shared.PublisherID]time.Time
}

// due tells whether it is time to ask, and takes it for asked.
func (a *asking) due(id shared.PublisherID, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.last[id]) < askAgain {
		return false
	}
	if a.last == nil || len(a.last) >= maxOpinions {
		a.last = map[shared.PublisherID]time.Time{}
	}
	a.last[id] = now
	return true
}

// secondOpinion asks the DHT for the newest head of a publisher whose package somebody
// is interested in, and fetches what it shows to be missing: the neighbours, who tell
// everything else, could keep it to themselves. Nobody waits for it.
func (e *Engine) secondOpinion(id shared.PublisherID) {
	if e.cfg.Light || id == e.ring.ID() || len(e.node.Connected()) == 0 || !e.asking.due(id, e.now()) {
		return
	}
	e.background(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, freshTimeout)
		defer cancel()
		for head, err := range e.findHeads(ctx, id) {
			if err != nil {
				if !errors.Is(err, shared.ReasonNotFound) && ctx.Err() == nil {
					e.log.DebugContext(ctx, "ask the DHT for a newer head", "publisher", id.Short(), "error", err)
				}
				return
			}
			e.takeHead(ctx, id, head)
		}
	})
}

// takeHead applies a head of the DHT, and asks the connected peers for the entries that
// it stands for until one has them.
func (e *Engine) takeHead(ctx context.Context, id shared.PublisherID, record []byte) {
	u, err := publisher.ParseUpdate(record)
	if err != nil {
		return // the codec has parsed it
	}
	if _, err := e.apply(u); !errors.Is(err, publisher.ErrGap) {
		return // nothing new, or a newer time for what is known, or a fork: all done
	}
	for _, p := range e.node.Connected() {
		held := e.catalog.Held(id)
		if _, err := e.replicate.Fetch(ctx, p, id, held); err != nil {
			continue // it does not have them, either
		}
		if e.catalog.Held(id) > held {
			return
		}
	}
	e.log.WarnContext(ctx, "the DHT knows a newer state of a publisher's log, and no connected peer has it", "publisher", id.Short())
}
