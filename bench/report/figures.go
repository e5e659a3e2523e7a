package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ggen.dev/marketplace/bench/scenario"
)

// Goal is one figure that is to be reached (DESIGN section 6).
type Goal struct {
	What      string
	Reference string // what others have stated, for readers
	Links     string // that the families have, if that matters
	Families  []string
	Size      string  // the last part of the scenario's name; empty: the family is the whole name
	Unit      string  // of the measurement
	Over      string  // unit that Unit is divided by; empty: none
	Of        string  // scenario that is divided, if it is not the one that measures Over
	Bound     float64 // at most, or with AtLeast at least
	AtLeast   bool
	Floor     string // unit of the floor; empty: there is none
	FloorWhat string // what to say where there is none
	// Model computes the figure where it was not measured at its size; nil: nothing does.
	Model func(Lookups) float64
}

const (
	lookups       = "scalability/dht_lookup_scaling"
	moreLookup    = "beyond/lookup"
	regionsLookup = "beyond/lookup_regions"
	uniformLookup = "beyond/lookup_uniform"
	inMemory      = "none: this machine's work"
)

// The links that networks have: those for which the goals are set, of which the first are for
// lookups, and those of the published graph.
const (
	regionsLinks  = "five regions"
	uniformLinks  = "20-100 ms"
	internetLinks = "internet"
)

