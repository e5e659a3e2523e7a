package p2p

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/reputation"
	"ggen.dev/marketplace/shared"
)

// Capabilities are the names of the optional features that this engine has, sorted.
func Capabilities() []string {
	return []string{"dht", "gossip", "multi-peer-transfer", "replicated-catalogue", "watch"}
}

func newInstance() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return hex.EncodeToString(random[:])
}

func (e *Engine) now() time.Time { return time.Now() }

// Info tells which engine this is; see [shared.Marketplace].
func (e *Engine) Info(ctx context.Context) (shared.EngineInfo, error) {
	if err := ctx.Err(); err != nil {
		return shared.EngineInfo{}, shared.AsError(err)
	}
	return shared.EngineInfo{
		Name: "marketplace", Version: e.cfg.Version, Protocols: []int{1}, InstanceID: e.instance,
		Capabilities: Capabilities(), PID: os.Getpid(), StartedAt: e.started,
	}, nil
}

// Status tells how this node stands in the network; see [shared.Marketplace].
func (e *Engine) Status(ctx context.Context) (shared.NodeStatus, error) {
	if err := ctx.Err(); err != nil {
		return shared.NodeStatus{}, shared.AsError(err)
	}
	publishers, releases := e.catalog.Count()
	status := shared.NodeStatus{
		PeerID: e.node.PeerID().String(), ListenAddresses: e.node.Addresses(),
		Mode: e.mode(), Reachability: e.node.Reachability(), DHTMode: e.node.DHTMode(),
		BootstrapCount: len(e.cfg.Bootstrap), ConnectedPeers: len(e.node.Connected()), KnownPeers: e.node.KnownPeers(),
		RoutingTable: e.node.RoutingTableSize(), Publisher: e.ring.ID(), Publishers: publishers, Releases: releases,
		StartedAt: e.started, Version: e.cfg.Version,
	}
	status.Entries, status.NewestHead = e.catalog.Extent()
	status.PeerTable = e.overlay.Table().Size()
	status.DHTServers, status.InboundPeers = e.node.Kinds()
	status.ReceivedBytes, status.ReceiveRate = e.traffic.received.read(e.now())
	status.SentBytes, status.SendRate = e.traffic.sent.read(e.now())
	status.CacheHits, status.CacheMisses = e.traffic.hits.Load(), e.traffic.misses.Load()
	for _, rel := range e.heldReleases() {
		status.HeldPackages++
		status.HeldBytes += rel.Archive.Size
	}
	if status.ConnectedPeers > 0 && e.stillLearning() {
		status.Diagnostics = append(status.Diagnostics, shared.Diagnostic{
			Severity: shared.SeverityInfo, Message: fmt.Sprintf("the catalogue is still arriving: %d entries so far", status.Entries),
			Hint: "searches and installs ask other peers meanwhile",
		})
	}
	if status.ConnectedPeers == 0 {
		status.Diagnostics = append(status.Diagnostics, shared.Diagnostic{
			Severity: shared.SeverityWarning, Reason: shared.ReasonNoPeers, Message: "no peer is connected", Hint: connectHint,
		})
	}
	return status, nil
}

