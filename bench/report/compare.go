package report

import (
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"

	"ggen.dev/marketplace/bench/scenario"
)

// The bounds of a regression: what is worse by more than this, and not by chance.
const (
	tolerance       = 0.10
	memoryTolerance = 0.15

	// alpha is the chance of seeing a difference that is none. Four runs against four can
	// show less than that, three against three cannot.
	alpha = 0.05
)

// Change is one measurement that was made twice.
type Change struct {
	Scenario, Unit string
	Old, New       float64 // medians
	P              float64 // of a difference by chance
	Runs           [2]int
	Regression     bool
	Progress       bool // as much better as a regression is worse
}

// Delta is how much greater the new value is, as a share of the old one.
func (c Change) Delta() float64 {
	if c.Old == c.New {
		return 0
	}
	if c.Old == 0 {
		return math.Copysign(math.Inf(1), c.New)
	}
	return c.New/c.Old - 1
}

// compared tells whether a unit is worth a comparison: medians and single figures that
// this program makes, not those of floors, of others' code and of this machine's load.
func compared(unit string) bool {
	for _, not := range []string{"floor-p", "library", "optimum", "links/", "growth", "-p95-", "-p99-", "wall-s", "late"} {
		if strings.Contains(unit, not) {
			return false
		}
	}
	return !strings.HasPrefix(unit, "last/floor") || strings.Contains(unit, "-p50-")
}

// Compare compares what both have measured: in virtual time, which is the same on every
// machine, and memory. realTime adds what depends on the machine and on what else
// it does.
func Compare(old, fresh *Results, realTime bool) (changes []Change) {
	for _, name := range fresh.Names() {
		before, now := old.Scenarios[name], fresh.Scenarios[name]
		if before == nil {
			continue
		}
		virtual := now.World == string(scenario.Virtual)
		for unit, values := range now.Values {
			if !compared(unit) || len(before.Values[unit]) == 0 || unit == "sec/op" && virtual {
				continue
			}
			if !virtual && !realTime && !strings.Contains(unit, "MiB") {
				continue
			}
			changes = append(changes, change(name, unit, before.Values[unit], values))
		}
	}
	slices.SortFunc(changes, func(a, b Change) int {
		if a.Scenario != b.Scenario {
			return strings.Compare(sortKey(a.Scenario), sortKey(b.Scenario))
		}
		return strings.Compare(a.Unit, b.Unit)
	})
	return changes
}

func change(name, unit string, before, now []float64) Change {
	thresholds := benchmath.Thresholds{CompareAlpha: alpha}
	// NewSample sorts what it is given.
	a, b := benchmath.NewSample(slices.Clone(before), &thresholds), benchmath.NewSample(slices.Clone(now), &thresholds)
	c := Change{
		Scenario: name, Unit: unit, Old: median(before), New: median(now),
		P: benchmath.AssumeNothing.Compare(a, b).P, Runs: [2]int{len(before), len(now)},
	}
	bound := tolerance
	if strings.Contains(unit, "MiB") {
		bound = memoryTolerance
	}
	worse := c.Delta()
	if unit == "hit-%" {
		worse = -worse
	}
	if c.P < alpha {
		c.Regression, c.Progress = worse > bound, worse < -bound
	}
	return c
}