// Goals are the figures of DESIGN section 6, and the scenarios that measure them: on the
// links for which they are set, and beside that on published ones.
func Goals() []Goal {
	var goals []Goal
	for _, on := range []struct {
		links    string
		families []string
		dead     string
		sizes    []string
	}{
		{regionsLinks, []string{regionsLookup}, "beyond/dead_20_regions", []string{"1000", "10000"}},
		{uniformLinks, []string{uniformLookup}, "beyond/dead_20_uniform", []string{"1000"}},
		{internetLinks, []string{lookups, moreLookup}, "beyond/dead_20", []string{"1000", "10000"}},
	} {
		for _, size := range on.sizes {
			goal := func(what, unit string, bound float64, families ...string) Goal {
				return Goal{What: what, Links: on.links, Families: families, Size: size, Unit: "head-" + unit + "-ms", Bound: bound, Floor: "head-" + strings.Replace(unit, "-p", "-floor-p", 1) + "-ms"}
			}
			modelled := func(what, unit string, bound float64, of func(l Lookups) float64) Goal {
				g := goal(what, unit, bound, on.families...)
				g.Model = of
				return g
			}
			library := func(what string, families ...string) Goal {
				return Goal{What: what, Links: on.links, Families: families, Size: size, Unit: "head-library-p95-ms", Over: "head-cold-p95-ms", Bound: 3, AtLeast: true, FloorWhat: "-"}
			}
			goals = append(goals,
				modelled("lookup, cold, p50", "cold-p50", 80, func(l Lookups) float64 { return scenario.Percentile(l.Cold, 50) }),
				modelled("lookup, cold, p99", "cold-p99", 150, func(l Lookups) float64 { return scenario.Percentile(l.Cold, 99) }),
				modelled("lookup, warm, p50", "warm-p50", 30, func(l Lookups) float64 { return scenario.Percentile(l.Warm, 50) }),
				library("the library's p95 / ours", on.families...),
				goal("lookup, 20 % dead, cold, p50", "cold-p50", 80, on.dead),
				goal("lookup, 20 % dead, cold, p99", "cold-p99", 150, on.dead),
				goal("lookup, 20 % dead, warm, p50", "warm-p50", 30, on.dead),
				library("the library's p95 / ours, 20 % dead", on.dead),
			)
		}
	}
	for i := range goals {
		if strings.HasPrefix(goals[i].What, "lookup, cold") {
			goals[i].Reference = "200-500 ms"
		}
	}
	for _, on := range []struct{ links, family string }{{uniformLinks, "beyond/propagation_uniform"}, {internetLinks, "beyond/propagation"}} {
		goals = append(goals,
			Goal{What: "gossip, p99 of deliveries", Reference: "1-3 s", Links: on.links, Families: []string{on.family}, Size: "1000", Unit: "delivery-p99-ms", Bound: 200, Floor: "delivery-floor-p99-ms"},
			Goal{What: "gossip, until the last, multiple of the floor", Links: on.links, Families: []string{on.family}, Size: "1000", Unit: "last/floor-p50-x", Bound: 1.1, FloorWhat: "1"},
			Goal{What: "gossip, deliveries that were missed", Links: on.links, Families: []string{on.family}, Size: "1000", Unit: "missed", Bound: 0, FloorWhat: "0"},
		)
	}
	goals = append(goals,
		Goal{What: "gossip, deliveries that were missed", Links: internetLinks, Families: []string{"beyond/propagation"}, Size: "10000", Unit: "missed", Bound: 0, FloorWhat: "0"},
		Goal{What: "cache hit, hot", Reference: "< 1 ms", Families: []string{"package_search/local_cache_hit"}, Unit: "hit-hot-p50-us", Bound: 10, FloorWhat: inMemory},
		Goal{What: "cache hit, cold", Families: []string{"package_search/local_cache_hit"}, Unit: "hit-cold-p50-us", Bound: 1000, Floor: "hit-cold-floor-p50-us"},
		Goal{What: "memory of a simulated peer", Reference: "~50 MB", Families: []string{"memory_usage/network_memory", "beyond/memory"}, Size: "1000", Unit: "MiB/peer", Bound: 2, FloorWhat: "-"},
		Goal{What: "an idle engine, resident", Reference: "~50 MB", Families: []string{"memory_usage/single_peer_baseline"}, Unit: "resident-p50-MiB", Bound: 50, FloorWhat: "-"},
		Goal{What: "`search`, whole process", Reference: "100-500 ms", Families: []string{others + "ggen/search"}, Unit: "whole-ms", Bound: 30, FloorWhat: "-"},
		Goal{What: "`install`, whole process", Reference: "0.5-2 s", Families: []string{others + "ggen/install"}, Unit: "whole-ms", Bound: 150, FloorWhat: "-"},
		Goal{What: "`publish`, whole process", Reference: "200-400 ms", Families: []string{others + "ggen/publish"}, Unit: "whole-ms", Bound: 80, FloorWhat: "-"},
		Goal{What: "64 MiB, kubo's time / ours", Families: []string{others + "ggen/fetch-64MiB"}, Of: others + "kubo-quic/fetch-64MiB", Unit: "whole-ms", Over: "whole-ms", Bound: 2, AtLeast: true, FloorWhat: "-"},
		Goal{What: "64 MiB, kubo's time / ours, TCP chosen for it", Families: []string{others + "ggen/fetch-64MiB"}, Of: others + "kubo-tcp/fetch-64MiB", Unit: "whole-ms", Over: "whole-ms", Bound: 2, AtLeast: true, FloorWhat: "-"},
		Goal{What: "`search`, beside 20 peers on the same processors", Reference: "100-500 ms", Families: []string{"cli_commands/cli_search"}, Unit: "cli-search-p50-ms", Bound: 30, Floor: "cli-search-floor-p50-ms"},
		Goal{What: "`install`, beside 20 peers on the same processors", Reference: "0.5-2 s", Families: []string{"cli_commands/cli_install"}, Unit: "cli-install-p50-ms", Bound: 150, Floor: "cli-install-floor-p50-ms"},
		Goal{What: "`publish`, beside 20 peers on the same processors", Reference: "200-400 ms", Families: []string{"cli_commands/cli_publish"}, Unit: "cli-publish-p50-ms", Bound: 80, Floor: "cli-publish-floor-p50-ms"},
	)
	for _, b := range []struct{ size, reference string }{{"10", "< 2 s"}, {"100", "< 5 s"}, {"1000", "< 30 s"}, {"10000", "< 5 min"}} {
		for _, on := range []struct {
			links    string
			families []string
		}{{uniformLinks, []string{"beyond/bootstrap_uniform", "beyond/light_uniform"}}, {internetLinks, []string{"scalability/bootstrap_scaling", "beyond/light"}}} {
			if on.links == internetLinks && b.size == "10000" {
				continue // once is enough
			}
			goals = append(goals, Goal{What: "a joining peer is usable", Reference: b.reference, Links: on.links, Families: on.families, Size: b.size, Unit: "join-p95-ms", Bound: 1000, Floor: "join-floor-p95-ms"})
		}
	}
	return append(goals,
		Goal{What: "cache hit rate, Zipf, %", Reference: "80 %", Families: []string{"beyond/zipf"}, Size: "10", Unit: "hit-%", Bound: 90, AtLeast: true, Floor: "optimum-hit-%"},
		Goal{What: "search, p50", Families: []string{"beyond/search_large"}, Size: "100000", Unit: "search-p50-ms", Bound: 1, FloorWhat: inMemory},
		Goal{What: "search, p99", Families: []string{"beyond/search_large"}, Size: "100000", Unit: "search-p99-ms", Bound: 5, FloorWhat: inMemory},
	)
}