// Peers lists the peers this node knows, the connected ones first, then by
// reputation; see [shared.Marketplace].
func (e *Engine) Peers(ctx context.Context, query shared.PeerQuery) (shared.PeerList, error) {
	if err := ctx.Err(); err != nil {
		return shared.PeerList{}, shared.AsError(err)
	}
	connected := map[string]bool{}
	for _, p := range e.node.Connected() {
		connected[p.String()] = true
	}
	ids := e.reputation.Peers()
	for id := range connected {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if query.ID != "" {
		if !slices.Contains(ids, query.ID) {
			return shared.PeerList{}, shared.NewError(shared.ReasonNotFound, "peer %q has never been met", query.ID).
				WithHint("`ggen marketplace p2p peer-list` shows the peers that have")
		}
		ids = []string{query.ID}
	}
	var list shared.PeerList
	provided := e.provided()
	for _, id := range ids {
		p := e.describePeer(id, connected[id], provided)
		if (p.Connected || !query.ConnectedOnly) && p.Reputation >= query.MinReputation {
			list.Peers = append(list.Peers, p)
		}
	}
	slices.SortFunc(list.Peers, func(a, b shared.Peer) int {
		if a.Connected != b.Connected {
			if a.Connected {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Reputation, a.Reputation), cmp.Compare(a.ID, b.ID))
	})
	list.Total = len(list.Peers)
	return list, nil
}

// describePeer says all that is known of a peer. provided are the numbers of packages that
// peers are known to hold.
func (e *Engine) describePeer(id string, connected bool, provided map[string]int) shared.Peer {
	known, _ := e.reputation.Get(id)
	score := e.reputation.Score(id)
	p := shared.Peer{
		ID: id, Connected: connected, Reputation: score.Total, PackagesProvided: provided[id],
		SuccessfulRetrievals: known.Counts[reputation.Success], FailedRetrievals: known.Failed(), Outcomes: known.Counts.ByName(),
		AvgResponseTime: known.Response, AvgBandwidth: known.Bandwidth(), ReceivedBytes: known.Bytes, Downloads: e.selector.InFlight(id),
		FirstSeen: known.FirstSeen, LastSeen: known.LastSeen, LastSuccess: known.LastSuccess,
		LastFailure: known.LastFailure, LastFailureKind: known.FailedBy.String(), FailuresInRow: known.Streak,
	}
	for _, part := range score.Parts() {
		p.Score = append(p.Score, shared.ScorePart{Name: part.Name, Value: part.Value, Weight: part.Weight})
	}
	if known.BannedUntil.After(e.now()) {
		p.BannedUntil, p.BannedFor = known.BannedUntil, known.BannedFor.String()
	}
	if rests := known.RestsUntil(); rests.After(e.now()) {
		p.RestsUntil = rests
	}
	if at := known.Place; at.Known {
		p.Location = &shared.Location{Latitude: at.Latitude, Longitude: at.Longitude, Region: at.Region}
	}
	if connected {
		p.LastSeen = e.now()
	}
	decoded, err := peer.Decode(id)
	if err != nil {
		return p // a damaged snapshot; what else is known of it is shown
	}
	peerstore := e.node.Host().Peerstore()
	for _, addr := range peerstore.Addrs(decoded) {
		p.Addresses = append(p.Addresses, addr.String()+"/p2p/"+id)
	}
	slices.Sort(p.Addresses)
	for _, conn := range e.node.Host().Network().ConnsToPeer(decoded) {
		p.Connections = append(p.Connections, conn.RemoteMultiaddr().String())
	}
	slices.Sort(p.Connections)
	if agent, err := peerstore.Get(decoded, "AgentVersion"); err == nil {
		p.Agent, _ = agent.(string)
	}
	return p
}

// provided counts for each peer the packages that it is known to hold, or did.
func (e *Engine) provided() map[string]int {
	count := map[string]int{}
	for _, known := range e.holders.All() {
		for _, id := range known.Peers {
			count[id]++
		}
	}
	return count
}

// Bootstrap dials addresses and says for each what happened; see
// [shared.Marketplace].
func (e *Engine) Bootstrap(ctx context.Context, addresses []string) ([]shared.DialOutcome, error) {
	if len(addresses) == 0 {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "bootstrap: no address is given")
	}
	outcomes := e.node.Bootstrap(ctx, addresses)
	for _, o := range outcomes {
		if o.PeerID == "" && errors.Is(o.Err, shared.ReasonInvalidArgument) { // not an address at all
			return nil, o.Err
		}
	}
	return outcomes, nil
}

// noteEvery is how much of what was learnt of peers a killed engine forgets. Bans are
// written down at once.
const noteEvery = time.Minute

// keepReputation writes down what was learnt of peers while the engine runs.
func (e *Engine) keepReputation(ctx context.Context) {
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return // Close writes it down, too
		case <-tick.C:
		}
		if err := e.reputation.Save(); err != nil {
			e.log.Warn("write down what is known of peers", "error", err)
		}
	}
}

var (
	bucketPeers = []byte("peers")
	keyTable    = []byte("table")
	keyRecords  = []byte("records")
)

// saved is what the last run has learnt of the network, nil if it is not there. Without
// it the node learns it again.
func (e *Engine) saved(key []byte) (snapshot []byte) {
	err := e.db.View(func(tx *bbolt.Tx) error {
		if bucket := tx.Bucket(bucketPeers); bucket != nil {
			snapshot = bytes.Clone(bucket.Get(key))
		}
		return nil
	})
	if err != nil {
		e.log.Warn("read what the last run has learnt of the network", "error", err)
	}
	return snapshot
}

// saveEvery is how much of what was learnt of the network a killed engine forgets.
const saveEvery = 15 * time.Minute

// keepPeers writes that down while the engine runs.
func (e *Engine) keepPeers(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return // Close writes it down, too
		case <-tick.C:
		}
		if err := e.savePeers(); err != nil {
			e.log.Warn("write down what was learnt of the network", "error", err)
		}
		e.db.ReleasePages()
	}
}

// savePeers writes the peer table down, and the DHT records that are kept for others.
func (e *Engine) savePeers() error {
	table, records := e.overlay.Snapshot(), e.node.Records()
	return e.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketPeers)
		if err != nil {
			return err
		}
		return errors.Join(bucket.Put(keyTable, table), bucket.Put(keyRecords, records))
	})
}
