package scenario

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"ggen.dev/marketplace/bench/links"
	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// beyond lists what the 51 scenarios do not ask: sizes up to 10,000, and a network in
// which things go wrong. Up to 20 peers they run with the full set, which has to end in 20
// minutes.
func beyond() []Scenario {
	var all []Scenario
	sized := func(world World, name string, run func(*Run), sizes ...int) {
		for _, peers := range sizes {
			// None of them is quick: they are not what an ordinary change changes.
			set := Full
			if peers > 20 {
				set = Scale
			}
			all = append(all, Scenario{Name: fmt.Sprintf("beyond/%s/%d", name, peers), Set: set, World: world, Peers: peers, Streams: peers > packets, Given: peers > told, Run: run})
		}
	}
	sized(Virtual, "propagation_streams", onStreams(propagation), 100, 500)
	sized(Virtual, "propagation", propagation, 100, 500, 1000, 2000, 5000, 10_000)
	sized(Virtual, "lookup", dhtLookup(0), 2000, 5000, 10_000)
	sized(Virtual, "lookup_given", given(dhtLookup(0)), 50)
	sized(Virtual, "bootstrap", bootstrap, 200) // 1,000 at once, of whom all know one, had 15 GB before they had enough neighbours
	// The links for which the goals are set: 20 to 100 ms between any two peers, and for
	// lookups five regions.
	sized(Virtual, "propagation_uniform", on(links.Uniform, propagation), 100, 1000)
	sized(Virtual, "bootstrap_uniform", on(links.Uniform, bootstrap), 10, 100)
	sized(Virtual, "lookup_uniform", on(links.Uniform, dhtLookup(0)), 100, 1000)
	sized(Virtual, "lookup_regions", on(links.Regions, dhtLookup(0)), 100, 1000, 2000, 5000, 10_000)
	sized(Virtual, "dead_20_uniform", on(links.Uniform, dhtLookup(20)), 50, 1000)
	sized(Virtual, "dead_20_regions", on(links.Regions, dhtLookup(20)), 50, 1000, 10_000)
	sized(Virtual, "memory", networkMemory(0), 1000)
	sized(Virtual, "dead_10", dhtLookup(10), 50, 500)
	sized(Virtual, "dead_20", dhtLookup(20), 50, 1000, 10_000)
	sized(Virtual, "dead_30", dhtLookup(30), 50, 500)
	sized(Virtual, "churn", dhtChurn, 50, 500)
	sized(Virtual, "loss_1", lossy(0.01, propagation), 50, 500)
	sized(Virtual, "partition", partition, 20, 200)
	sized(Virtual, "light", light, 50, 1000)
	sized(Virtual, "light_uniform", on(links.Uniform, light), 1000, 10_000)
	sized(Virtual, "flash_crowd", flashCrowd, 20, 500)
	sized(Virtual, "zipf", zipf, 10)
	sized(Virtual, "soak", soak(10*time.Minute), 10)
	all = append(all, Scenario{Name: "beyond/soak_2h/50", Set: Scale, World: Virtual, Peers: 50, Run: soak(2 * time.Hour)})
	sized(Real, "cli_start", cliStart, 1)
	all = append(all, Scenario{Name: "beyond/throughput/64MiB", Set: Full, World: Real, Run: throughput(64 << 20)})
	sized(Virtual, "crosscheck_simulated", simulated, 10, 20, 50)
	sized(Real, "crosscheck_processes", processes, 10, 20, 50)
	all = append(all, Scenario{Name: "beyond/search_large/100000", Set: Full, World: Real, Run: largeIndex(100_000)})
	return all
}

// on is a scenario on other links than the run's.
func on(draw func(seed uint64) links.Links, run func(r *Run)) func(r *Run) {
	return func(r *Run) {
		streams := r.Links.Streams
		r.Links = draw(r.Seed)
		r.Links.Streams = streams
		run(r)
	}
}

// lossy is a scenario on links that lose packets.
func lossy(share float64, run func(r *Run)) func(r *Run) {
	return func(r *Run) {
		r.Links.Loss = share
		run(r)
	}
}

// partition cuts a network into halves that both publish, for five minutes, and measures
// how long after it is whole again everybody has everything.
func partition(r *Run) {
	const apart = 5 * time.Minute
	var cut atomic.Bool
	n := r.divided(&cut)
	n.grow(r.Scenario.Peers, nil)
	n.connected()
	releases := 0
	for r.Loop() {
		cut.Store(true)
		<-time.After(apart / 2)
		for i := range 2 {
			r.publish(n.engines[i], fmt.Sprint("apart-", releases))
			releases++
		}
		<-time.After(apart / 2)
		cut.Store(false)
		healed := time.Now()
		n.complete(releases)
		r.Took("healed", time.Since(healed))
	}
}

