package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"

	"ggen.dev/marketplace/shared"
)

const (
	// MaxBootstrap bounds the bootstrap addresses of a node and of one call.
	MaxBootstrap = 256

	// dialsAtOnce bounds parallel dials while joining. With 16, a hundred
	// remembered peers of which all are dead take at most 35 s.
	dialsAtOnce = 16

	// enough is how many connected members end the dialling of remembered peers:
	// more come by themselves, through the DHT. Bootstrap addresses are all dialled.
	enough = 8

	// Pauses between rounds of dialling while nobody is connected: they double
	// from the first to the longest, and each is shortened by up to half at random
	// so that peers that lost the same bootstrap node do not return in step.
	firstPause, longestPause = time.Second, time.Minute

	// Every so often, and up to half of that later, a node that has company dials a
	// few remembered peers that it is not connected to. Without that, two halves of a
	// network that was cut in two stay apart when it is whole again: each peer has
	// enough others on its side.
	reachOutEvery = 30 * time.Second
	reachOutTo    = 3
)

// Bootstrap dials every address and says what happened, in the order of addrs. A
// name (/dnsaddr/…) is reached when one of the peers is that it stands for.
// It runs at most 16 dials at once, each for at most 5 s. Addresses of one peer
// share a dial, and a peer that is connected already is not dialled again.
//
// Errors in an outcome: INVALID_ARGUMENT for an address that makes no sense, is
// the node's own, answers with another peer ID (metadata expected, actual) or
// belongs to another network; NOT_FOUND for a name that stands for nobody; TIMEOUT;
// NO_PEERS when nobody answers there;
// CANCELED and DEADLINE_EXCEEDED of ctx.
func (n *Node) Bootstrap(ctx context.Context, addrs []string) []shared.DialOutcome {
	outcomes := make([]shared.DialOutcome, len(addrs))
	meant := make([][]peer.AddrInfo, len(addrs)) // the peers that each address stands for
	var resolving errgroup.Group
	resolving.SetLimit(dialsAtOnce)
	for i, s := range addrs {
		outcomes[i].Address = s
		if i >= MaxBootstrap {
			outcomes[i].Err = shared.NewError(shared.ReasonLimitExceeded, "bootstrap address %d of %d; %d are allowed", i+1, len(addrs), MaxBootstrap)
			continue
		}
		resolving.Go(func() error {
			var err error
			if meant[i], err = n.peersOf(ctx, s); err != nil {
				outcomes[i].Err = shared.AsError(err)
			}
			return nil
		})
	}
	_ = resolving.Wait() // failures are kept for each address
	targets := mergeByPeer(slices.Concat(meant...))
	failures := make([]error, len(targets))
	took := make([]time.Duration, len(targets))
	var dials errgroup.Group
	dials.SetLimit(dialsAtOnce)
	for i, target := range targets {
		dials.Go(func() error {
			started := time.Now()
			failures[i] = n.dialNow(ctx, target)
			took[i] = time.Since(started)
			return nil
		})
	}
	_ = dials.Wait() // failures are kept for each peer
	for i := range outcomes {
		for k, info := range meant[i] { // the first that can be reached, or else the first
			at := slices.IndexFunc(targets, func(t peer.AddrInfo) bool { return t.ID == info.ID })
			if k > 0 && failures[at] != nil {
				continue
			}
			outcomes[i].PeerID, outcomes[i].Took = info.ID.String(), took[at]
			if outcomes[i].Err = dialError(outcomes[i].Address, info.ID, failures[at]); outcomes[i].Err == nil {
				break
			}
		}
	}
	return outcomes
}

// peersOf are the peers that a bootstrap address stands for: one, unless it is a name.
func (n *Node) peersOf(ctx context.Context, address string) ([]peer.AddrInfo, error) {
	if !isName(address) {
		info, err := parsePeerAddr(address)
		if err != nil {
			return nil, err
		}
		return []peer.AddrInfo{info}, nil
	}
	name, err := parseName(address)
	if err != nil {
		return nil, err
	}
	return n.resolve(ctx, name)
}

// stayJoined dials until somebody is connected, and again whenever nobody is.
func (n *Node) stayJoined(ctx context.Context) {
	pause := firstPause
	reach := time.NewTimer(reachOutEvery + rand.N(reachOutEvery/2))
	defer reach.Stop()
	for round := 0; ; round++ {
		if n.members.count() == 0 || round == 0 {
			n.dialAll(ctx, round)
		}
		started := time.Now()
		for n.members.count() > 0 {
			select {
			case <-ctx.Done():
				return
			case <-n.members.moved:
			case <-reach.C:
				n.reachOut(ctx)
				reach.Reset(reachOutEvery + rand.N(reachOutEvery/2))
			}
		}
		// A peer that connects and hangs up at once must not make us dial in a
		// tight loop: only a connection that lasted makes the next pause short.
		if time.Since(started) > longestPause {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, longestPause)
	}
}

