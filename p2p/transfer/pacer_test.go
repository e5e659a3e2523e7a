package transfer

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestARateIsSharedByPeersAndNotByStreams has one peer with four streams beside one with
// one, in virtual time.
func TestARateIsSharedByPeersAndNotByStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 1 << 20
		p := newPacer(rate)
		closed := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() { p.run(closed) })
		var mu sync.Mutex
		sent := map[peer.ID]int{}
		for _, who := range []peer.ID{"greedy", "greedy", "greedy", "greedy", "modest"} {
			running.Go(func() {
				for p.wait(who, slice, closed) {
					mu.Lock()
					sent[who] += slice
					mu.Unlock()
				}
			})
		}
		<-time.After(10 * time.Second)
		mu.Lock()
		greedy, modest := sent["greedy"], sent["modest"]
		mu.Unlock()
		close(closed)
		running.Wait()
		if all := greedy + modest; all < 10*rate-2*slice || all > 10*rate+2*slice {
			t.Errorf("%d bytes were sent in 10 s at %d a second", all, rate)
		}
		if greedy-modest > 2*slice || modest-greedy > 2*slice {
			t.Errorf("four streams got %d bytes, one got %d", greedy, modest)
		}
	})
}

// TestAnIdleRateIsNotSaved lets time pass without anybody who wants to send.
func TestAnIdleRateIsNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(slice) // a turn a second
		closed := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() { p.run(closed) })
		<-time.After(time.Minute)
		started := time.Now()
		for range 4 {
			p.wait("one", slice, closed)
		}
		if took := time.Since(started); took != 3*time.Second {
			t.Errorf("four turns took %v", took)
		}
		close(closed)
		running.Wait()
	})
}
