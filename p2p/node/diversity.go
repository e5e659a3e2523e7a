package node

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p-kbucket/peerdiversity"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/p2p/netblock"
)

const (
	// perBucketBlock and perTableBlock are how many peers of one customer's network block
	// (IPv4 /24, IPv6 /48) a bucket and the whole routing table hold, perTableNetwork how
	// many of a provider's (/16, /32). Whoever wants to be all that a node knows must have
	// addresses in many networks; an honest bucket of 20 has hardly ever two neighbours.
	perBucketBlock  = 2
	perTableBlock   = 4
	perTableNetwork = 64
)

// diversity keeps the routing table from being filled by one owner (the eclipse attack
// on Kademlia; Heilman et al., USENIX Security 2015, for its form on Bitcoin). It is
// not the library's own filter because that counts a private network, in which all
// peers are ours, as one block.
type diversity struct {
	host host.Host

	mu      sync.Mutex // guards the fields below
	peers   map[peer.ID]diversePeer
	table   map[netip.Prefix]int
	buckets map[bucketBlock]int
}

type diversePeer struct {
	bucket int // the bits that its key has in common with ours
	blocks []netip.Prefix
}

type bucketBlock struct {
	bucket int
	block  netip.Prefix
}

var _ peerdiversity.PeerIPGroupFilter = (*diversity)(nil)

func newDiversity(h host.Host) *diversity {
	return &diversity{host: h, peers: map[peer.ID]diversePeer{}, table: map[netip.Prefix]int{}, buckets: map[bucketBlock]int{}}
}

// Allow implements peerdiversity.PeerIPGroupFilter: it is asked for each address of a
// peer that would come into the table.
func (d *diversity) Allow(g peerdiversity.PeerGroupInfo) bool {
	blocks := netblock.Of(d.PeerAddresses(g.Id))
	d.mu.Lock()
	defer d.mu.Unlock()
	return !slices.ContainsFunc(blocks, func(b netip.Prefix) bool {
		if !netblock.Small(b) {
			return d.table[b] >= perTableNetwork
		}
		return d.table[b] >= perTableBlock || d.buckets[bucketBlock{g.Cpl, b}] >= perBucketBlock
	})
}

// Increment implements peerdiversity.PeerIPGroupFilter. A peer counts once, however
// many addresses it has.
func (d *diversity) Increment(g peerdiversity.PeerGroupInfo) {
	blocks := netblock.Of(d.PeerAddresses(g.Id))
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, counted := d.peers[g.Id]; counted {
		return
	}
	d.peers[g.Id] = diversePeer{g.Cpl, blocks}
	for _, b := range blocks {
		d.table[b]++
		d.buckets[bucketBlock{g.Cpl, b}]++
	}
}

// Decrement implements peerdiversity.PeerIPGroupFilter.
func (d *diversity) Decrement(g peerdiversity.PeerGroupInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peers[g.Id]
	delete(d.peers, g.Id)
	for _, b := range p.blocks {
		if d.table[b]--; d.table[b] == 0 {
			delete(d.table, b)
		}
		in := bucketBlock{p.bucket, b}
		if d.buckets[in]--; d.buckets[in] == 0 {
			delete(d.buckets, in)
		}
	}
}

// PeerAddresses implements peerdiversity.PeerIPGroupFilter: where the connections to a
// peer end, which it cannot make up.
func (d *diversity) PeerAddresses(p peer.ID) (addrs []ma.Multiaddr) {
	for _, conn := range d.host.Network().ConnsToPeer(p) {
		addrs = append(addrs, conn.RemoteMultiaddr())
	}
	return addrs
}
