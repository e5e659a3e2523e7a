// Package node is this peer's place in the network: a libp2p host with its
// identity and its listening addresses, a private Kademlia DHT, a gossipsub
// router, and the peers it met before. The engine opens one node and builds
// routing, gossip, transfer and replication on top of it.
//
// It does not know packages, publishers or blobs. Which DHT records are valid is
// the caller's business ([Config.Validators]; package routing has them), which
// announcements are valid is package gossip's.
//
// Everything of one network is kept apart from other networks by its name: the
// DHT speaks /ggen/kad/1.0.0 in the network "ggen" and /ggen/<name>/kad/1.0.0 in
// any other, gossipsub speaks /ggen/<name>/meshsub/…, and a peer that speaks
// none of ours is no member and is never reported to anybody.
package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"

	"ggen.dev/marketplace/shared"
)

// DefaultNetwork is the network that a node joins unless it is told otherwise.
const DefaultNetwork = "ggen"

// Config describes a node. Identity is required; every other zero value has the
// documented default.
type Config struct {
	// Identity is the node's Ed25519 key, see [LoadOrCreateIdentity].
	Identity crypto.PrivKey
	// Listen are multiaddrs of TCP or QUIC (…/udp/N/quic-v1). Port 0 means the
	// port of the last run if it is free, else any. Default: [DefaultListen].
	Listen []string
	// Bootstrap are multiaddrs that end in /p2p/<peer ID>, or names of several peers like
	// /dnsaddr/bootstrap.example.org; at most [MaxBootstrap].
	Bootstrap []string
	// Resolver asks for such names. Default: the system's.
	Resolver madns.BasicResolver
	// DHTServer makes the node answer DHT queries always. Otherwise it does so
	// until it learns that other peers cannot reach it.
	DHTServer bool
	// DHTClient makes the node never answer DHT queries.
	DHTClient bool
	// AnswerReachability makes the node dial peers back that ask whether they are
	// reachable. It costs a second dialler, so only long-lived nodes should.
	AnswerReachability bool
	// Network is the network's name, by the rules of a package name.
	// Default: [DefaultNetwork].
	Network string
	// Version is the semver that other peers see in the agent name ggen/<version>.
	// Default: "0.0.0-dev".
	Version string
	// Comment is added to the agent name: ggen/<version> (<comment>). Default: none.
	Comment string
	// Local makes the node find members in the local network by multicast DNS, and be
	// found, unless it listens on loopback alone.
	Local bool
	// Secret makes the network private; see [Secret]. The zero value: it is open.
	Secret Secret
	// Allow are the only peers that may connect and are dialled. Empty: all.
	Allow []peer.ID
	// Refuse tells whom there is to be no connection with now. It is asked at every dial
	// and for every connection that comes in, concurrently, and must answer at once.
	// nil: nobody is refused.
	Refuse func(p peer.ID) bool
	// Validators decide which DHT values exist, by namespace (the first part of
	// the key, without slashes). A value of another namespace is refused.
	Validators map[string]record.Validator
	// Records is what [Node.Records] gave when the node ran last.
	Records []byte
	// PeersFile is where known peers and the last ports are remembered. Empty:
	// nothing is remembered.
	PeersFile string
	// Gossip is told of every announcement that comes and goes. nil: nobody is.
	Gossip pubsub.RawTracer
	// Options are applied after the node's own, for simulated transports.
	Options []libp2p.Option
	// DHTOptions are applied after the node's own, for measurements.
	DHTOptions []dht.Option
	// Logger is told what happens. Default: discards.
	Logger *slog.Logger
}

// Node is a peer in the network. All methods may be called concurrently. After
// Close the accessors still answer, with nobody connected.
type Node struct {
	network   string
	dhtProto  protocol.ID
	log       *slog.Logger
	host      host.Host
	dht       *dht.IpfsDHT
	usage     *usage
	useful    connmgr.DecayingTag // nil: nothing is noted
	relay     *relay.Relay        // nil: the host serves as one by itself, or not
	records   *recordStore
	values    *records.ValueStore
	pubsub    *pubsub.PubSub
	members   *members
	known     *known
	bootstrap []peer.AddrInfo
	local     string         // the service to look for in the local network; empty: none
	names     []ma.Multiaddr // bootstrap addresses that stand for several peers
	resolver  *madns.Resolver
	finder    atomic.Pointer[func(ctx context.Context, most int) []peer.AddrInfo]

	lifetime  context.Context // ends when Close begins
	cancel    context.CancelFunc
	running   sync.WaitGroup
	startOnce sync.Once
	closeOnce sync.Once
	closeErr  error
}

