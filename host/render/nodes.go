package render

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ggen.dev/marketplace/shared"
)

// Started is the result of starting a peer.
type Started struct {
	PeerID          string   `json:"peer_id"`
	ListenAddresses []string `json:"listen_addresses"`
	BootstrapCount  int      `json:"bootstrap_count"`
	Started         bool     `json:"started"` // false: it was running already
	EnginePID       int      `json:"engine_pid"`
	Version         string   `json:"version"`
}

// NewStarted takes over a node's status.
func NewStarted(status shared.NodeStatus, info shared.EngineInfo, started bool) Started {
	return Started{
		PeerID: status.PeerID, ListenAddresses: orEmpty(status.ListenAddresses), BootstrapCount: status.BootstrapCount,
		Started: started, EnginePID: info.PID, Version: info.Version,
	}
}

// Text implements [Document].
func (d Started) Text(p *Page) {
	what := "The peer is up and stays until `ggen marketplace p2p stop`."
	if !d.Started {
		what = "The peer was running already; it stays until `ggen marketplace p2p stop`."
	}
	if !p.Quiet {
		p.Line("%s", what)
	}
	p.Fields(append([]string{"Peer ID", d.PeerID}, each("Listens on", d.ListenAddresses)...)...)
}

// each is a label before every value, for [Page.Fields].
func each(label string, values []string) []string {
	var pairs []string
	for _, value := range values {
		pairs = append(pairs, label, value)
	}
	return pairs
}

// Stopped is the result of stopping the peer.
type Stopped struct {
	Stopped bool `json:"stopped"` // false: there was nothing to stop
}

// Text implements [Document].
func (d Stopped) Text(p *Page) {
	switch {
	case p.Quiet:
	case d.Stopped:
		p.Line("The peer has stopped.")
	default:
		p.Line("No peer was running.")
	}
}

// Status is how the node stands in the network.
type Status struct {
	Running           bool               `json:"running"`
	PeerID            string             `json:"peer_id,omitempty"`
	ListenAddresses   []string           `json:"listen_addresses"`
	Reachability      string             `json:"reachability,omitempty"`
	DHTMode           string             `json:"dht_mode,omitempty"`
	BootstrapCount    int                `json:"bootstrap_count"`
	ConnectedPeers    int                `json:"connected_peers"`
	KnownPeers        int                `json:"known_peers"`
	RoutingTablePeers int                `json:"routing_table_peers"`
	Publisher         shared.PublisherID `json:"publisher,omitempty"`
	Publishers        int                `json:"publishers"`
	Releases          int                `json:"releases"`
	HeldPackages      int                `json:"held_packages"`
	HeldBytes         int64              `json:"held_bytes"`
	StartedAt         *time.Time         `json:"started_at"`
	Version           string             `json:"version,omitempty"`
	Staying           bool               `json:"staying"`
	EnginePID         int                `json:"engine_pid,omitempty"`
	InstanceID        string             `json:"instance_id,omitempty"`
	Diagnostics       []Remark           `json:"diagnostics,omitempty"`
}

// NotRunning is the status without an engine.
func NotRunning() Status { return Status{ListenAddresses: []string{}} }

// NewStatus takes over a node's status.
func NewStatus(s shared.NodeStatus, info shared.EngineInfo) Status {
	return Status{
		Running: true, PeerID: s.PeerID, ListenAddresses: orEmpty(s.ListenAddresses), Reachability: s.Reachability, DHTMode: s.DHTMode,
		BootstrapCount: s.BootstrapCount, ConnectedPeers: s.ConnectedPeers, KnownPeers: s.KnownPeers, RoutingTablePeers: s.RoutingTable,
		Publisher: s.Publisher, Publishers: s.Publishers, Releases: s.Releases, HeldPackages: s.HeldPackages, HeldBytes: s.HeldBytes,
		StartedAt: stamp(s.StartedAt), Version: s.Version, Staying: s.Staying, EnginePID: info.PID, InstanceID: info.InstanceID,
		Diagnostics: remarks(s.Diagnostics),
	}
}

// Text implements [Document].
func (d Status) Text(p *Page) {
	if !d.Running {
		p.Line("No peer is running. The next command that needs one starts it; `ggen marketplace p2p start` makes it stay.")
		return
	}
	stays := "until it is idle"
	if d.Staying {
		stays = "until stopped"
	}
	since := ""
	if d.StartedAt != nil {
		since = d.StartedAt.Format(time.RFC3339)
	}
	p.Fields(slices.Concat([]string{"Peer ID", d.PeerID}, each("Listens on", d.ListenAddresses), []string{
		"Reachable", d.Reachability, "DHT", fmt.Sprintf("%s, %s in the routing table", d.DHTMode, plural(d.RoutingTablePeers, "peer", "peers")),
		"Peers", fmt.Sprintf("%d connected, %d known, %d bootstrap", d.ConnectedPeers, d.KnownPeers, d.BootstrapCount),
		"Publisher", string(d.Publisher),
		"Catalogue", fmt.Sprintf("%s of %s", plural(d.Releases, "release", "releases"), plural(d.Publishers, "publisher", "publishers")),
		"Holds", fmt.Sprintf("%s, %s", plural(d.HeldPackages, "package", "packages"), Bytes(d.HeldBytes)),
		"Engine", fmt.Sprintf("%s, process %d, runs %s", d.Version, d.EnginePID, stays), "Since", since,
	})...)
}

