package node_test

import (
	"errors"
	"fmt"
	"testing"

	madns "github.com/multiformats/go-multiaddr-dns"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

// TestNames holds that a bootstrap address can be a domain that names the peers.
func TestNames(t *testing.T) {
	first, second := p2ptest.Open(t, onLoopback(t, node.Config{})), p2ptest.Open(t, onLoopback(t, node.Config{}))
	gone := first.Addresses()[0]
	var endless []string
	for i := range 200 {
		endless = append(endless, fmt.Sprintf("dnsaddr=/dnsaddr/%d.endless.example", i))
	}
	resolver := &madns.MockResolver{TXT: map[string][]string{
		"_dnsaddr.team.example":      {"dnsaddr=" + first.Addresses()[0], "dnsaddr=/dnsaddr/more.team.example", "v=spf1 -all", "dnsaddr=nonsense"},
		"_dnsaddr.more.team.example": {"dnsaddr=" + second.Addresses()[0], "dnsaddr=/dnsaddr/team.example"},
		"_dnsaddr.moved.example":     {"dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/" + first.PeerID().String(), "dnsaddr=" + second.Addresses()[0]},
		"_dnsaddr.endless.example":   endless,
		"_dnsaddr.empty.example":     {"dnsaddr=/ip4/127.0.0.1/tcp/1"},
	}}
	t.Run("a node joins by a name", func(t *testing.T) {
		n := p2ptest.Open(t, onLoopback(t, node.Config{Bootstrap: []string{"/dnsaddr/team.example"}, Resolver: resolver}))
		p2ptest.Eventually(t, "both peers of the name", connected([]*node.Node{n}, 2))
	})
	n := p2ptest.Open(t, onLoopback(t, node.Config{Resolver: resolver}))
	for address, want := range map[string]struct {
		reason shared.Reason
		peers  []string
	}{
		"/dnsaddr/team.example":                                {"", []string{first.PeerID().String(), second.PeerID().String()}},
		"/dnsaddr/team.example/p2p/" + first.PeerID().String(): {"", []string{first.PeerID().String()}},
		"/dnsaddr/moved.example":                               {"", []string{first.PeerID().String(), second.PeerID().String()}},
		"/dnsaddr/endless.example":                             {shared.ReasonNotFound, nil},
		"/dnsaddr/empty.example":                               {shared.ReasonNotFound, nil},
		"/dnsaddr/unknown.example":                             {shared.ReasonNotFound, nil},
		"/dnsaddr":                                             {shared.ReasonInvalidArgument, nil},
		gone:                                                   {"", []string{first.PeerID().String()}},
	} {
		t.Run(address, func(t *testing.T) {
			outcome := n.Bootstrap(t.Context(), []string{address})[0]
			if want.reason != "" {
				if !errors.Is(outcome.Err, want.reason) {
					t.Fatalf("%v, want %s", outcome.Err, want.reason)
				}
				return
			}
			found := false
			for _, id := range want.peers {
				found = found || outcome.PeerID == id
			}
			if outcome.Err != nil || !found {
				t.Errorf("%+v", outcome)
			}
		})
	}
}
