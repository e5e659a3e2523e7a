package shared

import "time"

// NodeStatus tells how the node stands in the network.
type NodeStatus struct {
	PeerID          string
	ListenAddresses []string // full dialable multiaddrs that end in /p2p/<PeerID>
	Mode            string   // "full", "light" or "super"
	Reachability    string   // "public", "private" or "unknown"
	DHTMode         string   // "server" or "client"
	BootstrapCount  int      // bootstrap addresses it was given
	ConnectedPeers  int
	KnownPeers      int
	RoutingTable    int // peers in the DHT routing table
	Publisher       PublisherID
	Publishers      int
	Releases        int
	HeldPackages    int   // releases whose content is here
	HeldBytes       int64 // bytes of that content
	StartedAt       time.Time
	Version         string
	Staying         bool      // asked to run until stopped
	PeerTable       int       // peers that are known to answer DHT queries, this one included
	DHTServers      int       // connected peers that do
	InboundPeers    int       // connected peers that have dialled this one
	Entries         int64     // log entries in the catalogue
	NewestHead      time.Time // when the newest statement of any publisher was signed
	ReceivedBytes   int64     // of packages, from other peers, since the start
	SentBytes       int64     // of packages, to other peers
	ReceiveRate     float64   // bytes a second over the last minute
	SendRate        float64
	CacheHits       int64 // packages that were wanted and here, since the start
	CacheMisses     int64 // that had to be fetched
	Diagnostics     []Diagnostic
}

// PeerQuery selects peers; the zero value lists all that are known.
type PeerQuery struct {
	ID            string // one peer, by full ID
	ConnectedOnly bool
	MinReputation float64
}

// PeerList is the answer to a [PeerQuery].
type PeerList struct {
	Peers []Peer
	Total int
}

// Peer is what this node knows first-hand of another one. Times that are zero mean never.
type Peer struct {
	ID                   string
	Addresses            []string
	Connections          []string // where the peer is at the other end of each; with /p2p-circuit it is behind a relay
	Agent                string
	Connected            bool
	Reputation           float64 // 0..1; 0.5 for a stranger, 0 while it is banned
	SuccessfulRetrievals int64
	FailedRetrievals     int64
	LastSeen             time.Time
	PackagesProvided     int
	AvgResponseTime      time.Duration    // moving average; 0: not measured
	AvgBandwidth         float64          // bytes a second, moving average; 0: not measured
	Score                []ScorePart      // what the reputation is made of
	Outcomes             map[string]int64 // how many dealings went how, such as "delivered" or "stalled"
	ReceivedBytes        int64            // verified content from it
	Downloads            int              // from it, now
	FirstSeen            time.Time
	LastSuccess          time.Time
	LastFailure          time.Time
	LastFailureKind      string    // as in Outcomes
	FailuresInRow        int       // since the last success
	RestsUntil           time.Time // until then it is asked after all others
	BannedUntil          time.Time // until then there is no connection with it
	BannedFor            string    // as in Outcomes
	Location             *Location // what it says of itself; nil: nothing
}

// ScorePart is one part of a reputation, which is the sum of all values times weights.
type ScorePart struct {
	Name   string
	Value  float64 // 0..1; 0.5: nothing is known
	Weight float64 // 0..1; all of them sum to 1
}

// Location is about where a peer says it is.
type Location struct {
	Latitude, Longitude int    // whole degrees; north and east are positive
	Region              string // a name for people; may be empty
}

// DialOutcome is what happened to one bootstrap address.
type DialOutcome struct {
	Address string
	PeerID  string
	Took    time.Duration
	Err     *Error // nil: connected
}
