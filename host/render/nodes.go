package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ggen.dev/marketplace/shared"
)

// Started is the result of starting a peer.
type Started struct {
	PeerID          string   `json:"peer_id"`          // libp2p peer ID
	ListenAddresses []string `json:"listen_addresses"` // full multiaddrs that others can dial
	BootstrapCount  int      `json:"bootstrap_count"`  // bootstrap addresses that it was given
	Started         bool     `json:"started"`          // false: it was running already
	EnginePID       int      `json:"engine_pid"`       // process ID of the engine
	Version         string   `json:"version"`          // of the engine, as a semantic version
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
	Running           bool               `json:"running"`                // an engine runs; without one the other fields are empty
	PeerID            string             `json:"peer_id,omitempty"`      // libp2p peer ID
	ListenAddresses   []string           `json:"listen_addresses"`       // full multiaddrs that others can dial
	Mode              string             `json:"mode,omitempty"`         // full, light (it asks others) or super (it answers for light ones)
	Reachability      string             `json:"reachability,omitempty"` // public, private or unknown
	DHTMode           string             `json:"dht_mode,omitempty"`     // server or client
	BootstrapCount    int                `json:"bootstrap_count"`        // bootstrap addresses that it was given
	ConnectedPeers    int                `json:"connected_peers"`        // peers with a connection now
	KnownPeers        int                `json:"known_peers"`            // peers with known addresses
	RoutingTablePeers int                `json:"routing_table_peers"`    // peers in the DHT routing table
	Publisher         shared.PublisherID `json:"publisher,omitempty"`    // ID of the publisher that this home signs as
	Publishers        int                `json:"publishers"`             // publishers in the catalogue
	Releases          int                `json:"releases"`               // releases in the catalogue
	HeldPackages      int                `json:"held_packages"`          // releases whose content is here
	HeldBytes         int64              `json:"held_bytes"`             // size of that content
	PeerTable         int                `json:"peer_table"`             // peers that are known to answer DHT queries, this one included
	DHTServers        int                `json:"dht_servers"`            // connected peers that do
	InboundPeers      int                `json:"inbound_peers"`          // connected peers that have dialled this one
	Entries           int64              `json:"entries"`                // log entries in the catalogue
	NewestHead        *time.Time         `json:"newest_head_at"`         // when the newest statement of any publisher was signed; null without one
	ReceivedBytes     int64              `json:"received_bytes"`         // of packages from other peers, since the start
	SentBytes         int64              `json:"sent_bytes"`             // of packages to other peers, since the start
	ReceiveRate       float64            `json:"receive_rate"`           // bytes a second over the last minute
	SendRate          float64            `json:"send_rate"`              // bytes a second over the last minute
	CacheHits         int64              `json:"cache_hits"`             // packages that were wanted and here, since the start
	CacheMisses       int64              `json:"cache_misses"`           // packages that had to be fetched, since the start
	UptimeSeconds     int64              `json:"uptime_seconds"`         // how long the engine has been running
	StartedAt         *time.Time         `json:"started_at"`             // when the engine started; null without one
	Version           string             `json:"version,omitempty"`      // of the engine, as a semantic version
	Staying           bool               `json:"staying"`                // it runs until it is stopped
	EnginePID         int                `json:"engine_pid,omitempty"`   // process ID of the engine
	InstanceID        string             `json:"instance_id,omitempty"`  // new at each start
	Diagnostics       []Remark           `json:"diagnostics,omitempty"`  // remarks beside the result
}

// NotRunning is the status without an engine.
func NotRunning() Status { return Status{ListenAddresses: []string{}} }