// reachOut dials a few peers that were met before and are not connected.
func (n *Node) reachOut(ctx context.Context) {
	others := n.resolveAll(ctx, n.names, false)
	if finder := n.finder.Load(); finder != nil && n.members.count() < enough {
		others = append(others, (*finder)(ctx, 2*reachOutTo)...)
	}
	targets := slices.DeleteFunc(mergeByPeer(slices.Concat(n.bootstrap, others, n.known.list())), func(p peer.AddrInfo) bool {
		return p.ID == n.host.ID() || n.host.Network().Connectedness(p.ID) == network.Connected
	})
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	var dials errgroup.Group
	for _, target := range targets[:min(len(targets), reachOutTo)] {
		dials.Go(func() error {
			n.dialAndLog(ctx, target, false)
			return nil
		})
	}
	_ = dials.Wait() // what failed is logged
}

// dialAll dials the bootstrap addresses, the remembered peers, and those that names
// stand for.
func (n *Node) dialAll(ctx context.Context, round int) {
	named := make(chan []peer.AddrInfo, 1)
	var dials errgroup.Group
	dials.SetLimit(dialsAtOnce)
	dials.Go(func() error { // beside the others: name resolution may take its time
		named <- n.resolveAll(ctx, n.names, round == 0)
		return nil
	})
	dial := func(targets []peer.AddrInfo, asked int) { // the first asked were asked for by the user
		for i, target := range targets {
			if ctx.Err() != nil {
				break
			}
			if target.ID == n.host.ID() || i >= asked && n.members.count() >= enough {
				continue
			}
			dials.Go(func() error {
				n.dialAndLog(ctx, target, i < asked && round == 0)
				return nil
			})
		}
	}
	dial(n.bootstrap, len(n.bootstrap))
	dial(n.known.list(), 0)
	found := <-named
	dial(found, len(found))
	_ = dials.Wait() // every dial has logged its own failure
}

// dialAndLog is dial for nobody who waits for the outcome. Only the first failure
// of what the user asked for is worth a warning.
func (n *Node) dialAndLog(ctx context.Context, target peer.AddrInfo, warn bool) {
	err := n.dial(ctx, target)
	switch {
	case err == nil, ctx.Err() != nil:
	case warn:
		n.log.Warn("cannot reach a bootstrap peer", "peer", target.ID.String(), "error", dialError(target.Addrs[0].String(), target.ID, err))
	default:
		n.log.Debug("cannot reach a peer", "peer", target.ID.String(), "error", err)
	}
}

// errSelf, errStranger and errHungUp are dials that must not or did not lead to a member.
var (
	errSelf     = errors.New("this is the node's own address")
	errStranger = errors.New("it does not speak this network's protocols")
	errHungUp   = errors.New("the peer there hung up at once")
)

// dialNow is dial, even when the last dials failed a moment ago.
func (n *Node) dialNow(ctx context.Context, target peer.AddrInfo) error {
	if s, ok := n.host.Network().(interface{ Backoff() *swarm.DialBackoff }); ok {
		s.Backoff().Clear(target.ID)
	}
	return n.dial(ctx, target)
}

// dial connects to a peer and waits until it is known to be a member.
func (n *Node) dial(ctx context.Context, target peer.AddrInfo) error {
	if target.ID == n.host.ID() {
		return errSelf
	}
	bounded, cancel := context.WithTimeout(network.WithDialPeerTimeout(ctx, dialTimeout), dialTimeout)
	defer cancel()
	before := n.host.Peerstore().Addrs(target.ID)
	if err := n.host.Connect(bounded, target); err != nil {
		for _, addr := range target.Addrs { // an address that failed must not slow down later dials
			if !ma.Contains(before, addr) {
				n.host.Peerstore().SetAddr(target.ID, addr, 0)
			}
		}
		return err
	}
	if err := n.awaitIdentify(bounded, target.ID); err != nil {
		return err
	}
	if !slices.ContainsFunc(n.host.Network().ConnsToPeer(target.ID), func(c network.Conn) bool { return !c.IsClosed() }) {
		return errHungUp // what it spoke when it was met before says nothing about now
	}
	if !n.members.speaks(target.ID) {
		_ = n.host.Network().ClosePeer(target.ID) // a stranger; it may have gone already
		return errStranger
	}
	return nil
}

