package node

import (
	"maps"
	"slices"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// TestRank: TCP goes first to a peer on this machine, and QUIC to all others.
func TestRank(t *testing.T) {
	const (
		tcpHere, quicHere   = "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1"
		tcpThere, quicThere = "/ip4/203.0.113.9/tcp/1", "/ip4/203.0.113.9/udp/1/quic-v1"
	)
	for _, tc := range []struct {
		addrs []string
		first []string // without delay
	}{
		{nil, nil},
		{[]string{quicHere, tcpHere}, []string{tcpHere}},
		{[]string{quicHere}, []string{quicHere}},
		{[]string{tcpThere, quicThere}, []string{quicThere}},
		// A relay on this machine is no way to be preferred to a direct one.
		{[]string{"/ip4/127.0.0.1/tcp/2/p2p/12D3KooWL84pyeccpRY6VkWtCvHoSmMgbPaGPNWnE96BAGvUfufX/p2p-circuit", quicThere}, []string{quicThere}},
		{[]string{"/ip6/::1/udp/1/quic-v1", "/ip6/::1/tcp/1", tcpThere, quicThere}, []string{"/ip6/::1/tcp/1", quicThere}},
	} {
		var addrs []ma.Multiaddr
		for _, a := range tc.addrs {
			addrs = append(addrs, ma.StringCast(a))
		}
		delays := map[string]time.Duration{}
		for _, r := range rank(addrs) {
			delays[r.Addr.String()] = r.Delay
		}
		if len(delays) != len(tc.addrs) {
			t.Errorf("%v: %v", tc.addrs, delays)
		}
		maps.DeleteFunc(delays, func(_ string, d time.Duration) bool { return d > 0 })
		if got := slices.Sorted(maps.Keys(delays)); !slices.Equal(got, slices.Sorted(slices.Values(tc.first))) {
			t.Errorf("%v: at once to %v, want %v", tc.addrs, got, tc.first)
		}
	}
}
