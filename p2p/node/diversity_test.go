package node_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
)

// TestOneOwnerCannotFillTheRoutingTable holds that of 40 connected peers in one network
// block four are in the routing table at most, and that honest peers are not kept out.
func TestOneOwnerCannotFillTheRoutingTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.NewNetwork(t, p2ptest.Links{Streams: true})
		victim := p2ptest.Open(t, net.Config(t, 0, node.Config{DHTServer: true}))
		const sybils, honest = 40, 12
		for k := range sybils {
			cfg := net.Config(t, 1, node.Config{DHTServer: true, Bootstrap: victim.Addresses()})
			cfg.Listen = net.ListenIn(1, k)
			p2ptest.Open(t, cfg)
		}
		<-time.After(time.Minute)
		if size := victim.RoutingTableSize(); size == 0 || size > 4 {
			t.Errorf("%d of %d peers of one block are in the routing table", size, sybils)
		}
		for i := range honest {
			p2ptest.Open(t, net.Config(t, 2+i, node.Config{DHTServer: true, Bootstrap: victim.Addresses()}))
		}
		p2ptest.Eventually(t, "the honest peers in the routing table", func() bool { return victim.RoutingTableSize() >= honest })
	})
}
