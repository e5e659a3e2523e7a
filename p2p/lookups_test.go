package p2p

import (
	"context"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/catalog"
)

// TestANewReleaseIsSearchedForAgain: it is announced before the DHT knows who has it.
func TestANewReleaseIsSearchedForAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		recorded time.Duration // when the DHT knows it
		signed   time.Duration // before it was heard of here
		found    bool
		searches int
	}{
		"the DHT knows it":              {found: true, searches: 1},
		"it knows it soon":              {recorded: 1200 * time.Millisecond, found: true, searches: 4},
		"it never does":                 {recorded: time.Hour, searches: 11},
		"an old one":                    {recorded: time.Second, signed: time.Hour, searches: 1},
		"one of a clock that is behind": {recorded: time.Second, signed: 30 * time.Second, found: true, searches: 3},
		"one of a clock that is ahead":  {recorded: time.Second, signed: -time.Hour, searches: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				rel := &catalog.Release{FirstSeen: began, PublishedAt: began.Add(-tc.signed)}
				searches := 0
				search := func(yield func(peer.AddrInfo) bool) {
					if searches++; time.Since(began) >= tc.recorded {
						yield(peer.AddrInfo{ID: "provider"})
					}
				}
				found := slices.Collect(untilFound(t.Context(), search, func() bool { return isNew(rel, time.Now()) }))
				if len(found) > 0 != tc.found || searches != tc.searches {
					t.Errorf("found %v in %d searches", found, searches)
				}
			})
		})
	}
}

// TestASearchThatIsNotNeededEnds with whoever wanted it.
func TestASearchThatIsNotNeededEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var nobody iter.Seq[peer.AddrInfo] = func(func(peer.AddrInfo) bool) { cancel() }
		for info := range untilFound(ctx, nobody, func() bool { return true }) {
			t.Errorf("found %v", info)
		}
	})
}
