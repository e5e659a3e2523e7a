package scenario_test

import (
	"flag"
	"math"
	"slices"
	"strings"
	"testing"

	"ggen.dev/marketplace/bench/links"
	"ggen.dev/marketplace/bench/scenario"
)

// TestNames: the suite has the 51 scenarios that it promises, and each name once.
func TestNames(t *testing.T) {
	want := strings.Fields(`
		peer_discovery/bootstrap_network/5 peer_discovery/bootstrap_network/10 peer_discovery/bootstrap_network/20 peer_discovery/bootstrap_network/50
		dht_operations/dht_put/10 dht_operations/dht_put/50 dht_operations/dht_put/100
		dht_operations/dht_get/10 dht_operations/dht_get/50 dht_operations/dht_get/100
		dht_operations/dht_lookup_network_size/10 dht_operations/dht_lookup_network_size/50 dht_operations/dht_lookup_network_size/100
		dht_operations/dht_lookup_network_size/500 dht_operations/dht_lookup_network_size/1000
		package_search/search_across_peers/10p_100pkg package_search/search_across_peers/20p_500pkg package_search/search_across_peers/50p_1000pkg
		package_search/local_cache_hit
		gossipsub/message_propagation/5 gossipsub/message_propagation/10 gossipsub/message_propagation/20 gossipsub/message_propagation/50
		gossipsub/package_announcement
		memory_usage/single_peer_baseline
		memory_usage/network_memory/10 memory_usage/network_memory/20 memory_usage/network_memory/50 memory_usage/network_memory/100
		memory_usage/memory_with_packages/10p_100pkg memory_usage/memory_with_packages/20p_500pkg memory_usage/memory_with_packages/50p_1000pkg
		scalability/bootstrap_scaling/5 scalability/bootstrap_scaling/10 scalability/bootstrap_scaling/20 scalability/bootstrap_scaling/50
		scalability/bootstrap_scaling/100
		scalability/search_scaling/10 scalability/search_scaling/20 scalability/search_scaling/50 scalability/search_scaling/100
		scalability/dht_lookup_scaling/10 scalability/dht_lookup_scaling/50 scalability/dht_lookup_scaling/100
		scalability/dht_lookup_scaling/500 scalability/dht_lookup_scaling/1000
		cli_commands/cli_search cli_commands/cli_install cli_commands/cli_publish
		peer_reputation/reputation_calculation peer_reputation/peer_selection`)
	if len(want) != 51 {
		t.Fatalf("the list has %d names", len(want))
	}
	var have []string
	for _, s := range scenario.All() {
		if slices.Contains(have, s.Name) {
			t.Errorf("%s is there twice", s.Name)
		}
		have = append(have, s.Name)
	}
	for _, name := range want {
		if !slices.Contains(have, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range have {
		if !slices.Contains(want, name) && !strings.HasPrefix(name, "beyond/") {
			t.Errorf("%s is none of the 51, and not in beyond/", name)
		}
	}
}

// TestOneSeedIsOneNetwork: two runs of a seed agree within 5 % at the median.
func TestOneSeedIsOneNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("runs benchmarks for seconds")
	}
	if err := flag.Set("test.benchtime", "5s"); err != nil { // virtual: seconds of this machine's
		t.Fatal(err)
	}
	opts := scenario.Options{Set: scenario.Full, Seed: 1, Links: links.Internet}
	for _, measured := range []struct{ name, unit string }{
		{"dht_operations/dht_get/10", "head-cold-p50-ms"},
		{"gossipsub/message_propagation/10", "delivery-p50-ms"},
		{"peer_discovery/bootstrap_network/5", "bootstrap-p50-ms"},
	} {
		i := slices.IndexFunc(scenario.All(), func(s scenario.Scenario) bool { return s.Name == measured.name })
		var values [2]float64
		for run := range values {
			result := testing.Benchmark(func(b *testing.B) { scenario.All()[i].Bench(b, opts) })
			value, ok := result.Extra[measured.unit]
			if !ok {
				t.Fatalf("%s reports no %s", measured.name, measured.unit)
			}
			values[run] = value
		}
		if math.Abs(values[0]-values[1]) > 0.05*values[0] {
			t.Errorf("%s: %s is %v and then %v", measured.name, measured.unit, values[0], values[1])
		}
	}
}

func TestPercentile(t *testing.T) {
	for _, tc := range []struct {
		sorted  []int
		percent int
		want    int
	}{
		{nil, 50, 0},
		{[]int{4}, 99, 4},
		{[]int{1, 2, 3, 4}, 50, 2},
		{[]int{1, 2, 3, 4}, 51, 3},
		{[]int{1, 2, 3, 4}, 100, 4},
	} {
		if got := scenario.Percentile(tc.sorted, tc.percent); got != tc.want {
			t.Errorf("percentile %d of %v is %d, not %d", tc.percent, tc.sorted, got, tc.want)
		}
	}
}
