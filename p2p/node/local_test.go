package node_test

import (
	"net"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
)

// TestLocalNetwork holds that peers who know nobody find each other where multicast
// works, and that those of another network stay strangers.
func TestLocalNetwork(t *testing.T) {
	if !multicasts(t) {
		t.Skip("no interface passes multicast on here")
	}
	everywhere := func(network string) *node.Node {
		return p2ptest.Open(t, node.Config{
			Identity: p2ptest.Identity(t), Listen: []string{"/ip4/0.0.0.0/tcp/0"}, Network: network, Local: true,
		})
	}
	one, other, stranger := everywhere("local-test"), everywhere("local-test"), everywhere("local-test-2")
	p2ptest.Eventually(t, "the two to meet", connected([]*node.Node{one, other}, 1))
	if len(stranger.Connected()) > 0 || len(one.Connected()) > 1 {
		t.Error("peers of different networks have met")
	}
}

// multicasts tells whether a datagram to the group of mDNS comes back.
func multicasts(t *testing.T) bool {
	t.Helper()
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range interfaces {
		if one.Flags&net.FlagUp == 0 || one.Flags&net.FlagMulticast == 0 {
			continue
		}
		in, err := net.ListenMulticastUDP("udp4", &one, group)
		if err != nil {
			continue
		}
		defer func() { _ = in.Close() }()
		out, err := net.DialUDP("udp4", nil, group)
		if err != nil {
			continue
		}
		_, _ = out.Write([]byte("ggen test"))
		_ = out.Close()
		_ = in.SetReadDeadline(time.Now().Add(time.Second))
		if _, _, err := in.ReadFrom(make([]byte, 1500)); err == nil {
			return true
		}
	}
	return false
}
