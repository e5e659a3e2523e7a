package shared

import (
	"context"
	"io"
	"time"
)

// Marketplace is what an engine can do for a host. The in-process engine, the
// gRPC client and any other implementation behave alike; package
// shared/conformance is the test of that.
//
// All methods are safe for concurrent use. Every method returns a [*Error] (or
// nil): the context's end comes back as [ReasonCanceled] or
// [ReasonDeadlineExceeded], which errors.Is also matches with context.Canceled
// and context.DeadlineExceeded. Callbacks are called one at a time, from the
// goroutine that made the call, and never after the method has returned.
type Marketplace interface {
	// Info tells which engine this is. It never touches the network.
	Info(ctx context.Context) (EngineInfo, error)

	// Search ranks the packages of the local catalogue. An empty text lists
	// everything in name order. Nothing found is a result, not an error.
	Search(ctx context.Context, query SearchQuery) (SearchResult, error)

	// Describe tells what the catalogue knows of one package. Reasons:
	// NOT_FOUND, NO_PEERS, AMBIGUOUS.
	Describe(ctx context.Context, ref Ref) (PackageDetails, error)

	// Publish reads a package folder as a tar stream (any order, ended by tree's
	// EOF), makes the canonical archive, signs the release and announces it. It
	// returns once the release is durable here and handed to the network.
	// Publishing identical content again is a success that says so.
	// Reasons: INVALID_MANIFEST, INVALID_PACKAGE, LIMIT_EXCEEDED,
	// VERSION_EXISTS, STORAGE_FULL.
	Publish(ctx context.Context, req PublishRequest, tree io.Reader, report ProgressFunc) (PublishReceipt, error)

	// Declare states something about a package that this publisher has released:
	// that a release is withdrawn, or a package deprecated. It returns once that is
	// durable here and handed to the network; stating what holds already is a
	// success that says so. Nothing is deleted by it.
	// Reasons: INVALID_ARGUMENT, NOT_FOUND, UNTRUSTED, LIMIT_EXCEEDED, STORAGE_FULL.
	Declare(ctx context.Context, statement Statement) (DeclareReceipt, error)

	// Install resolves, fetches, verifies and unpacks packages and what they
	// depend on below req.Root. Each package folder appears whole or not at all.
	// Reasons: NOT_FOUND, NO_PEERS, AMBIGUOUS, UNTRUSTED, UNSATISFIABLE,
	// UNAVAILABLE, PEERS_FAILED, INTEGRITY, MODIFIED, STORAGE_FULL.
	Install(ctx context.Context, req InstallRequest, report ProgressFunc) (InstallReceipt, error)

	// Verify compares installed folders with the digests they were installed
	// with. A difference is part of the report, not an error.
	Verify(ctx context.Context, req VerifyRequest) (VerifyReport, error)

	// Trust is about whom names mean.
	Trust

	// Bundles is about machines without a network, and proofs.
	Bundles

	// Keys is about who signs what this node publishes.
	Keys

	// Cache is about what this node keeps of packages.
	Cache

	// Status tells how this node stands in the network.
	Status(ctx context.Context) (NodeStatus, error)

	// Peers lists the peers this node knows, the connected ones first.
	Peers(ctx context.Context, query PeerQuery) (PeerList, error)

	// Bootstrap dials every address (multiaddr with /p2p/) at once and says for
	// each what happened. It fails only if an address cannot be parsed.
	Bootstrap(ctx context.Context, addresses []string) ([]DialOutcome, error)

	// Watch delivers events until ctx ends (which is then its error) or deliver
	// returns an error (which is then returned). A consumer that is too slow
	// gets an event of kind [EventLost] with the number it missed.
	Watch(ctx context.Context, query WatchQuery, deliver func(Event) error) error
}

// EngineInfo identifies a running engine.
type EngineInfo struct {
	Name         string   // always "marketplace" for this contract
	Version      string   // semver of the engine's build
	Protocols    []int    // protocol versions it speaks, ascending
	InstanceID   string   // random for each start: two answers with one ID come from one process
	Capabilities []string // sorted names of optional features
	PID          int
	StartedAt    time.Time
}

// Severity says how much a diagnostic matters.
type Severity string

// The severities, as they appear in JSON output.
const (
	SeverityInfo    Severity = "info"
	SeverityWarning Severity = "warning"
	SeverityError   Severity = "error" // of a [Finding] only: the package cannot be published
)

// Diagnostic is a remark that travels beside a result: the call succeeded, and
// this is worth knowing.
type Diagnostic struct {
	Severity Severity
	Reason   Reason // may be empty
	Message  string
	Hint     string
}

// Progress is one step of a long call. Done and Total count bytes when Phase
// is [PhaseUpload], [PhaseFetch] or [PhaseUnpack]; Total is 0 while unknown.
type Progress struct {
	Phase   Phase
	Package string // name@version, once known
	Done    int64
	Total   int64
	Message string // for people; may be empty
}

// ProgressFunc receives progress; nil is allowed where one is asked for.
type ProgressFunc func(Progress)

// Report calls f unless it is nil.
func (f ProgressFunc) Report(p Progress) {
	if f != nil {
		f(p)
	}
}

// Phase names what a long call is doing.
type Phase string

// The phases of publish (upload, archive, sign, announce) and install (resolve,
// fetch, verify, unpack).
const (
	PhaseUpload   Phase = "upload"
	PhaseArchive  Phase = "archive"
	PhaseSign     Phase = "sign"
	PhaseAnnounce Phase = "announce"
	PhaseResolve  Phase = "resolve"
	PhaseFetch    Phase = "fetch"
	PhaseVerify   Phase = "verify"
	PhaseUnpack   Phase = "unpack"
)

// EventKind names what a [Watch] event is about.
type EventKind string

// The kinds of events. Consumers ignore kinds they do not know.
const (
	EventRelease     EventKind = "release"     // Package is the new release
	EventPeerJoined  EventKind = "peer-joined" // PeerID connected
	EventPeerLeft    EventKind = "peer-left"   // PeerID disconnected
	EventQuarantined EventKind = "quarantined" // Package.Publisher lied; Message says how
	EventLost        EventKind = "events-lost" // Lost events were dropped before this one
)

// Event is something that happened on the node while it was watched.
type Event struct {
	Kind    EventKind
	Time    time.Time
	Package PackageSummary
	PeerID  string
	Lost    int
	Message string
}

// WatchQuery selects events; the zero value selects all.
type WatchQuery struct {
	Kinds []EventKind
	Text  string // for releases: every word must occur in name, description or tags
}
