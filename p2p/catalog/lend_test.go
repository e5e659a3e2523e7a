package catalog_test

import (
	"fmt"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p/publisher"
)

// TestLendingAsALogGrows proves each answer under the head that is in it, while the log
// goes on: else the asker would take an honest peer for a liar.
func TestLendingAsALogGrows(t *testing.T) {
	c, ring := open(t), newKey(t)
	publish(t, c, ring, release("tool", "1.0.0", "a"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			if _, _, err := c.Publish(ring, release("tool", fmt.Sprintf("2.%d.0", i), fmt.Sprint(i))); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for lent, growing := 0, true; growing; lent++ {
		select {
		case <-done:
			growing = false
		default:
		}
		p, err := c.Lend(ring.ID(), "tool", publisher.MaxUpdateSize)
		if err == nil {
			_, err = p.Verify(time.Now())
		}
		if err != nil {
			t.Errorf("answer %d: %v", lent, err)
			break
		}
	}
	<-done
}