// Verdict is a goal beside what was measured.
type Verdict struct {
	Goal
	Scenario string // that was measured; empty: none was
	At       string // its size, if that is not the goal's
	Measured float64
	Least    float64 // the floor
	HasFloor bool
	Modelled bool // and not measured
	Reached  bool
}

// Judge compares a goal with what was measured at its size, or else at the largest size
// below it, which proves nothing of the goal's.
func (g Goal) Judge(r *Results) Verdict {
	v := Verdict{Goal: g}
	measured, ok := 0.0, false
	for _, family := range g.Families {
		name := family
		if g.Size != "" {
			name += "/" + g.Size
		}
		if measured, ok = g.value(r, name); ok {
			v.Scenario = name
			break
		}
	}
	size, err := strconv.Atoi(g.Size)
	if network, seed, drawn := r.topology(g.Links); !ok && err == nil && g.Model != nil && drawn {
		if m := r.Model(network, seed, size, g.Families); m.Measured {
			v.Scenario, v.Modelled = m.From, true
			measured, ok = g.Model(m), true
		}
	}
	if !ok && err == nil {
		best := 0
		for _, family := range g.Families {
			for _, n := range r.Sizes(family) {
				name := family + "/" + strconv.Itoa(n)
				if value, there := g.value(r, name); there && n < size && n > best {
					best, measured, v.Scenario, v.At = n, value, name, strconv.Itoa(n)
				}
			}
		}
	}
	if v.Scenario == "" {
		return v
	}
	v.Measured = measured
	if g.Floor != "" && !v.Modelled {
		v.Least, v.HasFloor = r.Value(v.Scenario, g.Floor)
	}
	v.Reached = measured <= g.Bound
	if g.AtLeast {
		v.Reached = measured >= g.Bound
	}
	return v
}

func (g Goal) value(r *Results, scenario string) (float64, bool) {
	value, ok := r.Value(cmp.Or(g.Of, scenario), g.Unit)
	if !ok || g.Over == "" {
		return value, ok
	}
	over, ok := r.Value(scenario, g.Over)
	return value / over, ok && over > 0
}

// String is the verdict in words.
func (v Verdict) String() string {
	switch {
	case v.Scenario == "":
		return "not measured"
	case v.Modelled && v.Reached:
		return "*modelled*: yes"
	case v.Modelled:
		return "*modelled*: **no**"
	case v.At != "" && v.Reached:
		return "at " + v.At + ": yes"
	case v.At != "":
		return "at " + v.At + ": **no**"
	case v.Reached:
		return "**pass**"
	}
	return "**fail**"
}

// Unitless is the last part of a unit: what its numbers count.
func Unitless(unit string) string {
	at := strings.LastIndexByte(unit, '-')
	if last := unit[at+1:]; slices.Contains([]string{"ms", "us", "MiB", "x", "s", "%"}, last) {
		return last
	}
	if unit == "MiB/peer" {
		return "MiB"
	}
	return ""
}

// figure writes a number with three digits that count.
func figure(value float64) string {
	text := strconv.FormatFloat(value, 'g', 3, 64)
	if strings.Contains(text, "e") {
		text = strconv.FormatFloat(value, 'f', 0, 64)
	}
	return text
}

func quantity(value float64, unit string) string {
	if u := Unitless(unit); u != "" {
		return fmt.Sprintf("%s %s", figure(value), u)
	}
	return figure(value)
}
