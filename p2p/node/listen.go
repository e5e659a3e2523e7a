package node

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/shared"
)

// maxListen bounds the listening addresses; each holds a socket.
const maxListen = 32

// DefaultListen is every IPv4 interface, TCP and QUIC, on ports that the system
// chooses once and the node then keeps.
func DefaultListen() []string {
	return []string{"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"}
}

// Addresses are the full addresses by which this node can be dialled, ending in
// /p2p/<peer ID>: those of its interfaces, loopback included, and those at which
// other peers have seen it, sorted. Unspecified addresses (0.0.0.0) are expanded.
func (n *Node) Addresses() []string {
	addrs, err := n.host.Network().InterfaceListenAddresses()
	if err != nil {
		addrs = nil // the host's own view below has them too
	}
	addrs = append(slices.Clone(addrs), n.host.Addrs()...)
	var full []string
	for _, addr := range addrs {
		s := addr.String() + "/p2p/" + n.host.ID().String()
		if !strings.HasPrefix(s, "/p2p-circuit/") && !slices.Contains(full, s) { // which is through any relay that there may be
			full = append(full, s)
		}
	}
	slices.Sort(full)
	return full
}

func parseListen(addrs []string) ([]ma.Multiaddr, error) {
	if len(addrs) > maxListen {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%d addresses to listen on; %d are allowed", len(addrs), maxListen)
	}
	var parsed []ma.Multiaddr
	for _, s := range addrs {
		addr, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, shared.NewError(shared.ReasonInvalidArgument, "cannot listen on %q: %w", s, err).WithHint("%s", listenHint)
		}
		if _, err := addr.ValueForProtocol(ma.P_P2P); err == nil {
			return nil, shared.NewError(shared.ReasonInvalidArgument, "cannot listen on %q: it names a peer", s).WithHint("%s", listenHint)
		}
		parsed = append(parsed, addr)
	}
	return parsed, nil
}

const listenHint = "write it like /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1"

// listener is the part of libp2p's swarm that listens on one address. Its
// Listen for several succeeds when one of them does, which hides a port in use.
type listener interface {
	AddListenAddr(addr ma.Multiaddr) error
	ListenAddresses() []ma.Multiaddr
}

// listenOn listens on all addresses. An address with port 0 gets the port that
// last says it had, unless somebody else has that now. It returns what each
// address with port 0 became.
func listenOn(h host.Host, addrs, last []ma.Multiaddr) (ports []ma.Multiaddr, err error) {
	network, ok := h.Network().(listener)
	if !ok {
		return nil, shared.NewError(shared.ReasonInternal, "listen: %T cannot listen", h.Network())
	}
	for _, addr := range addrs {
		before := network.ListenAddresses()
		if err := listenAgain(network, addr, last); err != nil {
			return nil, listenError(addr, err)
		}
		if !portIsFree(addr) {
			continue
		}
		for _, now := range network.ListenAddresses() {
			if !ma.Contains(before, now) && withoutPort(now) == withoutPort(addr) {
				ports = append(ports, now)
			}
		}
	}
	return ports, nil
}

func listenAgain(network listener, addr ma.Multiaddr, last []ma.Multiaddr) error {
	if portIsFree(addr) {
		for _, old := range last {
			if withoutPort(old) == withoutPort(addr) && network.AddListenAddr(old) == nil {
				return nil
			}
		}
	}
	return network.AddListenAddr(addr)
}

func listenError(addr ma.Multiaddr, err error) error {
	if errors.Is(err, swarm.ErrNoTransport) {
		return shared.NewError(shared.ReasonInvalidArgument, "cannot listen on %s: only TCP and QUIC are spoken", addr).WithHint("%s", listenHint)
	}
	return shared.NewError(shared.ReasonAddressInUse, "listen on %s: %w", addr, err).
		WithHint("stop whoever uses that port, choose another address with --listen, or let the system choose with port 0").
		With("address", addr.String())
}

var portPattern = regexp.MustCompile(`/(tcp|udp)/\d+`)

// withoutPort is the address as text with its port set to 0, to compare by.
func withoutPort(addr ma.Multiaddr) string {
	return portPattern.ReplaceAllString(addr.String(), "/$1/0")
}

// portIsFree tells whether the system may choose the port.
func portIsFree(addr ma.Multiaddr) bool {
	return withoutPort(addr) == addr.String()
}
