// Package scenario is the list of everything that is measured, and how each of it is
// run: peers of the real stack on links of package links in virtual time, on loopback in
// real time, or as processes of their own. Its benchmark runs the list with go test.
//
// It measures and judges nothing: what a figure ought to be, and whether it is, is said
// by package report.
package scenario

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"ggen.dev/marketplace/bench/links"
)

// Set is a set of scenarios that are run together. Each contains those before it but for
// [Scale], which stands alone.
type Set string

// The sets.
const (
	Quick Set = "quick" // minutes: compared with a baseline at every change
	Full  Set = "full"  // at most 20 minutes of 2 cores
	Scale Set = "scale" // hours, and up to 20 GB
)

// Includes tells whether a run of this set runs a scenario of that one.
func (s Set) Includes(that Set) bool { return s == that || s == Full && that == Quick }

// World is where a scenario takes place.
type World string

// The worlds. In [Virtual] time, computing takes none, and ns/op is virtual too.
const (
	Virtual World = "virtual" // simulated links, the time of testing/synctest
	Real    World = "real"    // loopback, this machine's time
)

// Scenario is one thing that is measured.
type Scenario struct {
	// Name is group/what/size.
	Name  string
	Set   Set
	World World
	Peers int
	// Streams has simulated links carry streams of bytes instead of packets, for networks
	// that are too large for QUIC.
	Streams bool
	// Given has members begin with complete peer tables instead of telling each other, for
	// networks in which that would take hours.
	Given bool
	// Run sets up, and measures in a loop of [Run.Loop].
	Run func(r *Run)
}

// Run is one run of a scenario. It stands for the test that it runs in: within a bubble
// of virtual time, that of the bubble.
type Run struct {
	testing.TB

	Scenario Scenario
	Seed     uint64
	Links    links.Links

	bench    *testing.B
	cleanups *[]func() // of the innermost scope; nil: the test's
	record   *recorder
}

// Loop tells whether to measure once more; see [testing.B.Loop].
func (r *Run) Loop() bool { return r.bench.Loop() }

// Aside does what is not to be measured within the loop.
func (r *Run) Aside(work func()) {
	r.bench.StopTimer()
	work()
	r.bench.StartTimer()
}

// Sample adds a value to a series, whose percentiles are reported. It may be called
// concurrently.
func (r *Run) Sample(series, unit string, value float64) { r.record.add(series, unit, value) }

// Took adds a time to a series in milliseconds.
func (r *Run) Took(series string, d time.Duration) {
	r.Sample(series, "ms", float64(d)/float64(time.Millisecond))
}

// Report gives a figure that is one number. Its unit ends in what it counts, like
// "missed-peers".
func (r *Run) Report(unit string, value float64) { r.record.note(unit, value) }

// Cleanup has something done at the end of the innermost scope.
func (r *Run) Cleanup(f func()) {
	if r.cleanups == nil {
		r.TB.Cleanup(f)
		return
	}
	*r.cleanups = append(*r.cleanups, f)
}

// Scope runs work and then what it asked to be cleaned up, so that a loop can build a
// network in each round.
func (r *Run) Scope(work func(r *Run)) {
	var cleanups []func()
	inner := *r
	inner.cleanups = &cleanups
	defer func() {
		for _, f := range slices.Backward(cleanups) {
			f()
		}
	}()
	work(&inner)
}

// Options say how to run scenarios.
type Options struct {
	Set   Set
	Seed  uint64
	Links func(seed uint64) links.Links
	// Samples is a file to which every series is appended; see [Series]. Empty: none is.
	Samples string
}

// Bench runs a scenario as a benchmark. Repetitions have the same seed: how they differ is
// what a comparison of two versions must exceed.
func (s Scenario) Bench(b *testing.B, opts Options) {
	if !opts.Set.Includes(s.Set) {
		b.Skipf("part of the set %q, not of %q", s.Set, opts.Set)
	}
	seed := opts.Seed
	r := &Run{TB: b, Scenario: s, Seed: seed, Links: opts.Links(seed), bench: b, record: &recorder{}}
	r.Links.Streams = s.Streams
	if _, again := announced.LoadOrStore(s.Name, true); !again {
		fmt.Printf("world: %s\n", s.World) // of this scenario's lines; before go test prints its name
	}
	began := time.Now()
	if s.World == Virtual {
		inBubble(b, seed, func(t *testing.T) {
			inner := *r
			inner.TB = t
			s.Run(&inner)
		})
	} else {
		s.Run(r)
	}
	b.ReportMetric(time.Since(began).Seconds(), "wall-s")
	if err := r.record.finish(b, s, seed, opts.Samples); err != nil {
		b.Fatal(err)
	}
}

