package p2p

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/cache"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/shared"
)

const (
	// providersFresh is how long the DHT's answer to who has some content is good for.
	// Peers come and go within hours (Trautwein et al., IPFS, 2022: half of the sessions
	// end within one to two), and one that has gone costs a dial that fails.
	providersFresh = 10 * time.Minute

	// lookAgain is how long a download makes do with the answer that is remembered.
	lookAgain = time.Second

	// maxLookups is how many answers are kept on disk: each has about 2 KB.
	maxLookups = 4096

	// maxAddresses bounds how many addresses are remembered of a provider.
	maxAddresses = 8
)

// lookups is the cache of who the DHT says has some content, by its digest. It is safe
// because nobody is believed for being named there: what they send is verified, and a
// download that is not through after [lookAgain] asks anew.
type lookups = cache.Cache[[]peer.AddrInfo]

func (e *Engine) newLookups() *lookups {
	return cache.New(cache.Config[[]peer.AddrInfo]{
		Hot: e.cfg.Cache.Hot, Warm: e.cfg.Cache.Warm, Cold: cache.NewBucket(e.db, "lookups", maxLookups), ColdFor: e.cfg.Cache.Lifetime,
		Fresh: providersFresh, Encode: encodeProviders, Decode: decodeProviders,
	})
}

func encodeProviders(found []peer.AddrInfo) []byte {
	data, err := json.Marshal(found)
	if err != nil {
		return nil // which cannot be decoded either, so it is looked up again
	}
	return data
}

func decodeProviders(_ string, data []byte) ([]peer.AddrInfo, error) {
	var found []peer.AddrInfo
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, fmt.Errorf("providers: %w", err)
	}
	if len(found) > maxProviders {
		return nil, fmt.Errorf("%d providers; %d are remembered", len(found), maxProviders)
	}
	return found, nil
}

// A release is announced before the DHT knows who has it, which takes until its publisher
// has told the 20 peers that are to keep that: 2 s (p99) among 1,000 peers. So a search that
// finds nobody is repeated while the release has been known here for less than recordTime.
// sinceSigned leaves out old releases that a new peer has just heard of.
const (
	recordTime  = 5 * time.Second
	sinceSigned = time.Minute
	searchAgain = 500 * time.Millisecond
)

// isNew tells whether the DHT may not know yet who has a release.
func isNew(rel *catalog.Release, now time.Time) bool {
	return now.Sub(rel.FirstSeen) < recordTime && now.Sub(rel.PublishedAt).Abs() < sinceSigned
}

// untilFound repeats a search that finds nobody, as long as may says so.
func untilFound(ctx context.Context, search iter.Seq[peer.AddrInfo], may func() bool) iter.Seq[peer.AddrInfo] {
	return func(yield func(peer.AddrInfo) bool) {
		for found := false; ; {
			for info := range search {
				found = true
				if !yield(info) {
					return
				}
			}
			if found || !may() || !pause(ctx, searchAgain) {
				return
			}
		}
	}
}

// providers names peers that have a release's content: those that are remembered at once, and
// those that the DHT names if they do not suffice. A peer may come twice.
func (e *Engine) providers(ctx context.Context, rel *catalog.Release) iter.Seq[peer.AddrInfo] {
	digest := rel.Archive.Digest
	maybeNot := func() bool { return isNew(rel, e.now()) && len(e.node.Connected()) > 0 }
	return func(yield func(peer.AddrInfo) bool) {
		known, at, ok := e.lookups.Peek(ctx, string(digest), e.askProviders(digest))
		e.lookedUp(ctx, at)
		for _, info := range known {
			if !yield(info) {
				return
			}
		}
		if e.lookups.Missing(string(digest)) && !maybeNot() || ok && !pause(ctx, lookAgain) {
			return
		}
		var found []peer.AddrInfo
		defer func() { e.rememberProviders(ctx, digest, found) }()
		for info := range untilFound(ctx, e.findProviders(ctx, digest, maxProviders), maybeNot) {
			found = append(found, info)
			if !yield(info) {
				return
			}
		}
	}
}

// rememberProviders keeps what a search has found. Only one that came to its end can have
// found that there is nobody.
func (e *Engine) rememberProviders(ctx context.Context, digest shared.Digest, found []peer.AddrInfo) {
	switch {
	case len(found) > 0:
		for i := range found {
			found[i].Addrs = found[i].Addrs[:min(len(found[i].Addrs), maxAddresses)]
		}
		e.background(func(context.Context) { e.lookups.Put(string(digest), found) }) // which writes to the disk
	case ctx.Err() == nil:
		e.lookups.Deny(string(digest))
	}
}

// askProviders is a whole search, for an answer that has become old.
func (e *Engine) askProviders(digest shared.Digest) func(context.Context) ([]peer.AddrInfo, error) {
	return func(ctx context.Context) (found []peer.AddrInfo, err error) {
		for info := range e.findProviders(ctx, digest, maxProviders) {
			info.Addrs = info.Addrs[:min(len(info.Addrs), maxAddresses)]
			found = append(found, info)
		}
		if len(found) == 0 {
			return nil, shared.NewError(shared.ReasonNotFound, "nobody has %s", digest)
		}
		return found, nil
	}
}

// lookedUp counts where something was found.
func (e *Engine) lookedUp(ctx context.Context, at cache.Tier) {
	for _, tier := range []cache.Tier{cache.Hot, cache.Warm, cache.Cold} {
		e.meters.Wanted(ctx, string(tier), at == tier)
		if at == tier {
			return
		}
	}
}

// pause waits unless ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
