package scenario

import "fmt"

// All lists every scenario, in the order in which they run.
func All() []Scenario {
	var all []Scenario
	add := func(world World, set Set, name string, peers int, run func(*Run)) {
		all = append(all, Scenario{Name: name, Set: set, World: world, Peers: peers, Run: run})
	}
	sized := func(world World, name string, run func(*Run), sizes ...int) {
		for _, peers := range sizes {
			add(world, setOf(peers), fmt.Sprintf("%s/%d", name, peers), peers, run)
		}
	}
	sized(Virtual, "dht_operations/dht_put", dhtPut, 10, 50, 100)
	sized(Virtual, "dht_operations/dht_get", dhtGet, 10, 50, 100)
	sized(Virtual, "dht_operations/dht_lookup_network_size", dhtLookup, 10, 50, 100, 500, 1000)
	return all
}

// setOf says in which set a network of so many peers is.
func setOf(peers int) Set {
	switch {
	case peers <= 20:
		return Quick
	case peers <= 100:
		return Full
	}
	return Scale
}
