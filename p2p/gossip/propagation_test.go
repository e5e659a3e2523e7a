package gossip_test

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
)

// TestPropagation measures how fast an announcement reaches everybody, against what the
// links between connected peers allow. GGEN_TEST_PEERS makes the network larger, and
// GGEN_TEST_CONNECTIONS keeps it as sparse as a large one: about twice as many
// connections for each peer, and none that the DHT adds. It fails if somebody is left out, however long it took: times are
// for the report.
func TestPropagation(t *testing.T) {
	peers, sparse := setting(t, "GGEN_TEST_PEERS", 16), setting(t, "GGEN_TEST_CONNECTIONS", 0)
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		between := func(from, to int) time.Duration { // 20 to 100 ms one way, the same in both directions
			low, high := min(from, to), max(from, to)
			return time.Duration(20+(low*7919+high*104729)%81) * time.Millisecond
		}
		net := p2ptest.NewNetwork(t, p2ptest.Links{Between: between})
		var nodes []*node.Node
		var listeners []*listener
		numbers := map[peer.ID]int{}
		for i := range peers {
			cfg := net.Config(t, i, node.Config{})
			if sparse > 0 {
				cfg.DHTOptions = []dht.Option{dht.DisableAutoRefresh()}
			}
			for range min(i, cmp.Or(sparse, 8)) { // a random graph: nobody knows all
				cfg.Bootstrap = append(cfg.Bootstrap, nodes[random.IntN(i)].Addresses()...)
			}
			n := p2ptest.Open(t, cfg)
			numbers[n.PeerID()] = i
			nodes, listeners = append(nodes, n), append(listeners, listen(t, n, false))
		}
		<-time.After(30 * time.Second) // connections, and heartbeats that form the mesh
		var took, ratios []time.Duration
		for round := range 10 {
			sender := random.IntN(peers)
			floor := shortest(sender, nodes, numbers, between)
			message := fmt.Sprintf("announcement %-887d", round) // 900 bytes
			began := time.Now()
			if _, err := listeners[sender].topic.Announce(t.Context(), []byte(message)); err != nil {
				t.Fatal(err)
			}
			var last, lastFloor time.Duration
			for i, l := range listeners {
				if i == sender {
					continue
				}
				p2ptest.Eventually(t, fmt.Sprintf("peer %d to get it", i), l.got(message))
				l.mu.Lock()
				delay := l.at[message].Sub(began)
				l.mu.Unlock()
				took = append(took, delay)
				last, lastFloor = max(last, delay), max(lastFloor, floor[i])
			}
			ratios = append(ratios, last*100/lastFloor)
		}
		slices.Sort(took)
		slices.Sort(ratios)
		degree := 0
		for _, n := range nodes {
			degree += len(n.Connected())
		}
		t.Logf("%d peers with %d connections each: p50 %s, p95 %s, p99 %s, last %s; until the last, %.2f of the shortest paths (median of 10)",
			peers, degree/peers, took[len(took)/2].Round(time.Millisecond), took[len(took)*95/100].Round(time.Millisecond),
			took[len(took)*99/100].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), float64(ratios[len(ratios)/2])/100)
	})
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

// shortest are the times that a message needs from one host to each other one at least,
// over the connections that there are (Dijkstra, 1959).
func shortest(from int, nodes []*node.Node, numbers map[peer.ID]int, between func(from, to int) time.Duration) []time.Duration {
	times := make([]time.Duration, len(nodes))
	for i := range times {
		times[i] = time.Hour
	}
	times[from] = 0
	queue := &reached{{from, 0}}
	for queue.Len() > 0 {
		at, _ := heap.Pop(queue).(reach)
		if at.after > times[at.host] {
			continue
		}
		for _, p := range nodes[at.host].Connected() {
			next := reach{numbers[p], at.after + between(at.host, numbers[p])}
			if next.after < times[next.host] {
				times[next.host] = next.after
				heap.Push(queue, next)
			}
		}
	}
	return times
}

type reach struct {
	host  int
	after time.Duration
}

type reached []reach

func (r reached) Len() int           { return len(r) }
func (r reached) Less(i, j int) bool { return r[i].after < r[j].after }
func (r reached) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *reached) Push(x any)        { n, _ := x.(reach); *r = append(*r, n) }
func (r *reached) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}
