package links_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/bench/links"
)

func TestDelaysAreThoseOfAPlanet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		a, b := rapid.IntRange(0, 20_000).Draw(t, "a"), rapid.IntRange(0, 20_000).Draw(t, "b")
		for _, l := range []links.Links{links.Internet(seed), links.Uniform(seed), links.Regions(seed)} {
			there, back := l.Delay(a, b), l.Delay(b, a)
			if there != back || there != l.Delay(a, b) {
				t.Errorf("%s: %s there, %s back", l.Name, there, back)
			}
			if there < 2*time.Millisecond || there > 250*time.Millisecond {
				t.Errorf("%s: %s from %d to %d", l.Name, there, a, b)
			}
		}
	})
}

func TestHostsAreWhereTheSourceSawThem(t *testing.T) {
	const hosts = 20_000
	count := map[int]int{}
	fast := 0
	l := links.Internet(1)
	for i := range hosts {
		count[links.Region(1, i)]++
		if l.Mbps(i) > 1000 {
			fast++
		}
	}
	if europe := float64(count[1]) / hosts; math.Abs(europe-0.494) > 0.02 {
		t.Errorf("%.3f of the hosts are in Europe, not 0.494", europe)
	}
	if share := float64(fast) / hosts; math.Abs(share-0.2) > 0.02 {
		t.Errorf("%.3f of the hosts are fast, not 0.2", share)
	}
}

func TestLoss(t *testing.T) {
	l := links.Uniform(3)
	l.Loss = 0.1
	between, lost := l.Network().Between, 0
	for range 10_000 {
		if between(1, 2) == links.Never {
			lost++
		}
	}
	if lost < 900 || lost > 1100 {
		t.Errorf("%d of 10,000 packets are lost, not a tenth", lost)
	}
}

func BenchmarkDelay(b *testing.B) { // it is drawn for every packet
	l, i := links.Internet(1), 0
	for b.Loop() {
		i++
		l.Delay(i%1000, i%997)
	}
}
