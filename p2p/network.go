package p2p

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/gossip"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/p2p/replicate"
	"ggen.dev/marketplace/p2p/reputation"
	"ggen.dev/marketplace/p2p/search"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

const (
	// syncAgain is how long after meeting a peer it is asked once more: two peers
	// pass gossip on to each other only from the first heartbeat after they met.
	syncAgain = 2 * time.Second

	// syncTimeout bounds one catalogue exchange.
	syncTimeout = 2 * time.Minute

	// learnTimeout bounds how long a question waits for the first exchange with
	// the network, when this peer has just started and the answer is not here.
	learnTimeout = 5 * time.Second
)

// judge is the gossip validator: it verifies everything that can be verified
// without the rest of the log, before the message is passed on.
func (e *Engine) judge(ctx context.Context, from peer.ID, data []byte) gossip.Verdict {
	u, err := publisher.ParseUpdate(data)
	if err != nil {
		return gossip.Reject
	}
	var v publisher.Verified
	given, err := e.catalog.Chain(u.Roots)
	if err == nil {
		v, err = u.VerifyUnder(given, time.Now())
	}
	switch {
	case errors.Is(err, publisher.ErrInvalid):
		return gossip.Reject
	case err != nil:
		return gossip.Ignore // a clock ahead of ours, keys that were replaced: not the fault of whoever passed it on
	}
	chain, known, _ := e.catalog.Head(v.Chain.ID)
	if _, replaces := v.Chain.Replaces(chain); replaces {
		return gossip.Accept
	}
	_, out := e.catalog.Quarantined(v.Chain.ID)
	same := known.Size == v.Head.Size && known.Hash == v.Head.Hash && !v.Head.Newer(known)
	if out || same || v.Head.Size < known.Size {
		return gossip.Ignore // nothing new, and no fault of whoever passed it on
	}
	if from != e.node.PeerID() {
		e.meters.Propagated(ctx, e.now().Sub(v.Head.Time))
	}
	return gossip.Accept
}

// hear takes an announcement that the validator accepted. What it leaves out is
// fetched from the peer that passed it on.
func (e *Engine) hear(ctx context.Context, from peer.ID, data []byte) {
	u, err := publisher.ParseUpdate(data)
	if err != nil {
		return // the validator has parsed it
	}
	_, err = e.apply(u)
	if !errors.Is(err, publisher.ErrGap) {
		return
	}
	chain, err := e.catalog.Chain(u.Roots)
	if err != nil {
		return
	}
	e.fetchLog(ctx, from, chain.ID)
	if head, err := publisher.OpenHead(u.Head, chain, e.now()); err == nil && e.catalog.Held(chain.ID) < head.Size {
		e.background(func(ctx context.Context) { e.fetchLater(ctx, from, chain.ID, head.Size) })
	}
}

// A neighbour passes an announcement on before it has fetched itself what was left out of
// it. Then it is asked again after fetchAgain, and after twice that, and so on until
// fetchAgainFor. What is still missing comes with the next comparison of catalogues.
const (
	fetchAgain    = 100 * time.Millisecond
	fetchAgainFor = 10 * time.Second
)

// fetchLater fetches a log up to a size from a neighbour that does not have it yet.
func (e *Engine) fetchLater(ctx context.Context, from peer.ID, id shared.PublisherID, size int64) {
	for wait := fetchAgain; wait < fetchAgainFor; wait *= 2 {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if e.catalog.Held(id) >= size {
			return // another neighbour had it
		}
		e.fetchLog(ctx, from, id)
		if e.catalog.Held(id) >= size {
			return
		}
	}
}

// fetchLog asks a peer for what it has more of a log.
func (e *Engine) fetchLog(ctx context.Context, from peer.ID, id shared.PublisherID) {
	if _, err := e.replicate.Fetch(ctx, from, id, e.catalog.Held(id)); err != nil && ctx.Err() == nil {
		e.log.InfoContext(ctx, "fetch what an announcement left out", "publisher", id.Short(), "peer", from, "error", err)
	}
}

