package p2p

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"ggen.dev/marketplace/shared"
)

// eventBuffer is how many events a watcher may lag behind before it loses some.
// An event is a few hundred bytes, so a stuck watcher costs about 100 KB.
const eventBuffer = 256

// feed hands events to every watcher without ever waiting for one.
type feed struct {
	mu       sync.Mutex // guards watchers and the lost counters in them
	watchers map[*watcher]struct{}
}

type watcher struct {
	events chan shared.Event
	lost   int
}

func newFeed() *feed { return &feed{watchers: map[*watcher]struct{}{}} }

func (f *feed) subscribe() *watcher {
	w := &watcher{events: make(chan shared.Event, eventBuffer)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers[w] = struct{}{}
	return w
}

func (f *feed) unsubscribe(w *watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watchers, w)
}

// publish offers ev to all watchers; one that is full loses it and is told how
// many it lost as soon as it has room again.
func (f *feed) publish(ev shared.Event) {
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		if w.lost > 0 && !w.offer(shared.Event{Kind: shared.EventLost, Time: ev.Time, Lost: w.lost}) {
			w.lost++
			continue
		}
		w.lost = 0
		if !w.offer(ev) {
			w.lost++
		}
	}
}

func (w *watcher) offer(ev shared.Event) bool {
	select {
	case w.events <- ev:
		return true
	default:
		return false
	}
}

// Watch delivers what happens from now on; see [shared.Marketplace].
func (e *Engine) Watch(ctx context.Context, query shared.WatchQuery, deliver func(shared.Event) error) error {
	w := e.feed.subscribe()
	defer e.feed.unsubscribe(w)
	for {
		select {
		case <-ctx.Done():
			return shared.AsError(ctx.Err())
		case <-e.closing.Done():
			return shared.NewError(shared.ReasonEngineDraining, "watch: the engine is stopping")
		case ev := <-w.events:
			if !wanted(query, ev) {
				continue
			}
			if err := deliver(ev); err != nil {
				return err
			}
		}
	}
}

// wanted tells whether the query selects the event. A notice of lost events
// always passes: nobody may believe to have seen everything.
func wanted(query shared.WatchQuery, ev shared.Event) bool {
	if ev.Kind == shared.EventLost {
		return true
	}
	if len(query.Kinds) > 0 && !slices.Contains(query.Kinds, ev.Kind) {
		return false
	}
	if ev.Kind != shared.EventRelease || query.Text == "" {
		return true
	}
	text := strings.ToLower(strings.Join(append([]string{ev.Package.Name, ev.Package.Description}, ev.Package.Tags...), " "))
	return !slices.ContainsFunc(strings.Fields(strings.ToLower(query.Text)), func(word string) bool {
		return !strings.Contains(text, word)
	})
}
