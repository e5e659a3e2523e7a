// Package p2p is the marketplace engine: a peer that publishes, finds and
// installs packages without a server. [Engine] implements shared.Marketplace by
// composing the small packages below this folder, which do not know each other;
// here is the only place where they meet. It does not know gRPC, go-plugin or
// the command line: package plugin serves it, package host calls it.
//
// What the network says takes one way in: gossip (hear) and sync (replicate) both
// end in Engine.apply, which lets the catalogue verify and store it and then makes
// it searchable.
package p2p

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"ggen.dev/marketplace/p2p/ask"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/gossip"
	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/overlay"
	"ggen.dev/marketplace/p2p/popularity"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/p2p/replicate"
	"ggen.dev/marketplace/p2p/reputation"
	"ggen.dev/marketplace/p2p/routing"
	"ggen.dev/marketplace/p2p/search"
	"ggen.dev/marketplace/p2p/selection"
	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/p2p/telemetry"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/p2p/trust"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/tracing"
)

// Config describes an engine. Home is required; every other zero value has the
// documented default.
type Config struct {
	// Home is an absolute folder for keys, database and content; it is made, 0700,
	// if it is missing. One engine at a time can have it open.
	Home string
	// Listen are multiaddrs of TCP or QUIC. Default: [node.DefaultListen].
	Listen []string
	// Bootstrap are multiaddrs that end in /p2p/<peer ID>.
	Bootstrap []string
	// DHTServer makes the peer serve the DHT even when it may not be reachable.
	DHTServer bool
	// Network is the network's name; peers of another name are strangers.
	// Default: [node.DefaultNetwork].
	Network string
	// LookupFanout is how many peers a lookup in the DHT asks at first, LookupConcurrency
	// how many at most at once. 0: 5 and 10; see [routing.Config].
	LookupFanout, LookupConcurrency int
	// UploadLimit is how many bytes a second are sent of packages; 0: no limit.
	UploadLimit int64
	// Cache bounds what is remembered and kept of others.
	Cache CacheConfig
	// MetricsAddr is the loopback address, host:port, at which metrics can be read; empty:
	// none.
	MetricsAddr string
	// MetricReaders read the metrics, too; the engine closes them.
	MetricReaders []sdkmetric.Reader
	// Light makes a peer that keeps no catalogue: it asks others.
	Light bool
	// SuperPeer makes the peer announce that it answers for light ones.
	SuperPeer bool
	// Local makes the peer find others in the local network by multicast DNS.
	Local bool
	// NetworkKey is the file of the pre-shared key of a private network; see
	// [node.Secret]. Empty: the network is open.
	NetworkKey string
	// AllowPeers are the IDs of the only peers that may connect. Empty: all.
	AllowPeers []string
	// Location is where this machine is, if others may know: it is rounded to whole
	// degrees and told to every peer that it connects to. nil: nobody is told.
	Location *Location
	// MaxContent bounds the content that is kept, in bytes. 0: the disk's bound.
	MaxContent int64
	// Version is the semver of this build. Default: "0.0.0-dev".
	Version string
	// Options are libp2p options for simulated transports.
	Options []libp2p.Option
	// Logger is told what happens. Default: discards.
	Logger *slog.Logger
}

// Location is a place on Earth. Region is a name for people: a-z, 0-9 and '-', at most 32
// bytes; it may be empty.
type Location struct {
	Latitude, Longitude float64 // degrees; north and east are positive
	Region              string
}

// Engine is a running peer. Its methods may be called concurrently.
type Engine struct {
	cfg        Config
	log        *slog.Logger
	started    time.Time
	instance   string
	ring       *publisher.Keyring
	keysChange sync.Mutex // held while keys are changed

	db         *store.DB
	store      *store.Store
	catalog    *catalog.Catalog
	search     *search.Index
	reputation *reputation.Book
	selector   *selection.Selector
	sources    *sources
	holders    *popularity.Book
	node       *node.Node
	overlay    *overlay.Overlay
	routing    *routing.Router // the overlay's
	survey     *popularity.Survey
	topic      *gossip.Topic
	server     *transfer.Server
	fetcher    *transfer.Client
	replicate  *replicate.Replicator

	feed      *feed
	requests  *requests
	shelf     *trust.Shelf
	folders   *folderLocks
	learned   learning
	passing   passing
	asking    asking
	traffic   traffic
	audits    audits
	meters    *telemetry.Meters
	indexes   *indexes
	manifests *manifests
	lookups   *lookups
	added     chan struct{}     // holds a token after content was added
	adding    sync.RWMutex      // read-locked while content comes in that nothing names yet
	up        atomic.Bool       // between the end of Open and the beginning of Close
	synced    atomic.Int64      // when catalogues were last compared with a peer's, in milliseconds; 0: never
	lender    *ask.Server       // nil in a light peer
	borrowed  *catalog.Borrowed // what others have proven while the own catalogue could not say
	resting   resting
	supers    supers
	place     reputation.Place // where others are told that this machine is; the zero value: nowhere

	closing   context.Context // ends when Close begins
	cancel    context.CancelFunc
	running   sync.WaitGroup // background work
	closers   []func() error // what Open opened, in that order
	closeOnce sync.Once
	closeErr  error
}