// apply is the one way in for what the network says: the catalogue verifies and
// stores it, then it can be searched and watched.
func (e *Engine) apply(u publisher.Update) (catalog.Change, error) {
	change, err := e.catalog.Apply(u)
	if err == nil || errors.Is(err, publisher.ErrInvalid) {
		e.meters.Updated(err == nil)
	}
	var forked *publisher.EquivocationError
	if errors.As(err, &forked) {
		e.log.Warn("a publisher signed two different logs", "publisher", forked.First.Publisher)
		e.feed.publish(shared.Event{
			Kind: shared.EventQuarantined, Package: shared.PackageSummary{Publisher: forked.First.Publisher}, Message: forked.Error(),
		})
	}
	for _, name := range change.Packages { // even with an error: a recovery may have come first
		e.index(name, change.Publisher)
	}
	if err != nil {
		return change, err
	}
	for _, rel := range change.Releases {
		e.feed.publish(shared.Event{Kind: shared.EventRelease, Package: summaryOf(rel)})
	}
	return change, nil
}

const (
	// passedOn is how many logs that a sync has brought forward are announced in
	// passPeriod: after a partition the few that changed reach everybody at once, and a
	// newcomer who learns of all logs does not tell all others what they know.
	passedOn   = 16
	passPeriod = 30 * time.Second
)

// passing counts the announcements of passPeriod.
type passing struct {
	mu    sync.Mutex
	since time.Time
	count int
}

// allowed tells whether there is room for one more announcement.
func (p *passing) allowed(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.since) > passPeriod {
		p.since, p.count = now, 0
	}
	p.count++
	return p.count <= passedOn
}

// passOn announces the head of a log that came by a sync: gossip had left this peer
// out, and so perhaps its neighbours. Who knows it already does not pass it on.
func (e *Engine) passOn(id shared.PublisherID) {
	record := e.headRecord(id)
	if record == nil || !e.passing.allowed(e.now()) {
		return
	}
	e.background(func(ctx context.Context) {
		if _, err := e.topic.Announce(ctx, record); err != nil && ctx.Err() == nil {
			e.log.Debug("pass on what a sync has brought", "publisher", id.Short(), "error", err)
		}
	})
}

// index makes what was said about a package searchable: it is found by its newest
// release that is not withdrawn.
func (e *Engine) index(name string, id shared.PublisherID) {
	for _, pkg := range e.catalog.Lookup(name) {
		if pkg.Publisher == id {
			e.search.Put(e.docOf(pkg))
			return
		}
	}
	e.search.Remove(name, id) // a recovery has made it void
}

// indexCatalogue makes all that is known searchable. Most of the work is splitting
// texts into words, which goes on on all processors.
func (e *Engine) indexCatalogue() {
	packages := make(chan catalog.Package, 256)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for pkg := range packages {
				e.search.Put(e.docOf(pkg))
			}
		})
	}
	e.catalog.All(func(_ string, pkg catalog.Package) { packages <- pkg })
	close(packages)
	workers.Wait()
}

func (e *Engine) docOf(pkg catalog.Package) search.Doc {
	newest := pkg.Newest()
	doc := search.Doc{Summary: summaryOf(newest), Keywords: newest.Keywords, Readme: newest.Readme}
	doc.Summary.Deprecated = pkg.Deprecation != nil
	doc.Holders, _ = e.holders.Holders(keyOf(newest))
	return doc
}

// peerChanged is told of peers that come and go.
func (e *Engine) peerChanged(p peer.ID, connected bool) {
	kind := shared.EventPeerLeft
	if connected {
		kind = shared.EventPeerJoined
		e.reputation.Seen(p.String())
		if agent, err := e.node.Host().Peerstore().Get(p, "AgentVersion"); err == nil {
			if name, ok := agent.(string); ok {
				e.reputation.Placed(p.String(), reputation.PlaceIn(name))
			}
		}
		if !e.cfg.Light {
			e.background(func(ctx context.Context) { e.syncWith(ctx, p) })
		}
	}
	e.feed.publish(shared.Event{Kind: kind, PeerID: p.String()})
}

// syncWith pulls a new peer's catalogue, and again a little later.
func (e *Engine) syncWith(ctx context.Context, p peer.ID) {
	for round := range 2 {
		bounded, cancel := context.WithTimeout(ctx, syncTimeout)
		_, err := e.replicate.Sync(bounded, p)
		cancel()
		if err != nil && ctx.Err() == nil {
			e.log.InfoContext(ctx, "sync", "peer", p, "error", err)
		}
		if err == nil {
			e.learned.done()
		}
		if round > 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(syncAgain):
		}
	}
}

// learning tells whether this peer has exchanged catalogues with anybody since
// it started.
type learning struct {
	once     *sync.Once
	finished chan struct{} // closed after the first exchange
}

func newLearning() learning { return learning{once: new(sync.Once), finished: make(chan struct{})} }

