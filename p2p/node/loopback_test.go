package node

import (
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func TestOnlyLoopback(t *testing.T) {
	for text, want := range map[string]bool{
		"/ip4/127.0.0.1/tcp/1": true, "/p2p-circuit": true, "/ip4/192.168.0.2/tcp/1": false, "/ip6/::1/udp/1/quic-v1": true, "/ip4/0.0.0.0/tcp/1": false,
	} {
		addr, err := ma.NewMultiaddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := onlyLoopback([]ma.Multiaddr{addr}); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
