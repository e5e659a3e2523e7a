package popularity_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/popularity"
)

// at makes a peer for each text, which lists its addresses.
func at(addresses ...[]string) (peers []popularity.Peer) {
	for i, list := range addresses {
		p := popularity.Peer{ID: fmt.Sprint("peer", i)}
		for _, a := range list {
			p.Addresses = append(p.Addresses, netip.MustParseAddr(a))
		}
		peers = append(peers, p)
	}
	return peers
}

func many(n int, address func(i int) []string) (list [][]string) {
	for i := range n {
		list = append(list, address(i))
	}
	return list
}

func TestCount(t *testing.T) {
	for _, tc := range []struct {
		name  string
		peers []popularity.Peer
		want  int
	}{
		{"nobody", nil, 0},
		{"one twice", append(at([]string{"8.8.8.8"}), at([]string{"9.9.9.9"})...), 1},
		{"different networks", at([]string{"8.8.8.8"}, []string{"8.8.9.8"}, []string{"2001:db8:1::1"}), 3},
		{"one network of IPv4", at(many(50, func(i int) []string { return []string{fmt.Sprintf("203.0.113.%d", i)} })...), 3},
		{"one network of IPv6", at(many(50, func(i int) []string { return []string{fmt.Sprintf("2001:db8:1:%x::1", i)} })...), 3},
		{"IPv4 in IPv6", at(many(50, func(i int) []string { return []string{fmt.Sprintf("::ffff:203.0.%d.%d", i%2, i)} })...), 6},
		{"addresses of others beside the own", at(many(50, func(i int) []string { return []string{fmt.Sprintf("8.%d.8.8", i), "203.0.113.9"} })...), 3},
		{"private ones beside the own", at(many(50, func(i int) []string { return []string{fmt.Sprintf("10.%d.8.8", i), "203.0.113.9", "fe80::1%eth0"} })...), 3},
		{"a private network", at(many(20, func(i int) []string { return []string{fmt.Sprintf("192.168.1.%d", i)} })...), 20},
		{"a large private network", at(many(200, func(i int) []string { return []string{fmt.Sprintf("10.0.0.%d", i)} })...), 32},
		{"nothing that is public", at(many(200, func(i int) []string {
			return [][]string{nil, {"127.0.0.1"}, {"100.64.1.1"}, {"fd00::1"}, {"::1"}, {"0.0.0.0"}, {"224.0.0.1"}}[i%7]
		})...), 32},
		{"very many networks", at(many(250, func(i int) []string { return []string{fmt.Sprintf("8.8.%d.8", i)} })...), popularity.MaxHolders},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := popularity.Count(tc.peers); got != tc.want {
				t.Fatalf("got %d, want %d", got, tc.want)
			}
		})
	}
}

// TestCountIsBounded: whatever peers say of themselves, a network counts for three, and
// who comes in addition never makes others count less.
func TestCountIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		address := rapid.Custom(func(t *rapid.T) netip.Addr {
			b := rapid.SliceOfN(rapid.ByteRange(0, 3), 4, 4).Draw(t, "bytes")
			first := rapid.SampledFrom([]byte{8, 10, 127, 203}).Draw(t, "first")
			return netip.AddrFrom4([4]byte{first, b[1], b[2], b[3]})
		})
		peer := rapid.Custom(func(t *rapid.T) popularity.Peer {
			return popularity.Peer{ID: fmt.Sprint(rapid.IntRange(0, 500).Draw(t, "id")), Addresses: rapid.SliceOfN(address, 0, 3).Draw(t, "addresses")}
		})
		peers := rapid.SliceOfN(peer, 0, 300).Draw(t, "peers")
		networks, ids := map[netip.Addr]bool{}, map[string]bool{}
		for _, p := range peers {
			ids[p.ID] = true
			for _, a := range p.Addresses {
				if b := a.As4(); b[0] == 8 || b[0] == 203 {
					networks[netip.AddrFrom4([4]byte{b[0], b[1], b[2], 0})] = true
				}
			}
		}
		got := popularity.Count(peers)
		if most := min(3*len(networks)+32, len(ids), popularity.MaxHolders); got > most {
			t.Fatalf("%d peers of %d networks count as %d", len(ids), len(networks), got)
		}
		if fewer := popularity.Count(slices.Clone(peers[:len(peers)/2])); fewer > got {
			t.Fatalf("half of them count as %d, all as %d", fewer, got)
		}
	})
}