var _ shared.Marketplace = (*Engine)(nil)

// Open starts a peer: it listens, and begins to look for others in the
// background. ctx bounds opening only; Close ends what was opened. A failed Open
// leaves nothing behind but files.
//
// Errors: INVALID_ARGUMENT, ADDRESS_IN_USE, STORAGE (also when another engine has
// the home open), STORAGE_FULL.
func Open(ctx context.Context, cfg Config) (_ *Engine, err error) {
	if !filepath.IsAbs(cfg.Home) {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "the home %q is not an absolute folder", cfg.Home)
	}
	if cfg.Version == "" {
		cfg.Version = "0.0.0-dev"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		cfg: cfg, log: cfg.Logger, started: time.Now(), instance: newInstance(),
		search: search.New(), selector: selection.New(nil),
		borrowed: catalog.NewBorrowed(),
		feed:     newFeed(), folders: newFolderLocks(), learned: newLearning(), added: make(chan struct{}, 1),
	}
	if l := cfg.Location; l != nil {
		var ok bool
		if e.place, ok = reputation.NewPlace(l.Latitude, l.Longitude, l.Region); !ok {
			return nil, shared.NewError(shared.ReasonInvalidArgument, "the location %v, %v, %q is no place on Earth, or its region is no name", l.Latitude, l.Longitude, l.Region)
		}
	}
	e.closing, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if err := e.openMeters(ctx); err != nil {
		return nil, err
	}
	if err := e.openDisk(); err != nil {
		return nil, err
	}
	if err := e.openNetwork(ctx); err != nil {
		return nil, err
	}
	e.background(e.keepFresh)
	e.background(e.keepPeers)
	e.background(e.keepReputation)
	e.background(e.keepTidy)
	if !e.cfg.Light {
		e.background(e.keepOffering)
	}
	e.background(e.fadeHolders)
	// Reading the catalogue leaves as much garbage as it is large, and an idle engine
	// would keep that memory until it happens to need it.
	e.background(func(context.Context) {
		e.db.ReleasePages()
		debug.FreeOSMemory()
	})
	e.up.Store(true)
	return e, nil
}

// opened remembers how to close a part.
func (e *Engine) opened(closer func() error) { e.closers = append(e.closers, closer) }

func (e *Engine) openDisk() error {
	err := makeFolder(e.cfg.Home)
	if err != nil {
		return err
	}
	// The database comes first: its lock keeps a second engine out of this home, and
	// its schema an older one, which must not have touched anything then.
	if e.db, err = store.OpenDB(filepath.Join(e.cfg.Home, "market.db")); err != nil {
		return err
	}
	e.opened(e.db.Close)
	keys := filepath.Join(e.cfg.Home, "keys")
	if err := makeFolder(keys); err != nil {
		return err
	}
	if e.ring, err = publisher.OpenKeyring(keys); err != nil {
		return err
	}
	if e.store, err = store.Open(filepath.Join(e.cfg.Home, "content"), store.Options{MaxBytes: e.cfg.MaxContent}); err != nil {
		return err
	}
	mine := func(id shared.PublisherID) bool { return !e.cfg.Light || id == e.ring.ID() }
	if e.catalog, err = catalog.OpenOnly(e.db, mine); err != nil {
		return err
	}
	if e.requests, err = openRequests(e.db, e.log); err != nil {
		return err
	}
	if e.shelf, err = trust.OpenShelf(e.db, e.log); err != nil {
		return err
	}
	if e.reputation, err = reputation.Open(e.db); err != nil { // peers are strangers then, which is no reason not to start
		e.log.Warn("read what is known of peers", "error", err)
	}
	e.opened(e.reputation.Save)
	e.reputation.SetPlace(e.place)
	if e.holders, err = popularity.Open(e.db, e.reputation.Rank); err != nil {
		return err
	}
	e.indexes, e.manifests, e.lookups = e.newIndexes(), e.newManifests(), e.newLookups()
	e.opened(e.indexes.Close)
	e.opened(e.manifests.Close)
	e.opened(e.lookups.Close)
	e.indexCatalogue()
	return nil
}

func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return shared.NewError(shared.ReasonStorage, "make the home: %w", err).With("path", path).
			WithHint("the user who runs the engine must be allowed to make this folder")
	}
	return nil
}

