package node

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
)

const (
	// lowWater and highWater are the numbers of connections between which the
	// connection manager keeps the node; above highWater it closes the least
	// useful down to lowWater. They are kubo's. A connection costs 35-65 KB at
	// each end, so doubling them costs up to 6 MB.
	lowWater, highWater = 32, 96

	// connGrace protects a new connection from being closed before anybody could
	// see what it is good for (kubo: 20 s).
	connGrace = 20 * time.Second

	// dialTimeout bounds one dial of one peer over all its addresses. A TCP and
	// TLS handshake takes about four round trips: 5 s serve a satellite link.
	dialTimeout = 5 * time.Second

	// memoryLimit and fdLimit are what the resource manager shares out. With
	// libp2p's scale they allow 192 connections (64+32 of them inbound and 192
	// outbound), twice highWater; more would only be closed again.
	memoryLimit = 512 << 20
	fdLimit     = 512

	// Connections from one public address or block. libp2p allows 8 connections
	// from an IPv4 address; an office or a CI farm behind one address has more
	// peers than that. All of them together stay below highWater, so that one
	// block cannot take every place.
	connsPerIP    = 32
	connsPerBlock = 64

	// New connections per second from one public address, and how many at once.
	connRate, connBurst = 2, 64

	// maxAddrs bounds the addresses of peers that are not connected; DHT records
	// bring them, so strangers fill this. libp2p allows 1,000,000 (300 MB).
	maxAddrs = 50_000
)

// privateNetworks are not limited per address: whoever is there is in our own
// network, and containers and virtual machines share few addresses.
var privateNetworks = []string{
	"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
	"::1/128", "fc00::/7", "fe80::/10",
}

// newHost builds a host that does not listen yet, and sets what knows when its peers are used.
func newHost(cfg Config, use **usage, candidates *relayCandidates) (host.Host, error) {
	conns, err := connmgr.NewConnManager(lowWater, highWater, connmgr.WithGracePeriod(connGrace))
	if err != nil {
		return nil, fmt.Errorf("connection manager: %w", err)
	}
	peers, err := pstoremem.NewPeerstore(pstoremem.WithMaxAddresses(maxAddrs))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("peerstore: %w", err), conns.Close())
	}
	options := []libp2p.Option{
		libp2p.Identity(cfg.Identity),
		libp2p.UserAgent(cfg.agent()),
		libp2p.ProtocolVersion("ggen/1"),
		libp2p.NoListenAddrs,
		// With SO_REUSEPORT a second node of the same user could listen on the same
		// port without an error, and the kernel would deal connections out to both.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		// TLS first: on loopback it moves half as much again as Noise.
		libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.Security(noise.ID, noise.New),
		libp2p.ConnectionManager(conns),
		libp2p.Peerstore(peers),
		// The default registers with a process-wide Prometheus registry.
		libp2p.DisableMetrics(),
		libp2p.WithDialTimeout(dialTimeout),
		libp2p.SwarmOpts(swarm.WithDialRanker(rank)),
	}
	if cfg.Secret.key == nil {
		options = append(options, libp2p.Transport(quic.NewTransport))
	}
	options = append(options, cfg.Secret.options()...)
	if len(cfg.Allow) > 0 || cfg.Refuse != nil {
		options = append(options, libp2p.ConnectionGater(newGate(cfg.Allow, cfg.Refuse)))
	}
	if cfg.AnswerReachability {
		options = append(options, libp2p.EnableNATService())
	}
	options = append(options, relayOptions(cfg, candidates)...)
	options = append(options, cfg.Options...)
	options = append(options, limitUnlessLimited, func(cfg *libp2p.Config) error {
		*use = newUsage(cfg.ResourceManager)
		cfg.ResourceManager = *use
		return nil
	})
	h, err := libp2p.New(options...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("libp2p host: %w", err), conns.Close(), peers.Close())
	}
	return h, nil
}

// limitUnlessLimited sets the resource manager unless an option of the caller has.
func limitUnlessLimited(cfg *libp2p.Config) error {
	if cfg.ResourceManager != nil {
		return nil
	}
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	v4, v6, rates := subnetLimits()
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Scale(memoryLimit, fdLimit)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithNetworkPrefixLimit(v4, v6),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: connsPerIP}, {PrefixLength: 24, ConnCount: connsPerBlock}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: connsPerIP}, {PrefixLength: 48, ConnCount: connsPerBlock}}),
		rcmgr.WithConnRateLimiters(rates))
	if err != nil {
		return fmt.Errorf("resource manager: %w", err)
	}
	cfg.ResourceManager = manager
	return nil
}

func subnetLimits() (v4, v6 []rcmgr.NetworkPrefixLimit, rates *rate.Limiter) {
	perAddress := rate.Limit{RPS: connRate, Burst: connBurst}
	rates = &rate.Limiter{SubnetRateLimiter: rate.SubnetLimiter{
		IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perAddress}},
		IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perAddress}},
		GracePeriod:      time.Minute,
	}}
	for _, s := range privateNetworks {
		prefix := netip.MustParsePrefix(s)
		limit := rcmgr.NetworkPrefixLimit{Network: prefix, ConnCount: math.MaxInt}
		if prefix.Addr().Is4() {
			v4 = append(v4, limit)
		} else {
			v6 = append(v6, limit)
		}
		rates.NetworkPrefixLimits = append(rates.NetworkPrefixLimits, rate.PrefixLimit{Prefix: prefix})
	}
	return v4, v6, rates
}