// Peer is another node.
type Peer struct {
	PeerID               string     `json:"peer_id"`
	Addresses            []string   `json:"addresses"`
	Agent                string     `json:"agent"`
	Connected            bool       `json:"connected"`
	Reputation           float64    `json:"reputation"`
	SuccessfulRetrievals int64      `json:"successful_retrievals"`
	FailedRetrievals     int64      `json:"failed_retrievals"`
	LastSeen             *time.Time `json:"last_seen"`
	PackagesProvided     int        `json:"packages_provided"`
	AvgResponseTimeMS    float64    `json:"avg_response_time_ms"`
}

// Peers is a list of other nodes.
type Peers struct {
	Peers []Peer `json:"peers"`
	Total int    `json:"total"`
}

// NewPeer takes over what is known of one node.
func NewPeer(p shared.Peer) Peer {
	return Peer{
		PeerID: p.ID, Addresses: orEmpty(p.Addresses), Agent: p.Agent, Connected: p.Connected, Reputation: p.Reputation,
		SuccessfulRetrievals: p.SuccessfulRetrievals, FailedRetrievals: p.FailedRetrievals, LastSeen: stamp(p.LastSeen),
		PackagesProvided: p.PackagesProvided, AvgResponseTimeMS: float64(p.AvgResponseTime) / float64(time.Millisecond),
	}
}

// NewPeers takes over a list.
func NewPeers(list shared.PeerList) Peers {
	doc := Peers{Peers: []Peer{}, Total: list.Total}
	for _, p := range list.Peers {
		doc.Peers = append(doc.Peers, NewPeer(p))
	}
	return doc
}

// Text implements [Document].
func (d Peers) Text(p *Page) {
	rows := make([][]string, 0, len(d.Peers))
	for _, peer := range d.Peers {
		state := "known"
		if peer.Connected {
			state = "connected"
		}
		rows = append(rows, []string{
			peer.PeerID, state, fmt.Sprintf("%.2f", peer.Reputation),
			fmt.Sprintf("%d/%d", peer.SuccessfulRetrievals, peer.SuccessfulRetrievals+peer.FailedRetrievals), peer.responseTime(), strings.Join(peer.Addresses[:min(1, len(peer.Addresses))], ""),
		})
	}
	p.Table([]string{"PEER", "STATE", "REPUTATION", "GOOD/ALL", "ANSWERS IN", "ADDRESS"}, rows)
	if len(rows) == 0 {
		p.Line("No peers are known.")
	}
}

func (d Peer) responseTime() string {
	if d.AvgResponseTimeMS <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", d.AvgResponseTimeMS)
}

// Text implements [Document].
func (d Peer) Text(p *Page) {
	connected, seen := "no", ""
	if d.Connected {
		connected = "yes"
	}
	if d.LastSeen != nil {
		seen = d.LastSeen.Format(time.RFC3339)
	}
	p.Fields(slices.Concat([]string{"Peer ID", d.PeerID, "Agent", d.Agent, "Connected", connected, "Last seen", seen}, each("Address", d.Addresses), []string{
		"Reputation", fmt.Sprintf("%.2f of 1", d.Reputation),
		"Retrievals", fmt.Sprintf("%d good, %d failed", d.SuccessfulRetrievals, d.FailedRetrievals),
		"Answers in", d.responseTime(), "Provides", plural(d.PackagesProvided, "package", "packages"),
	})...)
}

// Dialled is what happened to one bootstrap address.
type Dialled struct {
	Address   string       `json:"address"`
	PeerID    string       `json:"peer_id"`
	Connected bool         `json:"connected"`
	TookMS    float64      `json:"took_ms"`
	Error     *ErrorFields `json:"error,omitempty"`
}

// Bootstrap is the result of dialling bootstrap addresses.
type Bootstrap struct {
	Results   []Dialled `json:"results"`
	Connected int       `json:"connected"`
	Total     int       `json:"total"`
}

// NewBootstrap takes over the outcomes.
func NewBootstrap(outcomes []shared.DialOutcome) Bootstrap {
	doc := Bootstrap{Results: []Dialled{}, Total: len(outcomes)}
	for _, o := range outcomes {
		if o.Err == nil {
			doc.Connected++
		}
		doc.Results = append(doc.Results, Dialled{
			Address: o.Address, PeerID: o.PeerID, Connected: o.Err == nil,
			TookMS: float64(o.Took) / float64(time.Millisecond), Error: NewErrorFields(o.Err),
		})
	}
	return doc
}

// Text implements [Document].
func (d Bootstrap) Text(p *Page) {
	for _, r := range d.Results {
		if r.Connected {
			p.Line("connected  %s  (%.0f ms)", Clean(r.Address), r.TookMS)
			continue
		}
		p.Line("failed     %s  %s", Clean(r.Address), Clean(r.Error.Message))
	}
}
