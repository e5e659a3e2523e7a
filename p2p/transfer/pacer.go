package transfer

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// slice is how many bytes are sent before it is somebody else's turn.
const slice = 16 << 10

// pacer shares a rate between peers: each of those that wait gets a slice in turn,
// however many streams it has.
type pacer struct {
	rate float64 // bytes a second

	mu      sync.Mutex // guards the fields below
	waiting map[peer.ID][]turn
	order   []peer.ID // of those that wait
	free    time.Time // when what was sent so far has passed

	wake chan struct{} // holds a token after somebody came
}

// turn is one slice that wants to be sent.
type turn struct {
	bytes int
	ready chan struct{}
}

func newPacer(bytesPerSecond int64) *pacer {
	return &pacer{rate: float64(bytesPerSecond), waiting: map[peer.ID][]turn{}, wake: make(chan struct{}, 1)}
}

// wait returns when p may send so many bytes, or false when closed is.
func (c *pacer) wait(p peer.ID, bytes int, closed <-chan struct{}) bool {
	t := turn{bytes, make(chan struct{})}
	c.mu.Lock()
	if len(c.waiting[p]) == 0 {
		c.order = append(c.order, p)
	}
	c.waiting[p] = append(c.waiting[p], t)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	select {
	case <-t.ready:
		return true
	case <-closed:
		return false
	}
}

// run gives turns until closed is.
func (c *pacer) run(closed <-chan struct{}) {
	for {
		pause, given := c.next()
		if !given {
			select {
			case <-c.wake:
				continue
			case <-closed:
				return
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-closed:
			timer.Stop()
			return
		}
	}
}

// next gives the next turn, if there is one, and tells after which pause to come again.
func (c *pacer) next() (pause time.Duration, given bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.order) == 0 {
		return 0, false
	}
	p := c.order[0]
	t := c.waiting[p][0]
	c.order = c.order[1:]
	if rest := c.waiting[p][1:]; len(rest) > 0 {
		c.waiting[p] = rest
		c.order = append(c.order, p)
	} else {
		delete(c.waiting, p)
	}
	close(t.ready)
	now := time.Now()
	if c.free.Before(now) {
		c.free = now
	}
	c.free = c.free.Add(time.Duration(float64(t.bytes) / c.rate * float64(time.Second)))
	return c.free.Sub(now), true
}