func (l learning) done() { l.once.Do(func() { close(l.finished) }) }

// stillLearning tells whether an answer that is not here may arrive any moment:
// the peer has somebody to learn from and has not finished yet.
func (e *Engine) stillLearning() bool {
	select {
	case <-e.learned.finished:
		return false
	default:
		return len(e.cfg.Bootstrap) > 0 || e.node.KnownPeers() > 0 || len(e.node.Connected()) > 0
	}
}

// learn waits for the first exchange, for at most learnTimeout.
func (e *Engine) learn(ctx context.Context) error {
	timer := time.NewTimer(learnTimeout)
	defer timer.Stop()
	select {
	case <-e.learned.finished:
	case <-timer.C:
	case <-e.closing.Done():
	case <-ctx.Done():
		return shared.AsError(ctx.Err())
	}
	return nil
}

// awaitLogs is learn for those who need logs, and not only what others prove of them.
func (e *Engine) awaitLogs(ctx context.Context) error {
	if !e.stillLearning() {
		return nil
	}
	return e.learn(ctx)
}

// headCodec verifies head records of the DHT: an update without entries.
type headCodec struct{}

// Check implements routing.HeadCodec: the keys decide, then the size of the log, then
// the time. What follows a chain's order is less than any further document of it.
func (headCodec) Check(publisherHex string, value []byte) (order string, err error) {
	u, err := publisher.ParseUpdate(value)
	if err != nil {
		return "", err
	}
	v, err := u.Verify(time.Now())
	if err != nil {
		return "", err
	}
	if string(v.Chain.ID) != publisherHex || len(u.Entries) > 0 {
		return "", errors.New("the record is another publisher's, or no head")
	}
	return fmt.Sprintf("%s/%012d/%012d", v.Chain.Order(), v.Head.Size, v.Head.Time.Unix()), nil
}

// headRecord is the DHT record of a publisher's newest head, nil if it is unknown.
func (e *Engine) headRecord(id shared.PublisherID) []byte {
	chain, head, ok := e.catalog.Head(id)
	if !ok {
		return nil
	}
	return publisher.Update{Roots: chain.Signed(), Head: head.Signed, From: head.Size}.Marshal()
}

// kept is what this peer keeps announced in the DHT: its own head and the content
// that it holds.
type kept struct{ e *Engine }

// Heads implements routing.Kept.
func (k kept) Heads() iter.Seq2[shared.PublisherID, []byte] {
	return func(yield func(shared.PublisherID, []byte) bool) {
		if record := k.e.headRecord(k.e.ring.ID()); record != nil {
			yield(k.e.ring.ID(), record)
		}
	}
}

// Digests implements routing.Kept.
func (k kept) Digests() iter.Seq[shared.Digest] {
	return func(yield func(shared.Digest) bool) {
		for _, rel := range k.e.heldReleases() {
			if !yield(rel.Archive.Digest) {
				return
			}
		}
	}
}

// heldReleases lists the releases whose content is here.
func (e *Engine) heldReleases() []*catalog.Release {
	var held []*catalog.Release
	e.catalog.All(func(_ string, pkg catalog.Package) {
		for _, rel := range pkg.Releases {
			if e.store.Has(rel.Archive.Digest) {
				held = append(held, rel)
			}
		}
	})
	return held
}

// replicated gives package replicate the catalogue in its own words.
type replicated struct{ e *Engine }

// Heads implements replicate.Catalog.
func (r replicated) Heads() iter.Seq[replicate.Head] {
	return func(yield func(replicate.Head) bool) {
		for _, head := range r.e.catalog.Heads() {
			if !yield(replicate.Head{Publisher: head.Publisher, Size: head.Size, Hash: head.Hash}) {
				return
			}
		}
	}
}

// Wants implements replicate.Catalog.
func (r replicated) Wants(head replicate.Head) (from int64, wanted bool) {
	_, _, ok := r.e.catalog.Head(head.Publisher)
	held := r.e.catalog.Held(head.Publisher)
	publishers, _ := r.e.catalog.Count()
	if !ok && publishers >= catalog.MaxPublishers {
		return 0, false // full: what is known is kept up to date
	}
	ref := catalog.HeadRef{Publisher: head.Publisher, Size: head.Size, Hash: head.Hash}
	switch {
	case !ok:
		return 0, head.Size > 0
	case r.e.catalog.Refused(ref):
		return 0, false // nobody can have changed its mind: asking again would only look like a lie
	case r.e.catalog.Contradicts(ref):
		return head.Size, true // a fork, or a recovery
	case head.Size > held:
		return held, true
	}
	return 0, false
}