// light measures searches of light peers, of which there are nine for every ten; the
// others answer for them. Then full peers join.
func light(r *Run) {
	const packages = 200
	random := r.random()
	n := r.network()
	full := max(r.Scenario.Peers/10, 3)
	n.grow(full, func(i int) p2p.Config {
		cfg := p2p.Config{}
		if i == 0 {
			cfg = r.seed(packages)
		}
		cfg.SuperPeer = true
		return cfg
	})
	n.connected()
	n.complete(packages)
	before := inUse()
	for len(n.engines) < r.Scenario.Peers {
		n.open(p2p.Config{Light: true}, random.IntN(full), random.IntN(full))
	}
	<-time.After(settled)
	r.Report("MiB/light-peer", float64(inUse()-before)/float64(r.Scenario.Peers-full)/(1<<20))
	for r.Loop() {
		asking := full + random.IntN(r.Scenario.Peers-full)
		nearest := forever
		for _, i := range n.neighbours(asking) {
			if i < full {
				nearest = min(nearest, 2*r.Links.Delay(asking, i))
			}
		}
		r.Took("light-search-floor", nearest)
		began := time.Now()
		found, err := n.engines[asking].Search(r.Context(), shared.SearchQuery{Text: words(random), Limit: 10})
		r.Took("light-search", time.Since(began))
		if err != nil || found.Total == 0 {
			r.Errorf("peer %d finds %d packages, %v", asking, found.Total, err)
		}
		<-time.After(time.Second) // people think between two searches
	}
	n.join(words(random), func() []int { return []int{random.IntN(full), random.IntN(full), random.IntN(full)} })
}

// flashCrowd publishes a package of 1 MiB, and all peers install it in the same moment.
// The floor of each is a round trip to its publisher and the bytes over its own link, as if
// it were alone.
func flashCrowd(r *Run) {
	const size = 1 << 20
	for round := 0; r.Loop(); round++ {
		r.Scope(func(r *Run) {
			n := r.network()
			n.grow(r.Scenario.Peers, nil)
			n.connected()
			name := fmt.Sprint("wanted-", round)
			r.publishOf(n.engines[0], name, size)
			for i := range n.engines {
				n.usable(n.engines[i], name)
			}
			roots := make([]string, len(n.engines))
			for i := range roots {
				roots[i] = r.TempDir()
			}
			var installing sync.WaitGroup
			began := time.Now()
			for i := 1; i < len(n.engines); i++ {
				installing.Go(func() {
					receipt, err := n.engines[i].Install(r.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: name}}, Root: roots[i], Trust: true}, nil)
					if err != nil {
						r.Errorf("peer %d: %v", i, err)
						return
					}
					r.Took("install", time.Since(began))
					bits := 8 * float64(receipt.Packages[0].Fetched)
					r.Took("install-floor", 2*r.Links.Delay(0, i)+time.Duration(bits/float64(r.Links.Mbps(i))*float64(time.Microsecond)))
				})
			}
			installing.Wait()
			<-time.After(life)
		})
	}
}

// zipf installs packages as often as they are popular (the k-th has 1/k of the first one's
// share), and counts how often content was here already. The optimum (Belady's, with
// room for everything) misses each package once.
func zipf(r *Run) {
	const packages, installs = 50, 750
	n := r.network()
	n.grow(r.Scenario.Peers, nil)
	n.connected()
	name := func(i int) string { return fmt.Sprint("popular-", i) }
	for i := range packages {
		r.publish(n.engines[1+i%(len(n.engines)-1)], name(i))
	}
	n.complete(packages)
	const exponent = 1.0001 // math/rand's must be greater than 1
	popularity := rand.NewZipf(rand.New(rand.NewSource(int64(r.Seed))), exponent, 1, packages-1)
	user, distinct, asked := n.engines[0], map[int]bool{}, 0
	root := r.TempDir()
	for r.Loop() {
		for range installs {
			i := int(popularity.Uint64())
			distinct[i] = true
			asked++
			if err := os.RemoveAll(filepath.Join(root, name(i))); err != nil { // what is installed already is not wanted
				r.Fatal(err)
			}
			began := time.Now()
			_, err := user.Install(r.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: name(i)}}, Root: root, Trust: true}, nil)
			if err != nil {
				r.Fatal(err)
			}
			r.Took("zipf-install", time.Since(began))
		}
		<-time.After(life)
	}
	status := n.status(0)
	r.Report("hit-%", 100*float64(status.CacheHits)/float64(max(status.CacheHits+status.CacheMisses, 1)))
	r.Report("optimum-hit-%", 100*(1-float64(len(distinct))/float64(asked)))
}

// soak lets a network live for long, in which somebody publishes every minute, and
// measures what that leaves behind: memory and
// goroutines that each peer has more afterwards.
func soak(long time.Duration) func(r *Run) {
	return func(r *Run) {
		random := r.random()
		n := r.network()
		n.grow(r.Scenario.Peers, nil)
		n.connected()
		<-time.After(life)
		heard := n.watch()
		memory, goroutines, minute := inUse(), runtime.NumGoroutine(), 0
		for r.Loop() {
			for range long / time.Minute {
				began := time.Now()
				name := fmt.Sprint("minute-", minute)
				r.publish(n.engines[random.IntN(len(n.engines))], name)
				minute++
				r.await("everybody to hear of "+name, 10*time.Millisecond, func() bool { return len(heard.of(name)) == len(n.engines) })
				r.Took("soak-release", time.Since(began))
				<-time.After(max(time.Minute-time.Since(began), 0))
			}
		}
		r.Report("KiB-growth/peer", float64(inUse()-memory)/float64(len(n.engines))/1024)
		r.Report("goroutines-growth/peer", float64(runtime.NumGoroutine()-goroutines)/float64(len(n.engines)))
	}
}
