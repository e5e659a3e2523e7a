package p2p

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/ask"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/p2p/reputation"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

const (
	// askTimeout bounds a question to others, the wait for the first neighbour included.
	askTimeout = 8 * time.Second

	// maxAskable is how many peers one question may go to, one after the other.
	maxAskable = 12

	// longestRest bounds for how long a peer that says it is busy is left alone.
	longestRest = 30 * time.Second

	// A peer that was not told to be one is a super-peer when it has run for superUptime,
	// can be reached from everywhere, and has sent superRate bytes a second for a minute.
	superUptime = time.Hour
	superRate   = 256 << 10

	// offerEvery is how often a peer looks whether it has become one, or is none any more.
	offerEvery = time.Minute

	// superShare is how many times the questions of an ordinary peer one answers.
	superShare = 8
)

// isSuper tells whether this peer offers to answer for light ones.
func (e *Engine) isSuper() bool {
	if e.cfg.Light {
		return false
	}
	return e.cfg.SuperPeer ||
		e.now().Sub(e.started) >= superUptime && e.node.Reachability() == "public" && e.traffic.sent.best() >= superRate
}

// mode is what kind of peer this is.
func (e *Engine) mode() string {
	switch {
	case e.cfg.Light:
		return "light"
	case e.isSuper():
		return "super"
	}
	return "full"
}

func lendLimits(super bool) ask.Limits {
	if !super {
		return ask.Limits{}
	}
	return ask.Limits{
		Streams: 64 * superShare, PerBlock: 30 * superShare, StreamsPerBlock: 16 * superShare,
		Bytes: (8 << 20) * superShare, BytesPerBlock: (1 << 20) * superShare,
	}
}

// keepOffering announces this peer, and has it answer more, from when it turns out to be
// a super-peer; the DHT's records are then kept up by the overlay.
func (e *Engine) keepOffering(ctx context.Context) {
	super := e.cfg.SuperPeer
	tick := time.NewTicker(offerEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if e.isSuper() == super {
			continue
		}
		super = !super
		e.lender.SetLimits(lendLimits(super))
		if super {
			if err := e.overlay.Offer(ctx); err != nil && ctx.Err() == nil {
				e.log.Info("announce this peer as a super-peer", "error", err)
			}
		}
	}
}

// lend answers a peer without a catalogue: from this peer's own, with proofs.
func (e *Engine) lend(ctx context.Context, q ask.Request) (ask.Answer, error) {
	if q.Name != "" {
		return e.lendPackage(q), nil
	}
	if err := ctx.Err(); err != nil {
		return ask.Answer{}, err
	}
	found, total := e.search.Search(shared.SearchQuery{
		Text: q.Text, Category: q.Category, Tag: q.Tag, Publisher: q.Publisher, License: q.License, Sort: q.Sort, Limit: max(1, q.Limit),
	})
	places := map[shared.PublisherID][]int64{}
	var order []shared.PublisherID
	for _, summary := range found {
		if rel := e.catalog.Release(summary.Name, summary.Publisher, summary.Version); rel != nil {
			if places[rel.Publisher] == nil {
				order = append(order, rel.Publisher)
			}
			places[rel.Publisher] = append(append(places[rel.Publisher], rel.Entry), e.catalog.Remarks(rel, maxRemarks)...)
		}
	}
	answer := ask.Answer{Total: total}
	room := ask.MaxAnswer - answerSpare
	for _, id := range order {
		if proven, err := e.catalog.LendEntries(id, places[id], room); err == nil {
			room = answer.Add(proven.Append(nil), room)
		}
	}
	return answer, nil
}

// maxRemarks is how many entries beside the release a search brings of each package: that
// it was yanked since, or is deprecated.
const maxRemarks = 4

// answerSpare is what an answer has besides its parts, in bytes.
const answerSpare = 4 << 10

func (e *Engine) lendPackage(q ask.Request) ask.Answer {
	var answer ask.Answer
	found := e.catalog.Lookup(q.Name)
	room := ask.MaxAnswer - answerSpare
	for i, pkg := range found {
		if !strings.HasPrefix(string(pkg.Publisher), string(q.Publisher)) {
			continue
		}
		answer.Total++
		if proven, err := e.catalog.Lend(pkg.Publisher, q.Name, room/(len(found)-i)); err == nil {
			room = answer.Add(proven.Append(nil), room)
		}
	}
	return answer
}

