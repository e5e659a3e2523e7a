package scenario

import (
	"sync"
	"time"

	"ggen.dev/marketplace/p2p"
)

// life is how long a network is looked at, in virtual time.
const life = time.Minute

// settled is how long a network is left alone before others join: what they need is there. A minute
// after the start the peers would begin to list themselves, which takes the square of the
// peers, and nobody who joins waits for it.
const settled = 20 * time.Second

// newcomers is how many peers join a network that has settled.
const newcomers = 10

// bootstrap starts all peers of a network at once with the address of the first one, and
// measures for each of them how long it takes until its first search is answered with a
// package that the first one has. Then more peers join the network that has settled.
func bootstrap(r *Run) {
	const name = "first-package"
	for r.Loop() {
		r.Scope(func(r *Run) {
			n := r.network()
			first := n.open(p2p.Config{})
			r.publish(first, name)
			began := time.Now()
			var starting sync.WaitGroup
			for i := 1; i < r.Scenario.Peers; i++ {
				e := n.open(p2p.Config{}, 0)
				starting.Go(func() { r.Took("bootstrap", n.usable(e, name)) })
			}
			starting.Wait()
			r.Took("bootstrap-all", time.Since(began))
			n.connected()
			<-time.After(settled)

			n.join(name, func() []int { return []int{0, r.Scenario.Peers / 2, r.Scenario.Peers - 1} })
		})
	}
}

// join has peers join a network one after the other, each of which knows some others, and
// measures how long it takes until a search of theirs finds something. The floor is three round
// trips to the nearest of those it knows: the handshake, the catalogue's difference, and what
// is missing.
func (n *peers) join(text string, acquaintances func() []int) {
	for range newcomers {
		newcomer, known, floor := len(n.engines), acquaintances(), forever
		for _, k := range known {
			floor = min(floor, 6*n.r.Links.Delay(newcomer, k))
		}
		n.r.Took("join-floor", floor)
		n.r.Took("join", n.usable(n.open(p2p.Config{}, known...), text))
	}
}