func (e *Engine) openNetwork(ctx context.Context) error {
	identity, err := node.LoadOrCreateIdentity(filepath.Join(e.cfg.Home, "keys", "node.key"))
	if err != nil {
		return err
	}
	secret, allowed, err := e.cfg.private()
	if err != nil {
		return err
	}
	e.node, err = node.Open(ctx, node.Config{
		Secret: secret, Allow: allowed, Refuse: e.isBanned, Comment: e.place.String(), Local: e.cfg.Local,
		Identity: identity, Listen: e.cfg.Listen, Bootstrap: e.cfg.Bootstrap,
		DHTServer: e.cfg.DHTServer, DHTClient: e.cfg.Light, AnswerReachability: e.cfg.DHTServer,
		Network: e.cfg.Network, Version: e.cfg.Version, Options: e.measured(e.cfg.Options), Logger: e.log,
		Validators: map[string]record.Validator{routing.HeadNamespace: routing.HeadValidator(headCodec{})},
		Records:    e.saved(keyRecords),
		PeersFile:  filepath.Join(e.cfg.Home, "peers.json"),
		Gossip:     e.tracer(),
	})
	if err != nil {
		return err
	}
	e.opened(e.node.Close)
	if e.server, err = transfer.Serve(e.node.Host(), e.openBlob, transfer.Limits{Rate: e.cfg.UploadLimit, Broke: e.misbehaved, Logger: e.log}); err != nil {
		return named(err, "serve content")
	}
	e.opened(e.server.Close)
	if e.fetcher, err = transfer.NewClient(e.node.Host(), transfer.Config{Observe: e.observe, Expect: func(p peer.ID) transfer.Expected { return e.sources.expect(p) }}); err != nil {
		return named(err, "prepare transfer")
	}
	e.opened(e.fetcher.Close)
	e.replicate, err = replicate.New(e.node.Host(), replicated{e}, replicate.Config{Peers: e.node.Connected, Misbehaved: e.misbehaved, Synced: e.hasSynced, Logger: e.log})
	if err != nil {
		return named(err, "serve the catalogue")
	}
	e.opened(e.replicate.Close)
	if e.overlay, err = overlay.Open(e.node, overlay.Config{
		Identity: identity, Heads: headCodec{}, Keep: kept{e}, Snapshot: e.saved(keyTable), Misbehaved: e.misbehaved, Flooding: e.flooding, Logger: e.log,
		Light: e.cfg.Light, Super: e.isSuper, Fanout: e.cfg.LookupFanout, Concurrency: e.cfg.LookupConcurrency,
	}); err != nil {
		return named(err, "prepare the DHT")
	}
	e.opened(e.overlay.Close)
	e.opened(e.savePeers)
	e.routing = e.overlay.Routing()
	e.sources = &sources{host: e.node.Host(), book: e.reputation, order: e.selector.Order, begin: e.selector.Begin, roundTrip: e.overlay.RoundTrip}
	if e.survey, err = popularity.NewSurvey(e.holders, popularity.Config{Lookup: e.lookUpHolders, Changed: e.rank, Logger: e.log}); err != nil {
		return named(err, "count holders")
	}
	e.opened(e.survey.Close)
	hear := e.hear
	if e.cfg.Light { // it asks when somebody wants to know
		hear = nil
		e.learned.done()
	}
	e.topic, err = gossip.Join(e.node.PubSub(), e.node.PeerID(), e.node.Network(), gossip.Config{Validate: e.judge, Deliver: hear, Flooding: e.flooding, Logger: e.log})
	if err != nil {
		return named(err, "join the announcements")
	}
	e.opened(e.topic.Close)
	if !e.cfg.Light {
		e.lender = ask.Serve(e.node.Host(), e.lend, lendLimits(e.isSuper()), e.misbehaved)
		e.opened(e.lender.Close)
	}
	e.node.OnPeer(e.peerChanged)
	if !e.cfg.Light {
		e.replicate.Start()
	}
	e.node.Start()
	return nil
}

// private is who may join.
func (cfg Config) private() (secret node.Secret, allowed []peer.ID, err error) {
	if cfg.NetworkKey != "" {
		if secret, err = node.ReadSecret(cfg.NetworkKey); err != nil {
			return secret, nil, err
		}
	}
	for _, text := range cfg.AllowPeers {
		id, err := peer.Decode(text)
		if err != nil {
			return secret, nil, shared.NewError(shared.ReasonInvalidArgument, "allow peer %q: %w", text, err).
				WithHint("`ggen marketplace p2p status` on the other machine shows its peer ID")
		}
		allowed = append(allowed, id)
	}
	return secret, allowed, nil
}

// backgroundOf is background for work that belongs to a call, in the call's trace.
func (e *Engine) backgroundOf(call context.Context, work func(ctx context.Context)) {
	e.background(func(ctx context.Context) { work(tracing.Below(ctx, call)) })
}

// background runs work that outlives the call that wants it, until the engine
// closes.
func (e *Engine) background(work func(ctx context.Context)) {
	if e.closing.Err() != nil {
		return
	}
	e.running.Go(func() { work(e.closing) })
}

// Close stops the peer and waits for it. It is idempotent.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		e.up.Store(false)
		e.cancel()
		var errs []error
		for _, closer := range slices.Backward(e.closers) {
			errs = append(errs, closer())
		}
		e.running.Wait()
		e.closeErr = errors.Join(errs...)
	})
	return e.closeErr
}