// announced are the scenarios whose world has been printed.
var announced sync.Map

// inBubble runs a part of a benchmark in virtual time. Only a test can have a bubble, so
// it makes one. B.Loop reads the clock of the goroutine that calls it, and so
// measures virtual time there.
//
// Keys and whatever else is secret follow from the seed, too, so that a network of one seed
// has the same peers. What is left to chance is in which order goroutines run, and
// math/rand's global source, which libp2p uses for jitter.
func inBubble(b *testing.B, seed uint64, run func(t *testing.T)) {
	ran := false
	ok := testing.RunTests(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{{
		Name: b.Name(),
		F: func(t *testing.T) {
			if ran {
				return // go test -count repeats tests, and the benchmark around this one, too
			}
			ran = true
			cryptotest.SetGlobalRandom(t, seed)
			synctest.Test(t, run)
		},
	}})
	if !ok {
		b.FailNow() // the test has said why
	}
}

// Series is what a run measured of one thing, as one line of JSON.
type Series struct {
	Scenario string `json:"scenario"`
	Peers    int    `json:"peers"`
	Series   string `json:"series"`
	Unit     string `json:"unit"`
	Seed     uint64 `json:"seed"`
	Count    int    `json:"count"` // of values that were measured
	// Values are sorted; of more than 250, as many that stand for all, each with four digits.
	Values []float64 `json:"values"`
}

// maxValues bounds a line of the file, which is kept with the sources: enough for a plot.
const maxValues = 250

// recorder keeps the series of a run.
type recorder struct {
	mu      sync.Mutex
	series  []*Series
	figures []figure
}

// figure is a number that stands alone. It is kept to the end, because the beginning of the
// loop would forget it.
type figure struct {
	unit  string
	value float64
}

func (k *recorder) note(unit string, value float64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.figures = append(k.figures, figure{unit, value})
}

func (k *recorder) add(name, unit string, value float64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.series {
		if s.Series == name && s.Unit == unit {
			s.Values = append(s.Values, value)
			return
		}
	}
	k.series = append(k.series, &Series{Series: name, Unit: unit, Values: []float64{value}})
}

// finish reports percentiles, and appends the series to a file.
func (k *recorder) finish(b *testing.B, scenario Scenario, seed uint64, file string) (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out *os.File
	if file != "" {
		if out, err = os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, out.Close()) }()
	}
	for _, f := range k.figures {
		b.ReportMetric(f.value, f.unit)
	}
	for _, s := range k.series {
		slices.Sort(s.Values)
		for _, percent := range []int{50, 95, 99} {
			b.ReportMetric(Percentile(s.Values, percent), fmt.Sprintf("%s-p%d-%s", s.Series, percent, s.Unit))
		}
		if out == nil {
			continue
		}
		s.Scenario, s.Peers, s.Seed, s.Count, s.Values = scenario.Name, scenario.Peers, seed, len(s.Values), thin(s.Values)
		line, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// thin leaves at most maxValues of sorted values, the least and the greatest among them, with
// four digits that count.
func thin(values []float64) []float64 {
	few := make([]float64, min(len(values), maxValues))
	for i := range few {
		at := i
		if len(few) < len(values) {
			at = i * (len(values) - 1) / (maxValues - 1)
		}
		few[i], _ = strconv.ParseFloat(strconv.FormatFloat(values[at], 'g', 4, 64), 64) // what was just written can be read
	}
	return few
}

// Percentile is the least of sorted values that so many percent of them (0 to 100) do not exceed;
// 0 of none.
func Percentile[T cmp.Ordered](sorted []T, percent int) (p T) {
	if len(sorted) == 0 {
		return p
	}
	return sorted[max((len(sorted)*percent+99)/100, 1)-1]
}
