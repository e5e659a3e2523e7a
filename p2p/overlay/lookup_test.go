package overlay_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multihash"

	"ggen.dev/marketplace/p2p/overlay"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/p2p/peertable"
	"ggen.dev/marketplace/shared"
)

// regions is an internet of five regions: 10 to 15 ms one way within one, 35 to 150 ms
// between two, and the same for a pair in both directions.
func regions(from, to int) time.Duration {
	low, high := min(from, to), max(from, to)
	spread := (low*7919 + high*104729) % 100
	if low%5 == high%5 {
		return 10*time.Millisecond + time.Duration(spread)*50*time.Microsecond
	}
	base := [5][5]int{{0, 35, 70, 110, 140}, {0, 0, 60, 95, 125}, {0, 0, 0, 50, 80}, {0, 0, 0, 0, 40}}[low%5]
	if low%5 > high%5 {
		base = [5][5]int{{0, 35, 70, 110, 140}, {0, 0, 60, 95, 125}, {0, 0, 0, 50, 80}, {0, 0, 0, 0, 40}}[high%5]
	}
	between := base[max(low%5, high%5)]
	return time.Duration(between)*time.Millisecond + time.Duration(spread)*100*time.Microsecond
}

// uniform is 20 to 100 ms one way, different for each pair: no map has such distances.
func uniform(from, to int) time.Duration {
	low, high := min(from, to), max(from, to)
	return 20*time.Millisecond + time.Duration((low*7919+high*104729)%81)*time.Millisecond
}

