package p2p

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/popularity"
	"ggen.dev/marketplace/p2p/routing"
	"ggen.dev/marketplace/p2p/search"
	"ggen.dev/marketplace/shared"
)

const (
	// surveyed is how many of the first results of a search are looked up: whose place
	// among them matters, and few, since a lookup tells others what was searched for.
	surveyed = 5

	// fadeEvery is how often the ranking follows the estimates as they fade.
	fadeEvery = time.Hour
)

// keyOf tells a package apart for those who count its holders.
func keyOf(rel *catalog.Release) popularity.Package {
	return popularity.Package{Name: rel.Name, Publisher: rel.Publisher}
}

// lookUpHolders asks the DHT who has the newest release of a package.
func (e *Engine) lookUpHolders(ctx context.Context, p popularity.Package) (found []popularity.Peer, asked bool) {
	for _, pkg := range e.packagesOf(p.Name) {
		if pkg.Publisher != p.Publisher {
			continue
		}
		for info := range e.findProviders(ctx, pkg.Newest().Archive.Digest, routing.MaxProviders) {
			found = append(found, popularity.Peer{ID: info.ID.String(), Addresses: e.addressesOf(info)})
		}
		return found, len(found) > 0 || e.node.RoutingTableSize() > 0
	}
	return nil, false
}

// addressesOf are those that a peer is said to have, and those that it is met at.
func (e *Engine) addressesOf(info peer.AddrInfo) (addresses []netip.Addr) {
	all := slices.Clone(info.Addrs)
	for _, conn := range e.node.Host().Network().ConnsToPeer(info.ID) {
		all = append(all, conn.RemoteMultiaddr())
	}
	for _, address := range all {
		ip, err := manet.ToIP(address)
		if err != nil {
			continue // a name, which anybody can give himself
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// rank lets searches follow an estimate.
func (e *Engine) rank(p popularity.Package, about float64) { e.search.SetHolders(search.Key(p), about) }

// fadeHolders does so with all of them as time passes.
func (e *Engine) fadeHolders(ctx context.Context) {
	tick := time.NewTicker(fadeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, known := range e.holders.All() {
			e.rank(known.Package, known.About)
		}
	}
}

// aboutHeld is how many other peers hold a package, about; -1 if that is not known.
func (e *Engine) aboutHeld(p popularity.Package) int {
	about, ok := e.holders.Holders(p)
	if !ok {
		return -1
	}
	return int(math.Round(about))
}

// surveyResults has the first packages that a search has found looked up.
func (e *Engine) surveyResults(packages []shared.PackageSummary) {
	for _, found := range packages[:min(len(packages), surveyed)] {
		e.survey.Want(popularity.Package{Name: found.Name, Publisher: found.Publisher})
	}
}

// noteProviders notes who has given a release's content.
func (e *Engine) noteProviders(ctx context.Context, rel *catalog.Release, from []peer.ID) {
	names := make([]string, len(from))
	for i, id := range from {
		names[i] = id.String()
	}
	if err := e.holders.Provided(keyOf(rel), names); err != nil {
		e.log.WarnContext(ctx, "keep who has provided a package", "package", rel.Name, "error", err)
	}
}

// heldByReputable are the packages of which a holder is known whose reputation is at
// least so high; a holder that was never met has that of a stranger.
func (e *Engine) heldByReputable(least float64) map[search.Key]bool {
	held, scores := map[search.Key]bool{}, map[string]float64{}
	for _, known := range e.holders.All() {
		for _, id := range known.Peers {
			score, ok := scores[id]
			if !ok {
				score = e.reputation.Score(id).Total
				scores[id] = score
			}
			if score >= least {
				held[search.Key(known.Package)] = true
				break
			}
		}
	}
	return held
}
