package report

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"ggen.dev/marketplace/bench/links"
	"ggen.dev/marketplace/bench/scenario"
)

// Lookups are what a network of some size would take, computed and not measured, in milliseconds.
//
// A lookup asks the peers closest to a key at once, all of which its peer table names: one
// round trip to the nearest that is alive, or two where it must be dialled first. Which
// peers are closest is by hash, so they are anywhere. What lookups took beyond that least time
// is drawn from what was measured at the largest size.
type Lookups struct {
	From     string // the scenario whose measurements are used
	Peers    int
	Cold     []float64 // sorted
	Warm     []float64
	Measured bool // whether there is anything to compute from
}

// closest is how many peers keep a record (k of Kademlia).
const closest = 20

// Model computes lookups on the links of a network of so many peers, from families of
// scenarios that have such links.
func (r *Results) Model(network links.Links, seed uint64, peers int, families []string) Lookups {
	family, size := r.largest(peers, families)
	if size == 0 {
		return Lookups{Peers: peers}
	}
	m := Lookups{From: fmt.Sprintf("%s/%d", family, size), Peers: peers, Measured: true}
	linked, ok := r.Value(m.From, "links/peer")
	cold, warm := r.series(m.From, "head-cold-beyond"), r.series(m.From, "head-warm-beyond")
	if !ok || len(cold) == 0 || len(warm) == 0 {
		return Lookups{Peers: peers}
	}
	random := rand.New(rand.NewPCG(seed, uint64(peers)))
	const draws = 20_000
	for range draws {
		asks := random.IntN(peers)
		nearestCold, nearestWarm := time.Duration(0), time.Duration(0)
		for i := range closest {
			trip := 2 * network.Delay(asks, random.IntN(peers))
			if i == 0 || trip < nearestWarm {
				nearestWarm = trip
			}
			if random.Float64() >= linked/float64(peers) {
				trip *= 2 // it must be dialled
			}
			if i == 0 || trip < nearestCold {
				nearestCold = trip
			}
		}
		m.Cold = append(m.Cold, milliseconds(nearestCold)+cold[random.IntN(len(cold))])
		m.Warm = append(m.Warm, milliseconds(nearestWarm)+warm[random.IntN(len(warm))])
	}
	slices.Sort(m.Cold)
	slices.Sort(m.Warm)
	return m
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// largest is the largest network below a size in which lookups were measured.
func (r *Results) largest(below int, families []string) (family string, size int) {
	for _, f := range families {
		for _, n := range r.Sizes(f) {
			if n < below && n > size {
				family, size = f, n
			}
		}
	}
	return family, size
}

// series are the sorted values of a series.
func (r *Results) series(scenario, name string) []float64 {
	for _, s := range r.Series {
		if s.Scenario == scenario && s.Series == name {
			return s.Values
		}
	}
	return nil
}

// topology draws the links that were measured, by their name in [Goals].
func (r *Results) topology(name string) (network links.Links, seed uint64, ok bool) {
	if len(r.Config["seed"]) != 1 {
		return network, 0, false
	}
	seed, err := strconv.ParseUint(r.Config["seed"][0], 10, 64)
	switch {
	case err != nil:
		return network, 0, false
	case name == regionsLinks:
		return links.Regions(seed), seed, true
	case name == uniformLinks:
		return links.Uniform(seed), seed, true
	}
	network = links.Internet(seed)
	return network, seed, slices.Equal(r.Config["links"], []string{network.Name})
}

// modelled writes what a network would take that was not simulated, and how the same
// computation does at a size that was.
func (r *Results) modelled(p *printer) {
	type row struct {
		Lookups
		links    string
		families []string
	}
	var rows []row
	for _, on := range []row{{links: regionsLinks, families: []string{regionsLookup}}, {links: internetLinks, families: []string{lookups, moreLookup}}} {
		network, seed, ok := r.topology(on.links)
		_, top := r.largest(1<<30, on.families)
		if !ok || top == 0 {
			continue
		}
		for i, peers := range []int{top, 2000, 5000, 10_000} {
			if i > 0 && peers < 2*top {
				continue
			}
			if on.Lookups = r.Model(network, seed, peers, on.families); on.Measured {
				rows = append(rows, on)
			}
		}
	}
	if len(rows) == 0 {
		return
	}
	p.line("## Lookups in larger networks, modelled\n")
	p.line("**Not measured: computed** from the links and from what lookups took beyond their floors in the network that is named. A lookup has one hop: the peer table names all of the %d peers that are closest to a key. "+
		"The model has complete tables (10,000 peers are about 8 MB in each) and nobody dead. The first row of each kind of links is a network that was measured, too, as a check.\n", closest)
	p.line("| links | peers | from | cold p50 / p95 / p99 | warm p50 / p95 / p99 | measured cold | measured warm |\n|---|---|---|---|---|---|---|")
	for _, m := range rows {
		p.line("| %s | %d | %s | %s ms | %s ms | %s | %s |", m.links, m.Peers, m.From, percentiles(m.Cold), percentiles(m.Warm), r.measuredAt(m.families, m.Peers, "head-cold"), r.measuredAt(m.families, m.Peers, "head-warm"))
	}
	p.line("")
}

func percentiles(sorted []float64) string {
	var texts []string
	for _, percent := range []int{50, 95, 99} {
		texts = append(texts, figure(scenario.Percentile(sorted, percent)))
	}
	return strings.Join(texts, " / ")
}

// measuredAt are the percentiles of lookups in a network of a size, or a dash.
func (r *Results) measuredAt(families []string, peers int, series string) string {
	for _, family := range families {
		var texts []string
		for _, percent := range []int{50, 95, 99} {
			if value, ok := r.Value(fmt.Sprintf("%s/%d", family, peers), fmt.Sprintf("%s-p%d-ms", series, percent)); ok {
				texts = append(texts, figure(value))
			}
		}
		if len(texts) > 0 {
			return strings.Join(texts, " / ") + " ms"
		}
	}
	return "-"
}
