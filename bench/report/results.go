// Package report turns what benchmarks have printed into tables, plots and verdicts: the
// Go benchmark format, and the series that package scenario writes beside it. A goal
// is a number in a list here, and whether it is reached is computed.
//
// It reads files and runs nothing.
package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"

	"ggen.dev/marketplace/bench/scenario"
)

// Results are what one or more runs have measured.
type Results struct {
	// Config describes the runs: goos, cpu, seed and so on. Of lines that differ, all are
	// there, in order.
	Config map[string][]string
	// Scenarios are the measurements by scenario.
	Scenarios map[string]*Measured
	// Series are the distributions.
	Series []scenario.Series
}

// Measured is what was measured of one scenario.
type Measured struct {
	World  string               // as [scenario.World]
	Values map[string][]float64 // by unit, one for each run
}

// processors is what go test adds to a name: the number of them.
var processors = regexp.MustCompile(`-\d+$`)

// NewResults are none.
func NewResults() *Results {
	return &Results{Config: map[string][]string{}, Scenarios: map[string]*Measured{}}
}

// ReadBenchmarks adds what go test has printed. Lines that are no benchmark's are
// skipped.
func (r *Results) ReadBenchmarks(in io.Reader, name string) error {
	reader := benchfmt.NewReader(in, name)
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		scenarioName := strings.TrimPrefix(processors.ReplaceAllString(string(result.Name.Full()), ""), "/")
		for _, c := range result.Config {
			if c.File && c.Key != "world" && !slices.Contains(r.Config[c.Key], string(c.Value)) {
				r.Config[c.Key] = append(r.Config[c.Key], string(c.Value))
			}
		}
		m := r.Scenarios[scenarioName]
		if m == nil {
			m = &Measured{World: result.GetConfig("world"), Values: map[string][]float64{}}
			r.Scenarios[scenarioName] = m
		}
		for _, v := range result.Values {
			m.Values[v.Unit] = append(m.Values[v.Unit], v.Value)
		}
	}
	return reader.Err()
}

// ReadSeries adds lines of [scenario.Series].
func (r *Results) ReadSeries(in io.Reader) error {
	lines := bufio.NewScanner(in)
	const longest = 1 << 20 // a thousand numbers
	lines.Buffer(nil, longest)
	for n := 1; lines.Scan(); n++ {
		var s scenario.Series
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if !slices.IsSorted(s.Values) || len(s.Values) == 0 {
			return fmt.Errorf("line %d: the values of %s are not sorted, or none", n, s.Series)
		}
		r.Series = append(r.Series, s)
	}
	return lines.Err()
}

// ReadFile adds a file: series if its name ends in .jsonl, else benchmarks.
func (r *Results) ReadFile(path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if strings.HasSuffix(path, ".jsonl") {
		err = r.ReadSeries(file)
	} else {
		err = r.ReadBenchmarks(file, path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Value is the median of a scenario's runs.
func (r *Results) Value(scenario, unit string) (float64, bool) {
	m := r.Scenarios[scenario]
	if m == nil || len(m.Values[unit]) == 0 {
		return 0, false
	}
	return median(m.Values[unit]), true
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// Sizes are the sizes at which a family of scenarios (a name without its last part) was
// measured, ascending.
func (r *Results) Sizes(family string) (sizes []int) {
	for name := range r.Scenarios {
		if last, ok := strings.CutPrefix(name, family+"/"); ok {
			if n, err := strconv.Atoi(last); err == nil {
				sizes = append(sizes, n)
			}
		}
	}
	slices.Sort(sizes)
	return sizes
}

// Names are the scenarios that were measured, sorted by group and size.
func (r *Results) Names() []string {
	return slices.SortedFunc(maps.Keys(r.Scenarios), func(a, b string) int {
		return strings.Compare(sortKey(a), sortKey(b))
	})
}

var number = regexp.MustCompile(`\d+`)

// sortKey has numbers in order of size.
func sortKey(name string) string {
	return number.ReplaceAllStringFunc(name, func(digits string) string { return fmt.Sprintf("%09s", digits) })
}