// Since implements replicate.Catalog.
func (r replicated) Since(id shared.PublisherID, from int64, maxBytes int) (update []byte, next int64, err error) {
	u, err := r.e.catalog.Since(id, from, maxBytes)
	if errors.Is(err, shared.ReasonNotFound) || errors.Is(err, publisher.ErrStale) {
		return nil, 0, errors.Join(replicate.ErrNone, err)
	}
	if err != nil {
		return nil, 0, err
	}
	if end := u.From + int64(len(u.Entries)); end < r.e.sizeOf(id) && len(u.Entries) > 0 {
		next = end
	}
	return u.Marshal(), next, nil
}

func (e *Engine) sizeOf(id shared.PublisherID) int64 {
	_, head, _ := e.catalog.Head(id)
	return head.Size
}

// Apply implements replicate.Catalog.
func (r replicated) Apply(_ context.Context, _ peer.ID, update []byte) error {
	u, err := publisher.ParseUpdate(update)
	var change catalog.Change
	if err == nil {
		change, err = r.e.apply(u)
	}
	if err == nil && change.Complete {
		r.e.passOn(change.Publisher)
	}
	var forked *publisher.EquivocationError
	switch {
	case err == nil, errors.Is(err, publisher.ErrStale), errors.As(err, &forked):
		return nil // a fork is its publisher's fault, and telling us was right
	case errors.Is(err, publisher.ErrGap):
		return nil // what is wanted then says how to go on
	case errors.Is(err, shared.ReasonLimitExceeded):
		return nil // no room for this one; the rest of the exchange goes on
	case errors.Is(err, publisher.ErrInvalid):
		return shared.NewError(shared.ReasonIntegrity, "%w", err)
	}
	return err
}

// misbehaved is told of a peer that broke a protocol, as the one who asks or the one who
// answers, or that lied about catalogues or other peers.
func (e *Engine) misbehaved(p peer.ID, cause error) {
	e.log.Warn("a peer broke a protocol, or lied", "peer", p, "error", cause)
	e.deal(context.Background(), p, reputation.Malformed, transfer.Outcome{})
}

// flooding is told of a neighbour that sends announcements by the hundred that are of no
// use to anybody.
func (e *Engine) flooding(p peer.ID) {
	e.deal(context.Background(), p, reputation.Flooded, transfer.Outcome{})
}

// outcomes are those of transfers in the words of the book.
var outcomes = map[transfer.Kind]reputation.Outcome{
	transfer.Delivered: reputation.Success, transfer.Absent: reputation.Absent, transfer.Busy: reputation.Busy,
	transfer.Unreachable: reputation.Unreachable, transfer.Disconnected: reputation.Disconnected, transfer.Stalled: reputation.Stalled,
	transfer.Malformed: reputation.Malformed, transfer.WrongContent: reputation.WrongContent,
}

// observe is told how peers did in transfers.
func (e *Engine) observe(ctx context.Context, o transfer.Outcome) {
	e.traffic.received.add(o.Bytes, e.now())
	e.meters.Dealt(string(o.Kind), o.Bytes)
	outcome, known := outcomes[o.Kind]
	if !known {
		outcome = reputation.Failure
	}
	e.deal(ctx, o.Peer, outcome, o)
}

// deal notes an outcome, in the context of what it is of. A peer that is banned for it is put out, and that is written
// down at once, so that a restart does not let it in again.
func (e *Engine) deal(ctx context.Context, p peer.ID, outcome reputation.Outcome, o transfer.Outcome) {
	if !e.reputation.Observe(p.String(), outcome, o.Bytes, o.Took, o.FirstByte) {
		if outcome == reputation.Success {
			e.node.Useful(p)
		}
		return
	}
	e.log.WarnContext(ctx, "a peer is banned", "peer", p, "for", outcome, "time", outcome.Ban())
	e.backgroundOf(ctx, func(ctx context.Context) {
		e.node.Expel(p)
		if err := e.reputation.Save(); err != nil {
			e.log.WarnContext(ctx, "write down a ban", "peer", p, "error", err)
		}
	})
}

// isBanned tells whether there is to be no connection with a peer.
func (e *Engine) isBanned(p peer.ID) bool { return e.reputation.Banned(p.String()) }