// resting are peers that want to be left alone for a while.
type resting struct {
	mu    sync.Mutex // guards until
	until map[peer.ID]time.Time
}

func (r *resting) note(p peer.ID, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil || len(r.until) > 1024 {
		r.until = map[peer.ID]time.Time{}
	}
	r.until[p] = until
}

func (r *resting) rests(p peer.ID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.until[p])
}

// soonest is when the first of some peers that are left alone may be asked again.
func (r *resting) soonest(peers []peer.ID) (first time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range peers {
		if until, rests := r.until[p]; rests && (!ok || until.Before(first)) {
			first, ok = until, true
		}
	}
	return first, ok
}

// known lists the publishers that have a package of a name, as far as this peer can say
// without asking: by its own catalogue, or by what others have proven. fresh tells
// whether the latter was not long ago.
func (e *Engine) known(name string) (found []catalog.Package, fresh bool) {
	found = e.catalog.Lookup(name)
	lent, fresh := e.borrowed.Lookup(name, e.now())
	for _, pkg := range lent {
		if !slices.ContainsFunc(found, func(own catalog.Package) bool { return own.Publisher == pkg.Publisher }) {
			found = append(found, pkg)
		}
	}
	return found, fresh
}

// packagesOf is known for those who do not care how fresh it is.
func (e *Engine) packagesOf(name string) []catalog.Package {
	found, _ := e.known(name)
	return found
}

// releaseOf finds a release that this peer knows of, or nil.
func (e *Engine) releaseOf(name string, id shared.PublisherID, version string) *catalog.Release {
	if rel := e.catalog.Release(name, id, version); rel != nil {
		return rel
	}
	return e.borrowed.Release(name, id, version)
}

// askPackage asks others for all that is said about a package. Nobody knowing it is no
// error.
func (e *Engine) askPackage(ctx context.Context, name string) error {
	_, err := e.askOthers(ctx, ask.Request{Name: name})
	return err
}

// askSearch asks others for the packages that fit a search, and makes what they have
// proven searchable here: this peer's own index then filters and ranks. It returns how
// many packages fit, as the most knowing of them says.
func (e *Engine) askSearch(ctx context.Context, q shared.SearchQuery) (total int, err error) {
	limit := q.Limit
	if limit == 0 {
		limit = 20
	}
	return e.askOthers(ctx, ask.Request{
		Text: q.Text, Category: q.Category, Tag: q.Tag, Publisher: q.Publisher, License: q.License, Sort: q.Sort,
		Limit: min(limit+q.Offset, ask.MaxHits),
	})
}

// askOthers puts a question to several peers, and waits for some that are busy. Errors:
// CANCELED and DEADLINE_EXCEEDED of ctx alone; UNAVAILABLE when peers are there and none
// has answered. When nobody is there, what is known here is all there is.
func (e *Engine) askOthers(ctx context.Context, q ask.Request) (total int, err error) {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stop := context.AfterFunc(e.closing, cancel) //nolint:contextcheck // ends the one above
	defer stop()
	select { // a peer that has just started
	case <-e.node.Joined():
	case <-bounded.Done():
	}
	for {
		good, err := ask.Peers(bounded, e.node.Host(), e.askable(bounded), q, func(_ peer.ID, a ask.Answer) error {
			if err := e.borrow(a, q.Name); err != nil {
				return err
			}
			total = max(total, a.Total)
			return nil
		}, e.askFailed)
		switch {
		case ctx.Err() != nil:
			return total, shared.AsError(ctx.Err())
		case good > 0 || len(e.node.Connected()) == 0:
			return total, nil
		}
		if err != nil {
			e.log.InfoContext(ctx, "nobody could be asked", "error", err)
		}
		if !e.awaitRested(bounded) {
			return total, shared.NewError(shared.ReasonUnavailable, "none of the peers that keep a catalogue has answered").
				WithHint("they have too much to do, or cannot be reached: try again in a moment")
		}
	}
}

