package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"

	"ggen.dev/marketplace/shared"
)

// A bootstrap address /dnsaddr/<domain> stands for the peers that the domain names in
// TXT records at _dnsaddr.<domain> (the multiaddr specification, protocols/DNSADDR.md),
// so that a team moves its bootstrap peers without telling its users.
const (
	// resolveTimeout bounds the resolution of one such address, maxNamed the peers that
	// it may stand for, and maxNesting how often a name may point to another one.
	resolveTimeout = 5 * time.Second
	maxNamed       = 16
	maxNesting     = 4
)

// isName tells whether an address is to be resolved to peers.
func isName(address string) bool { return strings.HasPrefix(address, "/dnsaddr/") }

// parseName checks a /dnsaddr address. It may end in the ID of the only peer that is
// meant.
func parseName(s string) (ma.Multiaddr, error) {
	addr, err := ma.NewMultiaddr(s)
	if err != nil {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "bootstrap address %q: %w", s, err).
			WithHint("a name is written like /dnsaddr/bootstrap.example.org")
	}
	return addr, nil
}

// resolve finds the peers that a name stands for.
//
// Errors: TIMEOUT; NOT_FOUND when the name stands for no peer; CANCELED.
func (n *Node) resolve(ctx context.Context, name ma.Multiaddr) ([]peer.AddrInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var found []ma.Multiaddr
	asked := map[string]bool{}
	names := []ma.Multiaddr{name}
	var failure error
	for range maxNesting {
		var next []ma.Multiaddr
		for _, one := range names {
			if asked[one.String()] || len(asked) >= maxNamed {
				continue
			}
			asked[one.String()] = true
			answers, err := n.resolver.Resolve(ctx, one)
			if err != nil {
				failure = err
				continue
			}
			for _, answer := range answers[:min(len(answers), 4*maxNamed)] {
				if isName(answer.String()) {
					next = append(next, answer)
				} else {
					found = append(found, answer)
				}
			}
		}
		if names = next; len(names) == 0 {
			break
		}
	}
	var infos []peer.AddrInfo
	for _, addr := range found {
		if info, err := peer.AddrInfoFromP2pAddr(addr); err == nil && len(info.Addrs) > 0 {
			infos = append(infos, *info)
		}
	}
	infos = mergeByPeer(infos)
	switch {
	case len(infos) > 0:
		return infos[:min(len(infos), maxNamed)], nil
	case ctx.Err() != nil:
		return nil, shared.NewError(shared.AsError(ctx.Err()).Reason, "resolve %s: no answer within %s", name, resolveTimeout).
			WithHint("does name resolution (DNS) work on this machine?")
	}
	if failure == nil {
		failure = errors.New("it has no dnsaddr= records that name a peer")
	}
	return nil, shared.NewError(shared.ReasonNotFound, "resolve %s: %w", name, failure).
		WithHint("the domain needs TXT records at _dnsaddr like dnsaddr=/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…")
}

// resolveAll resolves names for nobody who waits for the outcome.
func (n *Node) resolveAll(ctx context.Context, names []ma.Multiaddr, warn bool) (infos []peer.AddrInfo) {
	for _, name := range names {
		found, err := n.resolve(ctx, name)
		if err != nil && ctx.Err() == nil && warn {
			n.log.Warn("cannot resolve a bootstrap address", "error", err)
		}
		infos = append(infos, found...)
	}
	return infos
}

func newResolver(basic madns.BasicResolver) (*madns.Resolver, error) {
	if basic == nil {
		return madns.DefaultResolver, nil
	}
	resolver, err := madns.NewResolver(madns.WithDefaultResolver(basic))
	if err != nil {
		return nil, fmt.Errorf("name resolution: %w", err)
	}
	return resolver, nil
}
