package scenario

import (
	"fmt"
	"strings"
)

// All lists every scenario, in the order in which they run.
func All() []Scenario {
	var all []Scenario
	add := func(world World, set Set, name string, peers int, run func(*Run)) {
		all = append(all, Scenario{Name: name, Set: set, World: world, Peers: peers, Streams: peers > packets, Given: peers > told, Run: run})
	}
	sized := func(world World, name string, run func(*Run), sizes ...int) {
		for _, peers := range sizes {
			set := setOf(world, peers)
			if set == Quick && strings.HasPrefix(name, "scalability/") {
				set = Full // the quick set has the same network under another name
			}
			add(world, set, fmt.Sprintf("%s/%d", name, peers), peers, run)
		}
	}
	// stocked are networks with packages, which are named after both.
	stocked := []struct{ peers, packages int }{{10, 100}, {20, 500}, {50, 1000}}

	sized(Virtual, "peer_discovery/bootstrap_network", bootstrap, 5, 10, 20, 50)

	sized(Virtual, "dht_operations/dht_put", dhtPut, 10, 50, 100)
	sized(Virtual, "dht_operations/dht_get", dhtGet, 10, 50, 100)
	sized(Virtual, "dht_operations/dht_lookup_network_size", dhtLookup(0), 10, 50, 100, 500, 1000)

	for _, s := range stocked {
		add(Real, Full, fmt.Sprintf("package_search/search_across_peers/%dp_%dpkg", s.peers, s.packages), s.peers, searchAcross(s.packages))
	}
	add(Real, Full, "package_search/local_cache_hit", 1, cacheHit)

	sized(Virtual, "gossipsub/message_propagation", propagation, 5, 10, 20, 50)
	add(Virtual, Quick, "gossipsub/package_announcement", 20, announcement)

	add(Real, Full, "memory_usage/single_peer_baseline", 1, idle)
	sized(Virtual, "memory_usage/network_memory", networkMemory(0), 10, 20, 50, 100)
	for _, s := range stocked {
		set := Full
		if s.peers == stocked[0].peers {
			set = Quick // one is enough to see that a package takes more
		}
		add(Virtual, set, fmt.Sprintf("memory_usage/memory_with_packages/%dp_%dpkg", s.peers, s.packages), s.peers, networkMemory(s.packages))
	}

	sized(Virtual, "scalability/bootstrap_scaling", bootstrap, 5, 10, 20, 50, 100)
	sized(Real, "scalability/search_scaling", searchAcross(1000), 10, 20, 50, 100)
	sized(Virtual, "scalability/dht_lookup_scaling", dhtLookup(0), 10, 50, 100)
	// The same network as above at 500 peers: how much it matters what the links carry.
	sized(Virtual, "scalability/dht_lookup_scaling", onStreams(dhtLookup(0)), 500, 1000)

	add(Real, Full, "cli_commands/cli_search", 20, cliSearch)
	add(Real, Full, "cli_commands/cli_install", 20, cliInstall)
	add(Real, Full, "cli_commands/cli_publish", 20, cliPublish)

	add(Real, Full, "peer_reputation/reputation_calculation", 50, reputationScore)
	add(Real, Full, "peer_reputation/peer_selection", 50, peerSelection)
	return append(all, beyond()...)
}

// packets is the size of the largest networks that are simulated with QUIC, which takes
// about twice the time and 3 to 6 MB a peer.
const packets = 500

// told is the size of the largest networks whose members tell each other of all: at 500, each of
// 250,000 records comes to its reader 24 times over, which did not end in 10 core-minutes.
const told = 50

// given is a scenario whose members never do.
func given(run func(r *Run)) func(r *Run) {
	return func(r *Run) {
		r.Scenario.Given = true
		run(r)
	}
}

// onStreams is a scenario on the links of networks that are too large for packets.
func onStreams(run func(r *Run)) func(r *Run) {
	return func(r *Run) {
		r.Links.Streams = true
		run(r)
	}
}

// setOf says in which set a network of so many peers is. Real time is not quick: what
// it measures depends on the machine, and cannot be compared with another one's.
func setOf(world World, peers int) Set {
	switch {
	case peers <= 20 && world == Virtual:
		return Quick
	case peers <= 100:
		return Full
	}
	return Scale
}