// awaitIdentify waits until the peer has said which protocols it speaks.
func (n *Node) awaitIdentify(ctx context.Context, id peer.ID) error {
	h, ok := n.host.(interface{ IDService() identify.IDService })
	if !ok {
		return nil
	}
	for _, conn := range n.host.Network().ConnsToPeer(id) {
		select {
		case <-h.IDService().IdentifyWait(conn):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// dialError says what a failed dial of a peer means for one of its addresses.
func dialError(address string, want peer.ID, err error) *shared.Error {
	var mismatch sec.ErrPeerIDMismatch
	err = causeOf(address, err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errSelf):
		return shared.NewError(shared.ReasonInvalidArgument, "dial %s: %w", address, err)
	case errors.Is(err, errStranger):
		return shared.NewError(shared.ReasonInvalidArgument, "dial %s: a peer answers, but %w", address, err).
			WithHint("it is a peer of another network or program; compare the network names")
	case errors.Is(err, errHungUp):
		return shared.NewError(shared.ReasonNoPeers, "dial %s: %w", address, err).
			WithHint("it may be full, or let nobody in but the peers on its list (`p2p start --allow-peer` there)")
	case errors.As(err, &mismatch):
		return shared.NewError(shared.ReasonInvalidArgument, "dial %s: the peer there is %s and not %s", address, mismatch.Actual, want).
			WithHint("ask for the current address: `ggen marketplace p2p status` shows it there; if the ID should be right, somebody else answers in its place").
			With("expected", want.String()).With("actual", mismatch.Actual.String())
	case errors.Is(err, swarm.ErrGaterDisallowedConnection):
		return shared.NewError(shared.ReasonNoPeers, "dial %s: there are to be no connections with this peer: it is banned for a time, or not on the list of allowed ones", address).
			WithHint("`ggen marketplace p2p peer-info %s` shows a ban and its reason", want)
	case errors.Is(err, context.Canceled):
		return shared.NewError(shared.ReasonCanceled, "dial %s: %w", address, err)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return shared.NewError(shared.ReasonTimeout, "dial %s: no answer within %s", address, dialTimeout).
			WithHint("is the peer running, and can it be reached from here (firewall, NAT)?")
	}
	return shared.NewError(shared.ReasonNoPeers, "dial %s: %s", address, strings.Join(strings.Fields(err.Error()), " ")).
		WithHint("is the peer running there?")
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// causeOf picks the failure of one address out of those of all: libp2p also
// tries what it remembers of the peer.
func causeOf(address string, err error) error {
	var all *swarm.DialError
	if !errors.As(err, &all) {
		return err
	}
	for _, one := range all.DialErrors {
		if strings.HasPrefix(address, one.Address.String()+"/") {
			return one.Cause
		}
	}
	if len(all.DialErrors) == 1 {
		return all.DialErrors[0].Cause // of a name that was resolved, for example
	}
	return err
}

func parseBootstrap(addrs []string) (infos []peer.AddrInfo, names []ma.Multiaddr, err error) {
	if len(addrs) > MaxBootstrap {
		return nil, nil, shared.NewError(shared.ReasonInvalidArgument, "%d bootstrap addresses; %d are allowed", len(addrs), MaxBootstrap)
	}
	for _, s := range addrs {
		if isName(s) {
			name, err := parseName(s)
			if err != nil {
				return nil, nil, err
			}
			names = append(names, name)
			continue
		}
		info, err := parsePeerAddr(s)
		if err != nil {
			return nil, nil, err
		}
		infos = append(infos, info)
	}
	return infos, names, nil
}

// parsePeerAddr reads a multiaddr that ends in /p2p/<peer ID>.
func parsePeerAddr(s string) (peer.AddrInfo, error) {
	const hint = "a bootstrap address is written like /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…; `ggen marketplace p2p status` on that peer shows it"
	addr, err := ma.NewMultiaddr(s)
	if err != nil {
		return peer.AddrInfo{}, shared.NewError(shared.ReasonInvalidArgument, "bootstrap address %q: %w", s, err).WithHint("%s", hint)
	}
	info, err := peer.AddrInfoFromP2pAddr(addr)
	if err == nil && len(info.Addrs) == 0 {
		err = errors.New("it says who the peer is and not where")
	}
	if err != nil {
		return peer.AddrInfo{}, shared.NewError(shared.ReasonInvalidArgument, "bootstrap address %q: %w", s, err).WithHint("%s", hint)
	}
	return *info, nil
}

// mergeByPeer puts the addresses of one peer together, in order of appearance.
func mergeByPeer(infos []peer.AddrInfo) []peer.AddrInfo {
	var merged []peer.AddrInfo
	at := map[peer.ID]int{}
	for _, info := range infos {
		i, seen := at[info.ID]
		if !seen {
			at[info.ID] = len(merged)
			merged = append(merged, peer.AddrInfo{ID: info.ID, Addrs: slices.Clone(info.Addrs)})
			continue
		}
		for _, addr := range info.Addrs {
			if !ma.Contains(merged[i].Addrs, addr) {
				merged[i].Addrs = append(merged[i].Addrs, addr)
			}
		}
	}
	return merged
}
