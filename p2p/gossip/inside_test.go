package gossip

import (
	"testing"

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
