package popularity

import "net/netip"

const (
	// MaxHolders bounds what one lookup counts: what more there are changes nothing for
	// who looks for a package that many hold.
	MaxHolders = 128

	// maxPerBlock bounds the peers of one block of public addresses: a machine or two,
	// and a neighbour. Whoever wants to count more needs addresses of more networks.
	maxPerBlock = 3

	// blockIPv4 and blockIPv6 are the bits of a block's prefix: what one customer of a
	// hosting company is usually given.
	blockIPv4 = 24
	blockIPv6 = 48

	// maxPrivate bounds the peers without a public address, all together. In a private
	// network everybody is of one block; on the Internet anybody can say so.
	maxPrivate = 32
)

// Peer is a peer that says it holds something. Addresses are what it says of itself,
// and those that it was met at.
type Peer struct {
	ID        string
	Addresses []netip.Addr
}

// Count says how many peers are to be believed in: each once, at most 3 of one block of
// public addresses (/24 of IPv4, /48 of IPv6), at most 32 that have none, and at most
// [MaxHolders]. A peer is in all blocks that it has addresses of, so more of them never
// make it count more easily.
func Count(peers []Peer) (count int) {
	seen, private, blocks := map[string]bool{}, 0, map[netip.Prefix]int{}
	for _, p := range peers {
		if count == MaxHolders {
			break
		}
		if seen[p.ID] {
			continue
		}
		seen[p.ID] = true
		own := blocksOf(p.Addresses)
		if len(own) == 0 {
			if private < maxPrivate {
				private++
				count++
			}
			continue
		}
		full := false
		for block := range own {
			full = full || blocks[block] >= maxPerBlock
		}
		if full {
			continue
		}
		for block := range own {
			blocks[block]++
		}
		count++
	}
	return count
}

// blocksOf are the blocks of the public ones among addresses.
func blocksOf(addresses []netip.Addr) map[netip.Prefix]bool {
	blocks := map[netip.Prefix]bool{}
	for _, a := range addresses {
		a = a.Unmap().WithZone("")
		if !public(a) {
			continue
		}
		bits := blockIPv6
		if a.Is4() {
			bits = blockIPv4
		}
		block, _ := a.Prefix(bits) // never fails: the address has so many bits
		blocks[block] = true
	}
	return blocks
}

// sharedIPv4 is the address space that providers share among their customers (RFC 6598).
var sharedIPv4 = netip.MustParsePrefix("100.64.0.0/10")

// public tells whether an address may be one of the Internet.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !sharedIPv4.Contains(a)
}