// Open makes the node and listens; it neither dials nor waits for anybody, so it
// takes a few milliseconds. Register stream handlers, topics and [Node.OnPeer],
// then call [Node.Start]. ctx bounds opening only.
//
// Errors: INVALID_ARGUMENT for a wrong address, network name or key;
// ADDRESS_IN_USE when an address cannot be listened on.
func Open(ctx context.Context, cfg Config) (_ *Node, err error) {
	if err := ctx.Err(); err != nil {
		return nil, shared.AsError(err)
	}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	listen, err := parseListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if cfg.Secret.key != nil {
		if listen, err = onlyTCP(listen); err != nil {
			return nil, err
		}
	}
	bootstrap, names, err := parseBootstrap(cfg.Bootstrap)
	if err != nil {
		return nil, err
	}

	n := &Node{network: cfg.Network, log: cfg.Logger, bootstrap: mergeByPeer(bootstrap), names: names}
	if n.resolver, err = newResolver(cfg.Resolver); err != nil {
		return nil, shared.NewError(shared.ReasonInternal, "open node: %w", err)
	}
	n.lifetime, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	n.known = loadKnown(cfg.PeersFile, cfg.Logger)
	candidates := &relayCandidates{ready: make(chan struct{})}
	if n.host, err = newHost(cfg, &n.usage, candidates); err != nil {
		return nil, shared.NewError(shared.ReasonInternal, "open node: %w", err)
	}
	n.useful = registerUseful(n.host.ConnManager())
	if cfg.DHTServer {
		if n.relay, err = serveRelay(n.host); err != nil {
			return nil, shared.NewError(shared.ReasonInternal, "open node: serve as a relay: %w", err)
		}
	}
	if n.dht, n.records, n.values, n.dhtProto, err = newDHT(n.host, cfg); err != nil {
		return nil, shared.NewError(shared.ReasonInternal, "open node: start DHT: %w", err)
	}
	//nolint:contextcheck // the router lives as long as the node, not as long as opening
	if n.pubsub, err = newPubSub(n.lifetime, n.host, cfg.Network, cfg.Gossip); err != nil {
		return nil, shared.NewError(shared.ReasonInternal, "open node: start gossip: %w", err)
	}
	if n.members, err = watchMembers(n.host, meshProtocols(cfg.Network)); err != nil {
		return nil, shared.NewError(shared.ReasonInternal, "open node: watch peers: %w", err)
	}
	candidates.host, candidates.members = n.host, n.members.list
	close(candidates.ready)
	// Listening comes last: the first peer that arrives finds all of the above.
	ports, err := listenOn(n.host, listen, n.known.ports())
	if err != nil {
		return nil, err
	}
	n.known.setPorts(ports)
	if cfg.Local && !onlyLoopback(n.host.Network().ListenAddresses()) {
		n.local = localService(cfg.Network, cfg.Secret)
	}
	n.running.Go(n.remember)
	n.running.Go(func() { n.closeIdle(n.lifetime) })
	return n, nil
}

// complete fills in defaults and checks what needs no parsing.
func (cfg *Config) complete() error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Network == "" {
		cfg.Network = DefaultNetwork
	}
	if cfg.Version == "" {
		cfg.Version = "0.0.0-dev"
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = DefaultListen()
	}
	if err := shared.CheckName(cfg.Network); err != nil {
		return shared.NewError(shared.ReasonInvalidArgument, "the network name %q is not allowed", cfg.Network).
			WithHint("a network is named like a package: lower-case letters, digits, '.', '_' and '-', at most %d bytes", shared.MaxNameLen)
	}
	if cfg.Identity == nil || cfg.Identity.Type() != crypto.Ed25519 {
		return shared.NewError(shared.ReasonInvalidArgument, "open node: the identity is not an Ed25519 key")
	}
	return nil
}

// agent is what the node calls itself.
func (cfg *Config) agent() string {
	if cfg.Comment == "" {
		return "ggen/" + cfg.Version
	}
	return "ggen/" + cfg.Version + " (" + cfg.Comment + ")"
}

// Expel closes the connections to a peer. Whether it can come back is up to
// [Config.Refuse].
func (n *Node) Expel(p peer.ID) {
	if err := n.host.Network().ClosePeer(p); err != nil {
		n.log.Debug("close connections", "peer", p, "error", err)
	}
}

// Start begins looking for peers: the bootstrap addresses and the remembered
// peers are dialled in parallel, and again with growing pauses while nobody is
// connected. It returns at once; only the first call does anything.
func (n *Node) Start() {
	n.startOnce.Do(func() {
		if n.lifetime.Err() == nil {
			n.running.Go(func() { n.stayJoined(n.lifetime) })
			if n.local != "" {
				n.running.Go(func() { n.lookAround(n.lifetime, n.local) })
			}
		}
	})
}

