package netblock_test

import (
	"fmt"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/p2p/netblock"
)

func TestOf(t *testing.T) {
	for _, tc := range []struct {
		addrs []string
		want  string
	}{
		{[]string{"/ip4/8.8.4.4/tcp/1"}, "[8.8.4.0/24 8.8.0.0/16]"},
		{[]string{"/ip4/8.8.4.4/tcp/1", "/ip4/8.8.4.5/udp/1/quic-v1"}, "[8.8.4.0/24 8.8.0.0/16]"},
		{[]string{"/ip6/2a00:1:2:3::4/tcp/1"}, "[2a00:1:2::/48 2a00:1::/32]"},
		{[]string{"/ip4/10.1.2.3/tcp/1", "/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip4/192.168.1.1/tcp/1"}, "[]"},
		{nil, "[]"},
	} {
		var addrs []ma.Multiaddr
		for _, s := range tc.addrs {
			addr, err := ma.NewMultiaddr(s)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, addr)
		}
		blocks := netblock.Of(addrs)
		if got := fmt.Sprint(blocks); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.addrs, got, tc.want)
		}
		for i, b := range blocks {
			if netblock.Small(b) != (i%2 == 0) {
				t.Errorf("%s small: %v", b, netblock.Small(b))
			}
		}
	}
}