// NewStatus takes over a node's status; now is the time to tell its age by.
func NewStatus(s shared.NodeStatus, info shared.EngineInfo, now time.Time) Status {
	return Status{
		Running: true, PeerID: s.PeerID, ListenAddresses: orEmpty(s.ListenAddresses), Reachability: s.Reachability, DHTMode: s.DHTMode,
		BootstrapCount: s.BootstrapCount, ConnectedPeers: s.ConnectedPeers, KnownPeers: s.KnownPeers, RoutingTablePeers: s.RoutingTable,
		Publisher: s.Publisher, Publishers: s.Publishers, Releases: s.Releases, HeldPackages: s.HeldPackages, HeldBytes: s.HeldBytes,
		Mode: s.Mode, PeerTable: s.PeerTable, DHTServers: s.DHTServers, InboundPeers: s.InboundPeers, Entries: s.Entries, NewestHead: stamp(s.NewestHead),
		ReceivedBytes: s.ReceivedBytes, SentBytes: s.SentBytes, ReceiveRate: s.ReceiveRate, SendRate: s.SendRate, CacheHits: s.CacheHits, CacheMisses: s.CacheMisses,
		UptimeSeconds: uptime(s.StartedAt, now),
		StartedAt:     stamp(s.StartedAt), Version: s.Version, Staying: s.Staying, EnginePID: info.PID, InstanceID: info.InstanceID,
		Diagnostics: remarks(s.Diagnostics),
	}
}

// uptime is how long ago a start was, in seconds; 0 without one.
func uptime(started, now time.Time) int64 {
	if started.IsZero() {
		return 0
	}
	return max(0, int64(now.Sub(started).Seconds()))
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
		since = fmt.Sprintf("%s (%s)", d.StartedAt.Format(time.RFC3339), time.Duration(d.UptimeSeconds)*time.Second)
	}
	newest := ""
	if d.NewestHead != nil {
		newest = ", the newest statement of " + d.NewestHead.Format(time.RFC3339)
	}
	p.Fields(slices.Concat([]string{"Peer ID", d.PeerID}, each("Listens on", d.ListenAddresses), []string{
		"Kind", cmp.Or(d.Mode, "full") + " peer", "Reachable", d.Reachability, "DHT", fmt.Sprintf("%s, %s in the routing table", d.DHTMode, plural(d.RoutingTablePeers, "peer", "peers")),
		"Peers", fmt.Sprintf("%d connected (%d answer queries, %d dialled this peer), %d known, %d bootstrap", d.ConnectedPeers, d.DHTServers, d.InboundPeers, d.KnownPeers, d.BootstrapCount),
		"Peer table", plural(d.PeerTable, "peer", "peers"),
		"Publisher", string(d.Publisher),
		"Catalogue", fmt.Sprintf("%s of %s, %d log entries%s", plural(d.Releases, "release", "releases"), plural(d.Publishers, "publisher", "publishers"), d.Entries, newest),
		"Holds", fmt.Sprintf("%s, %s", plural(d.HeldPackages, "package", "packages"), Bytes(d.HeldBytes)),
		"Transfers", fmt.Sprintf("%s received (%s/s), %s sent (%s/s)", Bytes(d.ReceivedBytes), Bytes(int64(d.ReceiveRate)), Bytes(d.SentBytes), Bytes(int64(d.SendRate))),
		"Cache", fmt.Sprintf("%d of %s were here", d.CacheHits, plural(int(d.CacheHits+d.CacheMisses), "wanted package", "wanted packages")),
		"Engine", fmt.Sprintf("%s, process %d, runs %s", d.Version, d.EnginePID, stays), "Since", since,
	})...)
}

// Peer is another node.
type Peer struct {
	PeerID               string     `json:"peer_id"`               // libp2p peer ID
	Addresses            []string   `json:"addresses"`             // known multiaddrs
	Connections          []string   `json:"connections"`           // where it is at the other end of each one; with p2p-circuit it is behind a relay
	Agent                string     `json:"agent"`                 // what its software calls itself
	Connected            bool       `json:"connected"`             // connected now
	Reputation           float64    `json:"reputation"`            // 0 to 1; 0.5 for a stranger, 0 for a banned peer
	SuccessfulRetrievals int64      `json:"successful_retrievals"` // downloads from it that succeeded
	FailedRetrievals     int64      `json:"failed_retrievals"`     // downloads from it that failed
	LastSeen             *time.Time `json:"last_seen"`             // null if never
	PackagesProvided     int        `json:"packages_provided"`     // packages that it is known to hold
	AvgResponseTimeMS    float64    `json:"avg_response_time_ms"`  // moving average of the time to the first byte, in milliseconds; 0 if unknown
	AvgBandwidth         float64    `json:"avg_bandwidth"`         // moving average in bytes a second; 0 if unknown

	Score           []ScorePart      `json:"score"`              // what the reputation is made of: the sum of values times weights
	Outcomes        map[string]int64 `json:"outcomes"`           // how many dealings went how: delivered, absent, busy, unreachable, disconnected, stalled, failed, flooded, malformed or wrong-content
	ReceivedBytes   int64            `json:"received_bytes"`     // verified content from it
	Downloads       int              `json:"downloads"`          // from it, now
	FirstSeen       *time.Time       `json:"first_seen"`         // null if never
	LastSuccess     *time.Time       `json:"last_success"`       // null if never
	LastFailure     *time.Time       `json:"last_failure"`       // null if never
	LastFailureKind string           `json:"last_failure_kind"`  // as in outcomes; empty if there was none
	FailuresInRow   int              `json:"failures_in_row"`    // since the last success
	RestsUntil      *time.Time       `json:"rests_until"`        // until then it is asked after all others, because it has failed; null if it is not
	BannedUntil     *time.Time       `json:"banned_until"`       // until then there is no connection with it; null if it is not banned
	BannedFor       string           `json:"banned_for"`         // as in outcomes; empty if it is not banned
	Location        *Location        `json:"location,omitempty"` // about where it says it is; absent if it does not

	history bool // the text shows the history, too
}

