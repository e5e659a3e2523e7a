// Package links draws the links of a simulated network: how long a packet travels
// between two hosts, how fast each host is connected, and how many packets are lost.
//
// Everything follows from a seed and the hosts' numbers, so two runs of one seed have
// the same network, and a host keeps its place when others are added. It draws links
// and nothing else: package p2p/p2ptest has the network that they belong to. It knows no
// kernel queues, no NAT and no time of day.
package links

import (
	"math/rand/v2"
	"time"

	"ggen.dev/marketplace/p2p/p2ptest"
)

// Links are the links between the hosts of one network.
type Links struct {
	// Name says which network this is, for reports.
	Name string
	// Delay is how long a packet travels from one host to another, one way, without
	// the time that its bytes take. It is the same in both directions.
	Delay func(from, to int) time.Duration
	// Mbps is the rate of a host's uplink and of its downlink, in 10^6 bits a second.
	Mbps func(host int) int
	// Loss is the share of packets that never arrive, 0 ≤ Loss < 1.
	Loss float64
	// Streams has bytes travel in order instead of packets, see [p2ptest.Links]. Nothing is
	// lost then, whatever Loss says.
	Streams bool

	seed uint64
}

// region is a part of the world, with its share of the hosts.
type region struct {
	name   string
	weight int
}

// regions, oneWay and the classes of bandwidth are those of the network graph with which
// the libp2p project tests gossipsub between implementations: github.com/libp2p/test-plans,
// gossipsub-interop/network_graph.py at 00f6cbd, MIT or Apache 2.0. The weights are numbers of
// nodes that were seen there. Where the graph has two values for a pair, the greater is here.
var regions = [...]region{
	{"Australia", 290},
	{"Europe", 5599},
	{"East Asia", 1059},
	{"West Asia", 161},
	{"North America, east", 2894},
	{"North America, west", 1240},
	{"South Africa", 47},
	{"South America", 36},
}

// oneWay are milliseconds between two regions, in the order of regions.
var oneWay = [len(regions)][len(regions)]int{
	{2, 165, 110, 180, 150, 110, 220, 190},
	{165, 2, 125, 60, 70, 110, 95, 140},
	{110, 125, 4, 110, 140, 100, 175, 175},
	{180, 60, 110, 5, 110, 150, 110, 145},
	{150, 70, 140, 110, 2, 60, 130, 100},
	{110, 110, 100, 150, 60, 2, 160, 100},
	{220, 95, 175, 110, 130, 160, 7, 195},
	{190, 140, 175, 145, 100, 100, 195, 7},
}

// The classes of bandwidth: every fifth host is in a data centre.
const (
	fastMbps  = 1024
	slowMbps  = 50
	fastShare = 0.2
)

// Internet is a network whose delays and bandwidths are published ones. Hosts are in
// regions, as many as the weights say; a delay is up to a tenth more than its regions'.
func Internet(seed uint64) Links {
	return Links{
		Name: "internet",
		Delay: func(from, to int) time.Duration {
			base := time.Duration(oneWay[Region(seed, from)][Region(seed, to)]) * time.Millisecond
			return base + time.Duration(pair(seed, from, to).Float64()*float64(base)/10)
		},
		Mbps: func(host int) int {
			if of(seed, host).Float64() < fastShare {
				return fastMbps
			}
			return slowMbps
		},
		seed: seed,
	}
}

// Region is the number of the region that [Internet] of this seed puts a host into.
func Region(seed uint64, host int) int {
	total := 0
	for _, r := range regions {
		total += r.weight
	}
	at := of(seed^0x7265676e, host).IntN(total)
	for i, r := range regions {
		if at -= r.weight; at < 0 {
			return i
		}
	}
	return len(regions) - 1 // not reached: the weights add up to total
}

// Uniform is a network with 20 to 100 ms one way, different for each pair, and 100
// Mbit/s. No map has such distances; the project's goals were set on it.
func Uniform(seed uint64) Links {
	return Links{
		Name: "uniform",
		Delay: func(from, to int) time.Duration {
			return 20*time.Millisecond + time.Duration(pair(seed, from, to).Int64N(int64(80*time.Millisecond)))
		},
		Mbps: func(int) int { return 100 },
		seed: seed,
	}
}

// betweenRegions are milliseconds one way between the regions of [Regions].
var betweenRegions = [5][5]int{
	{10, 35, 70, 110, 140},
	{35, 10, 60, 95, 125},
	{70, 60, 10, 50, 80},
	{110, 95, 50, 10, 40},
	{140, 125, 80, 40, 10},
}

// Regions is a network of five equal regions, 10 to 15 ms one way within one and 35 to 150 ms
// between two, and 100 Mbit/s: the project's goals for lookups were set on it.
func Regions(seed uint64) Links {
	region := func(host int) int { return of(seed^0x66697665, host).IntN(len(betweenRegions)) }
	return Links{
		Name: "regions",
		Delay: func(from, to int) time.Duration {
			a, b := region(from), region(to)
			spread := 10 * time.Millisecond
			if a == b {
				spread = 5 * time.Millisecond
			}
			return time.Duration(betweenRegions[a][b])*time.Millisecond + time.Duration(pair(seed, from, to).Int64N(int64(spread)))
		},
		Mbps: func(int) int { return 100 },
		seed: seed,
	}
}

// Never is how long a lost packet travels: longer than any simulation. Package simnet can
// delay packets and not drop them.
const Never = 1000 * time.Hour

// Network gives the links to a simulated network. Call it once for each network: which
// packets are lost depends on how many came before.
func (l Links) Network() p2ptest.Links {
	lossy := rand.New(rand.NewPCG(l.seed, 0x6c6f7373)) // used by the simulation's router alone
	return p2ptest.Links{
		Rate:    l.Mbps,
		Streams: l.Streams,
		Between: func(from, to int) time.Duration {
			if l.Loss > 0 && !l.Streams && lossy.Float64() < l.Loss {
				return Never
			}
			return l.Delay(from, to)
		},
	}
}

// of is the source of what is drawn for one host.
func of(seed uint64, host int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(host))) }

// pair is the source of what is drawn for two hosts, in either order.
func pair(seed uint64, a, b int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(min(a, b))<<32|uint64(max(a, b))))
}
