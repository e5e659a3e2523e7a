// Package netblock names the part of the internet that an address belongs to. One
// block usually has one owner, and identities cost nothing: whoever bounds what
// strangers can do counts blocks and not peers.
package netblock

import (
	"net/netip"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// The sizes of blocks in bits: what a customer gets, and what a provider has.
const (
	small4, small6 = 24, 48
	large4, large6 = 16, 32
)

// Small tells whether a block is as small as a customer's: IPv4 /24, IPv6 /48.
func Small(block netip.Prefix) bool {
	return block.Bits() == small4 && block.Addr().Is4() || block.Bits() == small6
}

// Of are the public blocks of addresses, small and large, each once. A private
// address, a name and a relay belong to none: who has only such ones is in a network
// of our own, or cannot be told from others by where it is.
func Of(addrs []ma.Multiaddr) (blocks []netip.Prefix) {
	for _, addr := range addrs {
		if !manet.IsPublicAddr(addr) {
			continue
		}
		ip, err := manet.ToIP(addr)
		if err != nil {
			continue
		}
		at, ok := netip.AddrFromSlice(ip)
		if !ok {
			continue
		}
		at = at.Unmap()
		sizes := [2]int{small4, large4}
		if at.Is6() {
			sizes = [2]int{small6, large6}
		}
		for _, size := range sizes {
			if b, err := at.Prefix(size); err == nil && !slices.Contains(blocks, b) {
				blocks = append(blocks, b)
			}
		}
	}
	return blocks
}
