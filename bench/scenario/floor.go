package scenario

import (
	"container/heap"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"ggen.dev/marketplace/p2p/peertable"
)

// forever is longer than any path.
const forever = 1000 * time.Hour

// answers are the round trips from a member to the living among the 20 other peers that are
// closest to a key, shortest first: one of the links, or two where it must be dialled.
// No question to the network is answered sooner than by the first, and nothing is stored at all
// of them sooner than at the last. keeps tells whether the member is one of the closest, too.
func (r *Run) answers(m *member, members []*member, dead map[int]bool, key [32]byte) (times []time.Duration, keeps bool) {
	type near struct {
		distance [32]byte
		m        *member
	}
	all := make([]near, len(members))
	for i, other := range members {
		distance := peertable.Key(other.PeerID())
		for j := range distance {
			distance[j] ^= key[j]
		}
		all[i] = near{distance, other}
	}
	slices.SortFunc(all, func(a, b near) int { return slices.Compare(a.distance[:], b.distance[:]) })
	const closest = 20
	self := slices.IndexFunc(all, func(n near) bool { return n.m == m })
	others := slices.Delete(all, self, self+1)
	for _, n := range others[:min(closest, len(others))] {
		trip := 2 * r.Links.Delay(m.number, n.m.number)
		switch {
		case dead[n.m.number]:
		case m.Host().Network().Connectedness(n.m.PeerID()) == network.Connected:
			times = append(times, trip)
		default:
			times = append(times, 2*trip)
		}
	}
	slices.Sort(times)
	return times, self < closest
}

// shortest are the least times in which a message gets from one host to each other one
// over the connections that there are (Dijkstra, 1959). neighbours lists a host's.
func (r *Run) shortest(from, hosts int, neighbours func(host int) []int) []time.Duration {
	times := make([]time.Duration, hosts)
	for i := range times {
		times[i] = forever
	}
	times[from] = 0
	queue := &reached{{from, 0}}
	for queue.Len() > 0 {
		at, _ := heap.Pop(queue).(reach)
		if at.after > times[at.host] {
			continue
		}
		for _, n := range neighbours(at.host) {
			if next := (reach{n, at.after + r.Links.Delay(at.host, n)}); next.after < times[n] {
				times[n] = next.after
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

// reached is a heap, the soonest first.
type reached []reach

func (q reached) Len() int           { return len(q) }
func (q reached) Less(i, j int) bool { return q[i].after < q[j].after }
func (q reached) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *reached) Push(x any) { n, _ := x.(reach); *q = append(*q, n) }

// Pop implements heap.Interface.
func (q *reached) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