// ScorePart is one part of a reputation.
type ScorePart struct {
	Part   string  `json:"part"`   // reliability, response, bandwidth, recency or nearness
	Value  float64 `json:"value"`  // 0 to 1; 0.5 if nothing is known
	Weight float64 `json:"weight"` // 0 to 1; all of them sum to 1
}

// Location is a place, to the degree.
type Location struct {
	Latitude  int    `json:"latitude"`  // degrees north
	Longitude int    `json:"longitude"` // degrees east
	Region    string `json:"region"`    // a name; may be empty
}

// Peers is a list of other nodes.
type Peers struct {
	Peers []Peer `json:"peers"` // peers
	Total int    `json:"total"` // how many there are in all
}

// NewPeer takes over what is known of one node.
func NewPeer(p shared.Peer) Peer {
	d := Peer{
		PeerID: p.ID, Addresses: orEmpty(p.Addresses), Connections: orEmpty(p.Connections), Agent: p.Agent, Connected: p.Connected, Reputation: p.Reputation,
		SuccessfulRetrievals: p.SuccessfulRetrievals, FailedRetrievals: p.FailedRetrievals, LastSeen: stamp(p.LastSeen),
		PackagesProvided: p.PackagesProvided, AvgResponseTimeMS: float64(p.AvgResponseTime) / float64(time.Millisecond),
		AvgBandwidth: p.AvgBandwidth, Score: []ScorePart{}, Outcomes: map[string]int64{}, ReceivedBytes: p.ReceivedBytes, Downloads: p.Downloads,
		FirstSeen: stamp(p.FirstSeen), LastSuccess: stamp(p.LastSuccess), LastFailure: stamp(p.LastFailure), LastFailureKind: p.LastFailureKind,
		FailuresInRow: p.FailuresInRow, RestsUntil: stamp(p.RestsUntil), BannedUntil: stamp(p.BannedUntil), BannedFor: p.BannedFor,
	}
	for _, part := range p.Score {
		d.Score = append(d.Score, ScorePart{Part: part.Name, Value: part.Value, Weight: part.Weight})
	}
	maps.Copy(d.Outcomes, p.Outcomes)
	if l := p.Location; l != nil {
		d.Location = &Location{Latitude: l.Latitude, Longitude: l.Longitude, Region: l.Region}
	}
	return d
}

// WithHistory is the same node, with its history in the text as well.
func (d Peer) WithHistory() Peer {
	d.history = true
	return d
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
		row := []string{
			peer.PeerID, peer.state(), fmt.Sprintf("%.2f", peer.Reputation),
			fmt.Sprintf("%d/%d", peer.SuccessfulRetrievals, peer.SuccessfulRetrievals+peer.FailedRetrievals), peer.responseTime(),
		}
		if p.Verbose {
			row = append(row, peer.bandwidth(), Bytes(peer.ReceivedBytes), fmt.Sprint(peer.PackagesProvided), clock(peer.LastSeen))
		}
		rows = append(rows, append(row, strings.Join(peer.Addresses[:min(1, len(peer.Addresses))], "")))
	}
	header := []string{"PEER", "STATE", "REPUTATION", "GOOD/ALL", "ANSWERS IN"}
	if p.Verbose {
		header = append(header, "SENDS", "RECEIVED", "PACKAGES", "LAST SEEN")
	}
	p.Table(append(header, "ADDRESS"), rows)
	if len(rows) == 0 {
		p.Line("No peers are known.")
	}
}

