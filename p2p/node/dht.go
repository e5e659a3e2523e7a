package node

import (
	"fmt"
	"maps"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// bucketSize is Kademlia's k: how many peers hold a record, and how many a
	// routing bucket holds. 20 survives half the peers leaving within an hour.
	bucketSize = 20

	// concurrency is Kademlia's alpha. Measured over 1,000 peers, the first
	// provider of a cold lookup takes 270, 93 and 81 ms at the median with 3, 10
	// and 20: twice the traffic of 10 gains little.
	concurrency = 10

	// resiliency is how many of the closest peers must have answered before a
	// lookup ends (the library's beta).
	resiliency = 3

	// maxRecordAge is how long a head record lives here without being put again.
	// Package routing puts its own again well before that.
	maxRecordAge = 48 * time.Hour

	// refreshQuery bounds one query of a routing table refresh.
	refreshQuery = 10 * time.Second
)

// newDHT starts the DHT and also gives access to the values it stores.
func newDHT(h host.Host, cfg Config) (*dht.IpfsDHT, *recordStore, *records.ValueStore, protocol.ID, error) {
	prefix := protocol.ID("/ggen")
	if cfg.Network != DefaultNetwork {
		prefix += protocol.ID("/" + cfg.Network)
	}
	// A server until somebody finds that the node cannot be reached: in a private
	// or loopback network nobody ever tests that, and everybody must serve.
	mode := dht.ModeAutoServer
	if cfg.DHTServer {
		mode = dht.ModeServer
	}
	if cfg.DHTClient {
		mode = dht.ModeClient
	}
	validators := record.NamespacedValidator{}
	maps.Copy(validators, cfg.Validators)
	store := newRecordStore(maxRecords, maxRecordBytes)
	if len(cfg.Records) > 0 {
		if err := store.restore(cfg.Records); err != nil {
			cfg.Logger.Warn("forgetting DHT records of the last run", "error", err)
		}
	}
	options := []dht.Option{
		dht.ProtocolPrefix(prefix),
		dht.Mode(mode),
		dht.BucketSize(bucketSize),
		dht.Concurrency(concurrency),
		dht.Resiliency(resiliency),
		dht.Validator(validators),
		dht.Datastore(store),
		dht.MaxRecordAge(maxRecordAge),
		dht.RoutingTableRefreshQueryTimeout(refreshQuery),
		dht.AddressFilter(advertised),
		dht.RoutingTablePeerDiversityFilter(newDiversity(h)),
	}
	d, err := dht.New(h, append(options, cfg.DHTOptions...)...)
	if err != nil {
		return nil, nil, nil, "", fmt.Errorf("kad-dht: %w", err)
	}
	return d, store, records.NewValueStore(store, validators, maxRecordAge), prefix + "/kad/1.0.0", nil
}

// advertised leaves out loopback addresses where there are others. A peer that
// listens on loopback only, as in a private network on one machine, keeps them.
func advertised(addrs []ma.Multiaddr) []ma.Multiaddr {
	var others []ma.Multiaddr
	for _, addr := range addrs {
		if !manet.IsIPLoopback(addr) {
			others = append(others, addr)
		}
	}
	if len(others) == 0 {
		return addrs
	}
	return others
}
