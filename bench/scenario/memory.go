package scenario

import (
	"runtime"
	"time"

	"ggen.dev/marketplace/p2p"
)

// networkMemory measures what each more peer of a network takes: heap and stacks after a
// collection, everything of the simulated links included. The rest of the process is
// subtracted, which is all that such peers can share.
func networkMemory(packages int) func(r *Run) {
	return func(r *Run) {
		before := inUse()
		n := r.network()
		n.grow(r.Scenario.Peers, func(i int) p2p.Config {
			if i == 0 && packages > 0 {
				return r.seed(packages)
			}
			return p2p.Config{}
		})
		n.connected()
		n.complete(packages)
		for r.Loop() {
			<-time.After(life)
		}
		connections := 0
		for i := range n.engines {
			connections += n.status(i).ConnectedPeers
		}
		r.Report("links/peer", float64(connections)/float64(len(n.engines)))
		r.Report("MiB/peer", float64(inUse()-before)/float64(len(n.engines))/(1<<20))
	}
}

// inUse are the bytes that live values and stacks take.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // the first one runs finalizers, which let go of more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