func setting(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// took are the times of lookups; 0 stands for one that found nothing.
type took []time.Duration

func (l took) String() string {
	found := slices.DeleteFunc(slices.Clone(l), func(d time.Duration) bool { return d == 0 })
	if len(found) == 0 {
		return fmt.Sprintf("none of %d", len(l))
	}
	slices.Sort(found)
	at := func(percent int) time.Duration {
		return found[min(len(found)*percent/100, len(found)-1)].Round(time.Millisecond)
	}
	return fmt.Sprintf("%s / %s / %s, %d of %d found", at(50), at(95), at(99), len(found), len(l))
}

// TestLookups measures how long a peer that knows the network looks for heads and
// providers, cold and then warm, beside the library's own search over the same peers,
// and beside the floor: the nearest of the 20 closest that live, one round trip away, or
// two if it must be dialled. Peers learn tables and round trips by themselves.
//
// GGEN_TEST_PEERS is the size of the network, GGEN_TEST_DEAD the dead in percent, and
// GGEN_TEST_LINKS=uniform makes all links 20 to 100 ms. It fails if a record of the
// living is not found; times are for the report (docs/benchmarks/lookups.md).
// TestDeadPeersDoNotHoldUpALookup is what every day needs of it.
func TestLookups(t *testing.T) {
	peers, dead := setting(t, "GGEN_TEST_PEERS", 0), setting(t, "GGEN_TEST_DEAD", 20)
	if peers == 0 {
		t.Skip("measures for a report; GGEN_TEST_PEERS=26 runs it with so many peers")
	}
	records := min(peers/2, 200)
	between := regions
	if os.Getenv("GGEN_TEST_LINKS") == "uniform" {
		between = uniform
	}
	synctest.Test(t, func(t *testing.T) {
		random := mathrand.New(mathrand.NewPCG(7, 7))
		began := time.Now()
		net := p2ptest.NewNetwork(t, p2ptest.Links{Between: between})
		members := make([]*member, peers)
		for i := range members {
			var bootstrap []string
			for range min(i, 6) {
				bootstrap = append(bootstrap, members[random.IntN(i)].Addresses()...)
			}
			members[i] = join(t, net, i, overlay.Config{Table: unbounded}, bootstrap...)
			t.Cleanup(func() { members[i].close(t) })
		}
		<-time.After(10 * time.Second)
		each(members, 16, func(m *member) { // the light join of the library: one look at one's own place
			_, _ = m.DHT().GetClosestPeers(t.Context(), string(m.PeerID()))
		})
		<-time.After(3 * time.Minute)
		p2ptest.Eventually(t, "complete tables", complete(members, peers))
		connections := 0
		for _, m := range members {
			connections += len(m.Connected())
		}
		t.Logf("%d peers with %d connections each know each other after %s", peers, connections/peers, time.Since(began).Round(time.Second))

		authors, digests := make([]author, records), make([]shared.Digest, records)
		provider := make([]*member, records)
		var stores took
		for i := range records {
			authors[i], digests[i] = newAuthor(t), shared.DigestOf(fmt.Append(nil, i))
			provider[i] = members[random.IntN(peers)]
			before := time.Now()
			if _, err := provider[i].Routing().PutHead(t.Context(), authors[i].id, authors[i].head(1)); err != nil {
				t.Fatal(err)
			}
			stores = append(stores, time.Since(before))
			if _, err := provider[i].Routing().Provide(t.Context(), digests[i]); err != nil {
				t.Fatal(err)
			}
		}
		alive := slices.Clone(members)
		random.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
		for _, m := range alive[:peers*dead/100] {
			_ = m.Host().Network().Close() // without a word
		}
		alive = alive[peers*dead/100:]
		<-time.After(10 * time.Second)
		t.Logf("%d dead; stored in %s", peers-len(alive), stores)

		byNumber := map[int]bool{}
		for _, m := range alive {
			byNumber[m.number] = true
		}
		var head, warmHead, floor, warmFloor, provide, warmProvide, library, libraryProvide took
		for i := range records {
			ours, theirs := alive[random.IntN(len(alive)/2)], alive[len(alive)/2+random.IntN(len(alive)/2)]
			if ours == provider[i] || theirs == provider[i] {
				continue
			}
			key := sha256.Sum256([]byte("/ggen-head/" + string(authors[i].id)))
			floor = append(floor, nearest(ours, members, byNumber, key, between))
			head = append(head, timed(func(ctx context.Context) bool {
				_, err := ours.Routing().Head(ctx, authors[i].id)
				return err == nil
			}))
			warmFloor = append(warmFloor, nearest(ours, members, byNumber, key, between))
			warmHead = append(warmHead, timed(func(ctx context.Context) bool {
				_, err := ours.Routing().Head(ctx, authors[i].id)
				return err == nil
			}))
			if ours = alive[random.IntN(len(alive)/2)]; ours == provider[i] {
				continue
			}
			find := func(ctx context.Context) bool {
				for info := range ours.Routing().Providers(ctx, digests[i], 1) {
					return info.ID == provider[i].PeerID()
				}
				return false
			}
			provide = append(provide, timed(find))
			warmProvide = append(warmProvide, timed(find))
			library = append(library, timed(func(ctx context.Context) bool {
				found, err := theirs.DHT().SearchValue(ctx, "/ggen-head/"+string(authors[i].id))
				if err != nil {
					return false
				}
				_, ok := <-found
				return ok
			}))
			theirs = alive[len(alive)/2+random.IntN(len(alive)/2)]
			libraryProvide = append(libraryProvide, timed(func(ctx context.Context) bool {
				_, ok := <-theirs.DHT().FindProvidersAsync(ctx, cidOf(digests[i]), 1)
				return ok
			}))
		}
		t.Logf("p50 / p95 / p99:\n  head cold %s\n  its floor %s\n  head warm %s\n  its floor %s\n  library's first head %s\n  provider cold %s\n  provider warm %s\n  library's first provider %s",
			head, floor, warmHead, warmFloor, library, provide, warmProvide, libraryProvide)
		if slices.Contains(head, 0) || slices.Contains(warmHead, 0) || slices.Contains(provide, 0) {
			t.Error("a record was not found")
		}
	})
}

// each calls work for every member, some at once.
func each(members []*member, atOnce int, work func(m *member)) {
	queue := make(chan *member)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for m := range queue {
				work(m)
			}
		})
	}
	for _, m := range members {
		queue <- m
	}
	close(queue)
	workers.Wait()
}

// timed is how long a lookup took, 0 if it found nothing within 30 s.
func timed(find func(ctx context.Context) bool) time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	began := time.Now()
	if !find(ctx) {
		return 0
	}
	return max(time.Since(began), 1)
}

// nearest is the least time in which one of the 20 closest living peers can answer.
func nearest(m *member, members []*member, alive map[int]bool, key [32]byte, between func(from, to int) time.Duration) time.Duration {
	type near struct {
		distance [32]byte
		m        *member
	}
	var all []near
	for _, other := range members {
		distance := peertable.Key(other.PeerID())
		for i := range distance {
			distance[i] ^= key[i]
		}
		all = append(all, near{distance, other})
	}
	slices.SortFunc(all, func(a, b near) int { return slices.Compare(a.distance[:], b.distance[:]) })
	least := time.Hour
	for _, n := range all[:min(20, len(all))] {
		switch {
		case n.m == m:
			return 1 // it stores the record itself
		case !alive[n.m.number]:
		case m.Host().Network().Connectedness(n.m.PeerID()) == network.Connected:
			least = min(least, 2*between(m.number, n.m.number))
		default:
			least = min(least, 4*between(m.number, n.m.number))
		}
	}
	return least
}

func cidOf(digest shared.Digest) cid.Cid {
	sum := digest.Sum()
	hash, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err) // of a constant
	}
	return cid.NewCidV1(cid.Raw, hash)
}