// awaitRested waits until one of the connected peers may be asked again, if that is
// before ctx ends.
func (e *Engine) awaitRested(ctx context.Context) bool {
	soonest, ok := e.resting.soonest(e.node.Connected())
	end, bounded := ctx.Deadline()
	if !ok || bounded && soonest.After(end) {
		return false
	}
	timer := time.NewTimer(time.Until(soonest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// askFailed is told of peers that gave no good answer.
func (e *Engine) askFailed(p peer.ID, err error) {
	var busy ask.BusyError
	switch {
	case errors.As(err, &busy):
		e.resting.note(p, e.now().Add(min(time.Duration(busy), longestRest)))
	case errors.Is(err, publisher.ErrInvalid), errors.Is(err, ask.ErrProtocol):
		e.misbehaved(p, err)
		e.resting.note(p, e.now().Add(time.Hour))
	default:
		e.resting.note(p, e.now().Add(longestRest))
		e.deal(context.Background(), p, reputation.Failure, transfer.Outcome{})
	}
}

// askable are the peers to ask, in this order: connected ones that answer, and the
// super-peers that the DHT names when there are few.
func (e *Engine) askable(ctx context.Context) (peers []peer.AddrInfo) {
	now := e.now()
	for _, p := range e.node.Connected() {
		spoken, err := e.node.Host().Peerstore().SupportsProtocols(p, ask.Protocol)
		if err == nil && len(spoken) > 0 && !e.resting.rests(p, now) {
			peers = append(peers, peer.AddrInfo{ID: p})
		}
	}
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	slices.SortStableFunc(peers, func(a, b peer.AddrInfo) int {
		return -compareScore(e.reputation.Score(a.ID.String()).Total, e.reputation.Score(b.ID.String()).Total)
	})
	if len(peers) < 2 {
		for _, info := range e.superPeers(ctx, len(peers) == 0) {
			if e.node.Host().Network().Connectedness(info.ID) != network.Connected && !e.resting.rests(info.ID, now) {
				peers = append(peers, info)
			}
		}
	}
	return peers[:min(len(peers), maxAskable)]
}

// supers are the super-peers that the DHT has named, and when it was asked.
type supers struct {
	mu    sync.Mutex // guards the fields below
	infos []peer.AddrInfo
	asked time.Time
}

// supersFor is how long an answer of the DHT about super-peers is good for.
const supersFor = time.Minute

// superPeers are the super-peers that are known. If that is from too long ago, the DHT
// is asked, and the caller waits for it only if it has nobody else to ask.
func (e *Engine) superPeers(ctx context.Context, wait bool) []peer.AddrInfo {
	e.supers.mu.Lock()
	infos, due := e.supers.infos, e.now().Sub(e.supers.asked) >= supersFor
	if due {
		e.supers.asked = e.now()
	}
	e.supers.mu.Unlock()
	if !due {
		return infos
	}
	look := func(ctx context.Context) {
		found := e.overlay.SuperPeers(ctx, maxAskable)
		e.supers.mu.Lock()
		defer e.supers.mu.Unlock()
		e.supers.infos = found
	}
	if !wait {
		e.background(look)
		return infos
	}
	look(ctx)
	e.supers.mu.Lock()
	defer e.supers.mu.Unlock()
	return e.supers.infos
}

// compareScore compares reputations by tenths: small differences are chance, and the
// load is to be spread.
func compareScore(a, b float64) int { return int(a*10) - int(b*10) }

// borrow verifies an answer, all of it before anything is kept. With a name it must be
// about that package.
func (e *Engine) borrow(a ask.Answer, name string) error {
	var lent []catalog.Lent
	for _, part := range a.Parts {
		proven, err := publisher.ParseProven(part)
		if err != nil {
			return err
		}
		l, err := catalog.Prove(proven, name, e.now())
		if errors.Is(err, publisher.ErrStale) {
			continue // no fault of who passed it on
		}
		if err != nil {
			return err
		}
		lent = append(lent, l)
	}
	for _, l := range lent {
		taken, dropped, err := e.borrowed.Take(l, e.now())
		if err != nil {
			e.log.Warn("what two peers have proven contradicts each other; the packages are forgotten", "error", err)
		}
		for _, pkg := range dropped {
			e.search.Remove(pkg.Releases[0].Name, pkg.Publisher)
		}
		for _, pkg := range taken {
			if len(e.catalog.Lookup(pkg.Releases[0].Name)) == 0 {
				e.search.Put(e.docOf(pkg))
			}
		}
	}
	return nil
}
