package gossip

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestAFloodIsReportedOnce, and only of the neighbour that makes it.
func TestAFloodIsReportedOnce(t *testing.T) {
	var u useless
	reports := 0
	for range uselessBurst + floodAt + floodAt/2 {
		if _, flood := u.count("flooder"); flood {
			reports++
		}
	}
	if reports != 1 {
		t.Fatalf("reported %d times", reports)
	}
	if tolerable, flood := u.count(peer.ID("other")); !tolerable || flood {
		t.Fatal("one neighbour pays for another")
	}
}

// TestWhoCalmsDownBeginsAnew: what an honest peer hands over in excess now and then does not
// add up to a flood over months.
func TestWhoCalmsDownBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u useless
		for range 5 {
			for range uselessBurst + floodAt/2 {
				if tolerable, flood := u.count("busy"); !tolerable || flood {
					t.Fatal("taken for a flood")
				}
			}
			<-time.After(uselessBurst / uselessRate * time.Second)
		}
	})
}
