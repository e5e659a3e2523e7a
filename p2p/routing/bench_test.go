package routing

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// neighbours is a directory that knows the farthest peers of every key.
type neighbours struct {
	noDirectory
	known []Known
}

func (n neighbours) Closest(_ [32]byte, count int) []Known { return n.known[:min(count, len(n.known))] }

// BenchmarkStep is what a lookup computes, without its directory and the network: it
// begins, and chooses twenty times whom to ask next.
func BenchmarkStep(b *testing.B) {
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	d, err := dht.New(h)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	var n neighbours
	for i := range farthest {
		addr, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/%d.1.1.1/tcp/4001", 11+i))
		if err != nil {
			b.Fatal(err)
		}
		n.known = append(n.known, Known{Peer: peer.ID(fmt.Sprint("peer ", i)), Addrs: []ma.Multiaddr{addr}, Expected: time.Duration(i%17+1) * time.Millisecond})
	}
	r := &Router{dht: d, directory: n, fanout: 5, concurrency: 10, perBlock: 3, paths: paths{peers: map[peer.ID]path{}}}
	for i := range 200 { // as many as some lookups leave
		r.paths.add(Known{Peer: peer.ID(fmt.Sprint("named ", i)), Addrs: n.known[0].Addrs})
	}
	i := 0
	for b.Loop() {
		l := r.newLookup(pb.Message_FIND_NODE, fmt.Append(nil, i))
		for range closest {
			l.next().asked = true
		}
		i++
	}
}