// state is how a peer stands in one word.
func (d Peer) state() string {
	switch {
	case d.BannedUntil != nil:
		return "banned"
	case d.Connected:
		return "connected"
	case len(d.Connections) > 0:
		return "relayed"
	}
	return "known"
}

func (d Peer) responseTime() string {
	if d.AvgResponseTimeMS <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", d.AvgResponseTimeMS)
}

func (d Peer) bandwidth() string {
	if d.AvgBandwidth <= 0 {
		return "-"
	}
	return Bytes(int64(min(d.AvgBandwidth, 1<<50))) + "/s"
}

// clock is a time for people; none is empty.
func clock(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}

// until is a time to come, and what for, for people; none is empty.
func until(t *time.Time, why string) string {
	if t == nil {
		return ""
	}
	text := "until " + clock(t)
	if why != "" {
		text += ", for " + why
	}
	return text
}

// Text implements [Document].
func (d Peer) Text(p *Page) {
	connected := "no"
	if d.Connected {
		connected = "yes"
	}
	place := ""
	if l := d.Location; l != nil {
		place = strings.TrimSpace(fmt.Sprintf("%d° north, %d° east %s", l.Latitude, l.Longitude, l.Region)) + " (as it says)"
	}
	p.Fields(slices.Concat([]string{"Peer ID", d.PeerID, "Agent", d.Agent, "Connected", connected, "Last seen", clock(d.LastSeen), "Place", place}, each("Connection", d.Connections), each("Address", d.Addresses), []string{
		"Reputation", fmt.Sprintf("%.2f of 1", d.Reputation),
		"Banned", until(d.BannedUntil, d.BannedFor), "Rests", until(d.RestsUntil, ""),
		"Retrievals", fmt.Sprintf("%d good, %d failed", d.SuccessfulRetrievals, d.FailedRetrievals),
		"Answers in", d.responseTime(), "Sends", d.bandwidth(), "Provides", plural(d.PackagesProvided, "package", "packages"),
	})...)
	if len(d.Score) > 0 {
		p.Line("")
		rows := make([][]string, 0, len(d.Score))
		for _, part := range d.Score {
			rows = append(rows, []string{part.Part, fmt.Sprintf("%.2f", part.Value), fmt.Sprintf("%.2f", part.Weight), fmt.Sprintf("%.3f", part.Value*part.Weight)})
		}
		p.Table([]string{"PART", "VALUE", "WEIGHT", "MAKES"}, rows)
	}
	if d.history {
		d.textHistory(p)
	}
}

// textHistory is what the reputation comes from.
func (d Peer) textHistory(p *Page) {
	p.Line("")
	row := ""
	if d.FailuresInRow > 0 {
		row = fmt.Sprintf(", %d in a row", d.FailuresInRow)
	}
	failed := ""
	if d.LastFailure != nil {
		failed = clock(d.LastFailure) + " (" + d.LastFailureKind + row + ")"
	}
	fields := []string{
		"First seen", clock(d.FirstSeen), "Last success", clock(d.LastSuccess), "Last failure", failed,
		"Received", Bytes(d.ReceivedBytes), "Downloads", fmt.Sprintf("%d now", d.Downloads),
	}
	for _, outcome := range sortedKeys(d.Outcomes) {
		fields = append(fields, outcome, fmt.Sprint(d.Outcomes[outcome]))
	}
	p.Fields(fields...)
}

// Dialled is what happened to one bootstrap address.
type Dialled struct {
	Address   string       `json:"address"`         // as it was given
	PeerID    string       `json:"peer_id"`         // libp2p peer ID
	Connected bool         `json:"connected"`       // a peer answered there
	TookMS    float64      `json:"took_ms"`         // until the outcome was known, in milliseconds
	Error     *ErrorFields `json:"error,omitempty"` // why not, if it is not connected
}

// Bootstrap is the result of dialling bootstrap addresses.
type Bootstrap struct {
	Results   []Dialled `json:"results"`   // one for each address
	Connected int       `json:"connected"` // addresses that a peer answered at
	Total     int       `json:"total"`     // how many there are in all
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