// Close leaves the network, writes down the known peers and waits until
// everything the node started has ended. It is idempotent.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.cancel()
		n.startOnce.Do(func() {}) // a Start that comes too late must not start anything
		n.running.Wait()
		var errs []error
		if n.dht != nil {
			errs = append(errs, n.dht.Close())
		}
		if n.relay != nil {
			errs = append(errs, n.relay.Close())
		}
		if n.host != nil {
			errs = append(errs, n.host.Close())
		}
		if n.members != nil {
			n.members.close()
		}
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}

// Network is the name of the network.
func (n *Node) Network() string { return n.network }

// Host is the libp2p host, for stream protocols.
func (n *Node) Host() host.Host { return n.host }

// DHT is the network's DHT, for package routing. Do not use its PutValue,
// GetValue and SearchValue: in kad-dht 0.42 a peer that answers PUT_VALUE without
// a record crashes the process (package routing has its own).
func (n *Node) DHT() *dht.IpfsDHT { return n.dht }

// DHTProtocol is the stream protocol of the DHT in this network.
func (n *Node) DHTProtocol() protocol.ID { return n.dhtProto }

// Values are the DHT values that this node stores for the network.
func (n *Node) Values() *records.ValueStore { return n.values }

// Records is a snapshot of the DHT records that this node keeps for the network, at most
// about 17 MB, for Config.Records of the next run.
func (n *Node) Records() []byte { return n.records.snapshot() }

// PubSub is the network's gossipsub router, for package gossip.
func (n *Node) PubSub() *pubsub.PubSub { return n.pubsub }

// PeerID is the node's own ID.
func (n *Node) PeerID() peer.ID { return n.host.ID() }

// RoutingTableSize counts the peers in the DHT routing table. Each of them has
// answered a query, so a value above 0 means that the DHT can be used.
func (n *Node) RoutingTableSize() int { return n.dht.RoutingTable().Size() }

// DHTMode tells whether the node answers DHT queries now: "server" or "client".
func (n *Node) DHTMode() string {
	for _, p := range n.host.Mux().Protocols() {
		if p == n.dhtProto {
			return "server"
		}
	}
	return "client"
}

// Reachability tells whether other peers can dial this one, as far as some of
// them have tried: "public", "private" or "unknown".
func (n *Node) Reachability() string { return n.members.reachable() }

// Connected lists the connected peers of this network, in no order.
func (n *Node) Connected() []peer.ID { return n.members.list() }

// Kinds counts the connected peers of this network that answer DHT queries, and those
// that have dialled this node.
func (n *Node) Kinds() (servers, inbound int) {
	for _, p := range n.members.list() {
		if spoken, err := n.host.Peerstore().SupportsProtocols(p, n.dhtProto); err == nil && len(spoken) > 0 {
			servers++
		}
		if slices.ContainsFunc(n.host.Network().ConnsToPeer(p), func(c network.Conn) bool { return c.Stat().Direction == network.DirInbound }) {
			inbound++
		}
	}
	return servers, inbound
}

// Joined is closed when the first peer of this network is connected.
func (n *Node) Joined() <-chan struct{} { return n.members.joined }

// OnPeer calls hook for every peer of this network that is connected now, and
// whenever one comes (true) or goes (false), until Close. Calls come one after
// the other from one goroutine, so a hook that has work to do hands it on. A
// peer that goes and comes back in one moment is not reported.
func (n *Node) OnPeer(hook func(p peer.ID, connected bool)) { n.members.addHook(hook) }

// SetFinder tells the node how to find members that it has not met, for when it has few
// neighbours: by the DHT, for example. find is called from one goroutine.
func (n *Node) SetFinder(find func(ctx context.Context, most int) []peer.AddrInfo) {
	n.finder.Store(&find)
}

// KnownPeers counts the members that this node has met, now or before, and would
// dial after a restart.
func (n *Node) KnownPeers() int { return n.known.count() }

// remember writes the known peers down: at once for the first peer, so that even
// a killed node finds back, then at most every saveInterval, and at the end.
func (n *Node) remember() {
	save := func() {
		n.known.meet(n.host, n.members.list(), time.Now())
		if err := n.known.save(); err != nil {
			n.log.Warn("cannot remember peers", "error", err)
		}
	}
	defer save()
	select {
	case <-n.members.joined:
		save()
	case <-n.lifetime.Done():
		return
	}
	var due <-chan time.Time // nil: nothing waits to be written
	for {
		select {
		case <-n.lifetime.Done():
			return
		case <-n.members.changed:
			if due == nil {
				due = time.After(saveInterval)
			}
		case <-due:
			due = nil
			save()
		}
	}
}
