package p2p

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/netblock"
	"ggen.dev/marketplace/p2p/reputation"
	"ggen.dev/marketplace/p2p/selection"
	"ggen.dev/marketplace/p2p/transfer"
)

const (
	// perhaps is the chance that a neighbour has a release of which nobody says so. One
	// that does not costs a round trip.
	perhaps = 0.25

	// chunksPerPeer and peersAtOnce are how package transfer spreads a download: a peer
	// for every four chunks, up to eight.
	chunksPerPeer = 4
	peersAtOnce   = 8

	// gather is how long arriving providers are waited for, so that they can be put in
	// order: one answer of the DHT names several.
	gather = 5 * time.Millisecond
)

// sources decides from whom content is fetched: it puts what is known of peers before
// the selector, and tells the book of those that were asked and never heard of.
type sources struct {
	host      host.Host
	book      *reputation.Book
	order     func(candidates []selection.Candidate, bytes int64) []string // selection.Selector's, but in comparisons
	begin     func(peers ...string) (end func())
	roundTrip func(p peer.ID) time.Duration // as far as it is known without asking; 0: it is not
}

// errand is one download from sources.
type errand struct {
	from    *sources
	bytes   int64
	holders []peer.ID // that are known to have it
	nearby  func() []peer.ID
	named   func(ctx context.Context) iter.Seq[peer.AddrInfo] // by the network
	started time.Time

	mu    sync.Mutex // guards the fields below
	asked []string   // the first ones, which certainly were
	ended bool
	end   func()
}

// candidate is what is known of a peer that may have content.
func (s *sources) candidate(p peer.AddrInfo, holds float64) selection.Candidate {
	id := p.ID.String()
	e := s.book.Expect(id)
	c := selection.Candidate{
		ID: id, Response: e.Response, Pace: e.Pace, Confidence: e.Confidence, Dealings: e.Dealings, Rests: e.Rests, Holds: holds,
		Cold: s.host.Network().Connectedness(p.ID) != network.Connected,
	}
	if c.Response == 0 && s.roundTrip != nil {
		c.Response = s.roundTrip(p.ID)
	}
	if c.Response == 0 {
		c.Response = e.Nearby
	}
	addrs := p.Addrs
	for _, conn := range s.host.Network().ConnsToPeer(p.ID) {
		addrs = append(slices.Clone(addrs), conn.RemoteMultiaddr())
	}
	for _, block := range netblock.Of(addrs) {
		if netblock.Small(block) {
			c.Blocks = append(c.Blocks, block)
		}
	}
	return c
}

// expect is what a download may expect of a peer.
func (s *sources) expect(p peer.ID) transfer.Expected {
	c := s.candidate(peer.AddrInfo{ID: p}, 1)
	if c.Cold {
		c.Response *= 1 + selection.ColdTrips
	}
	return transfer.Expected{FirstByte: c.Response, Pace: c.Pace, Stranger: c.Dealings == 0}
}

// ordered are peers in the order in which to ask them, without banned ones.
func (s *sources) ordered(peers []peer.AddrInfo, bytes int64, holds func(peer.ID) float64) []peer.AddrInfo {
	byName := map[string]peer.AddrInfo{}
	var candidates []selection.Candidate
	for _, p := range peers {
		if s.book.Banned(p.ID.String()) {
			continue
		}
		c := s.candidate(p, holds(p.ID))
		byName[c.ID] = p
		candidates = append(candidates, c)
	}
	var ordered []peer.AddrInfo
	for _, id := range s.order(candidates, bytes) {
		ordered = append(ordered, byName[id])
	}
	return ordered
}

// candidates implements [transfer.Candidates]: neighbours and known holders in order, at
// once, and then whomever the network names, as they come in.
func (d *errand) candidates(ctx context.Context) iter.Seq[peer.AddrInfo] {
	return func(yield func(peer.AddrInfo) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var lookup sync.WaitGroup
		defer lookup.Wait()
		defer cancel()
		found := make(chan peer.AddrInfo)
		lookup.Go(func() {
			defer close(found)
			if d.named == nil {
				return
			}
			for info := range d.named(ctx) {
				select {
				case found <- info:
				case <-ctx.Done():
					return
				}
			}
		})
		tried := map[peer.ID]bool{}
		offer := func(peers []peer.AddrInfo, holds func(peer.ID) float64) bool {
			var fresh []peer.AddrInfo
			for _, p := range peers {
				if !tried[p.ID] {
					tried[p.ID] = true
					fresh = append(fresh, p)
				}
			}
			for _, p := range d.from.ordered(fresh, d.bytes, holds) {
				d.note(p.ID.String())
				if !yield(p) {
					return false
				}
			}
			return true
		}
		if !offer(d.here(), d.chance) {
			return
		}
		for {
			batch, more := arrived(found)
			if !offer(batch, func(peer.ID) float64 { return 1 }) || !more {
				return
			}
		}
	}
}

// here are those that can be asked without asking for them first.
func (d *errand) here() (peers []peer.AddrInfo) {
	for _, p := range d.nearby() {
		peers = append(peers, peer.AddrInfo{ID: p})
	}
	for _, p := range d.holders {
		if len(d.from.host.Peerstore().Addrs(p)) > 0 {
			peers = append(peers, peer.AddrInfo{ID: p})
		}
	}
	return peers
}

// chance is that of a peer to have the content.
func (d *errand) chance(p peer.ID) float64 {
	if slices.Contains(d.holders, p) {
		return 1
	}
	return perhaps
}

// arrived waits for the next peer, and takes along those that come at the same time.
func arrived(found <-chan peer.AddrInfo) (batch []peer.AddrInfo, more bool) {
	first, ok := <-found
	if !ok {
		return nil, false
	}
	batch = append(batch, first)
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for {
		select {
		case p, ok := <-found:
			if !ok {
				return batch, false
			}
			batch = append(batch, p)
		case <-timer.C:
			return batch, true
		}
	}
}

// note counts the peers that a download begins with.
func (d *errand) note(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || len(d.asked) >= atFirst(d.bytes) {
		return
	}
	d.asked = append(d.asked, id)
	release, begun := d.end, d.from.begin(id)
	d.end = func() {
		begun()
		if release != nil {
			release()
		}
	}
}

// atFirst is how many peers a download of a size begins with.
func atFirst(bytes int64) int {
	return int(min(max(bytes/(chunksPerPeer*transfer.MaxRange), 1), peersAtOnce))
}

// finish ends the errand. After a success, the peers that it began with and that have not
// even brought the first piece are known to be slow.
func (d *errand) finish(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	d.ended = true
	if d.end != nil {
		d.end()
	}
	if err != nil {
		return
	}
	elapsed := time.Since(d.started)
	for _, id := range d.asked {
		d.from.book.Outrun(id, min(d.bytes, transfer.MaxRange), elapsed)
	}
}
