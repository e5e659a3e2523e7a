package report_test

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ggen.dev/marketplace/bench/links"
	"ggen.dev/marketplace/bench/report"
	"ggen.dev/marketplace/bench/scenario"
)

// printed is what go test prints: runs of one scenario with the given medians.
func printed(world, name, unit string, medians ...float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed: 1\nworld: %s\ngoos: linux\ncpu: A machine\n", world)
	for _, m := range medians {
		fmt.Fprintf(&b, "Benchmark/%s-2 \t 10 \t 1000 ns/op \t %v %s \t 3.5 wall-s\n", name, m, unit)
	}
	return b.String()
}

func read(t *testing.T, texts ...string) *report.Results {
	t.Helper()
	r := report.NewResults()
	for _, text := range texts {
		if err := r.ReadBenchmarks(strings.NewReader(text), "test"); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// goal is one on published links, if there are such.
func goal(t *testing.T, what, size string) report.Goal {
	t.Helper()
	i := slices.IndexFunc(report.Goals(), func(g report.Goal) bool {
		return g.What == what && g.Size == size && (g.Links == "" || g.Links == "internet")
	})
	if i < 0 {
		t.Fatalf("there is no goal %q at %q", what, size)
	}
	return report.Goals()[i]
}

func TestVerdicts(t *testing.T) {
	const cold, unit = "scalability/dht_lookup_scaling/", "head-cold-p50-ms"
	g := goal(t, "lookup, cold, p50", "1000")
	for _, tc := range []struct{ text, want string }{
		{"", "not measured"},
		{printed("virtual", cold+"1000", unit, 80), "**pass**"},
		{printed("virtual", cold+"1000", unit, 80.1), "**fail**"},
		{printed("virtual", cold+"1000", unit, 200, 70, 60), "**pass**"},
		{printed("virtual", cold+"100", unit, 4), "at 100: yes"},
		{printed("virtual", cold+"100", unit, 400), "at 100: **no**"},
		{printed("virtual", cold+"100", unit, 4) + printed("virtual", cold+"500", unit, 90), "at 500: **no**"},
		{printed("virtual", "beyond/lookup/2000", unit, 4), "not measured"},
	} {
		if got := g.Judge(read(t, tc.text)).String(); got != tc.want {
			t.Errorf("%s: %s, not %s", tc.text, got, tc.want)
		}
	}
	kubo := goal(t, "64 MiB, kubo's time / ours", "")
	other, ours := printed("real", "Peers/kubo-quic/fetch-64MiB", "whole-ms", 600), printed("real", "Peers/ggen/fetch-64MiB", "whole-ms", 250)
	if got := kubo.Judge(read(t, other+ours)); got.Measured != 2.4 || !got.Reached {
		t.Errorf("600 ms beside 250: %+v", got)
	}
	if got := kubo.Judge(read(t, ours)).String(); got != "not measured" {
		t.Errorf("without kubo: %s", got)
	}
	hits := goal(t, "cache hit rate, Zipf, %", "10")
	if got := hits.Judge(read(t, printed("virtual", "beyond/zipf/10", "hit-%", 89))); got.Reached {
		t.Error("a hit rate of 89 % is at least 90 %")
	}
}

// TestGoalsAreMeasured: every goal names scenarios that exist, at its own size unless a model goes on. What
// is measured beside other tools has a script for each tool instead.
func TestGoalsAreMeasured(t *testing.T) {
	for _, g := range report.Goals() {
		if rest, ok := strings.CutPrefix(g.Families[0], "Peers/"); ok {
			tool, _, _ := strings.Cut(rest, "/")
			if _, err := os.Stat("../peers/" + tool + ".sh"); err != nil {
				t.Errorf("nothing measures %q: %v", g.What, err)
			}
			continue
		}
		if !slices.ContainsFunc(scenario.All(), func(s scenario.Scenario) bool {
			return slices.ContainsFunc(g.Families, func(family string) bool {
				return s.Name == family || s.Name == family+"/"+g.Size || g.Model != nil && strings.HasPrefix(s.Name, family+"/")
			})
		}) {
			t.Errorf("nothing measures %q at %s", g.What, g.Size)
		}
	}
}

// TestModel: the model of a larger network adds what lookups took beyond their floors to the
// round trips of that network's links, and the report says that it was not measured.
func TestModel(t *testing.T) {
	const family, measured = "beyond/lookup_regions", "beyond/lookup_regions/1000"
	r := read(t, "links: internet\n"+printed("virtual", measured, "links/peer", 100))
	for series, beyond := range map[string]int{"head-cold-beyond": 10, "head-warm-beyond": 5} {
		if err := r.ReadSeries(strings.NewReader(fmt.Sprintf(`{"scenario":%q,"series":%q,"unit":"ms","values":[%d]}`, measured, series, beyond))); err != nil {
			t.Fatal(err)
		}
	}
	m := r.Model(links.Uniform(1), 1, 10_000, []string{family})
	// On other links than the goals': the nearest of 20 peers at 40 to 200 ms there and back is 40 + 160/21 ms away.
	if p50 := scenario.Percentile(m.Warm, 50); m.From != measured || p50 < 48 || p50 > 54 {
		t.Errorf("warm lookups take %.0f ms, from %s", p50, m.From)
	}
	if p50 := scenario.Percentile(m.Cold, 50); p50 < 90 || p50 > 110 {
		t.Errorf("cold lookups, nearly all of which dial, take %.0f ms", p50)
	}
	// In one of five regions, 0.8^20 of lookups have no peer nearby: the greatest of 100.
	for what, want := range map[string]string{"lookup, cold, p50": "*modelled*: yes", "lookup, cold, p99": "*modelled*: **no**"} {
		goals := report.Goals()
		i := slices.IndexFunc(goals, func(g report.Goal) bool { return g.What == what && g.Size == "10000" && g.Families[0] == family })
		if v := goals[i].Judge(r); v.String() != want {
			t.Errorf("%s: %s of %.0f ms", what, v, v.Measured)
		}
	}
	if nothing := r.Model(links.Uniform(1), 1, 1000, []string{family}); nothing.Measured {
		t.Errorf("a model of 1,000 peers was made from nothing smaller: %s", nothing.From)
	}
}

func TestRegressions(t *testing.T) {
	base := []float64{100, 101, 99, 100}
	for _, tc := range []struct {
		name, world, unit string
		now               []float64
		realTime          bool
		compared          int
		regressions       int
	}{
		{"the same", "virtual", "get-p50-ms", base, false, 1, 0},
		{"worse", "virtual", "get-p50-ms", []float64{120, 121, 122, 119}, false, 1, 1},
		{"a little worse", "virtual", "get-p50-ms", []float64{109, 109, 108, 109}, false, 1, 0},
		{"worse by chance", "virtual", "get-p50-ms", []float64{90, 98, 140, 150}, false, 1, 0},
		{"better", "virtual", "get-p50-ms", []float64{50, 51, 52, 53}, false, 1, 0},
		{"more memory, tolerated", "virtual", "MiB/peer", []float64{112, 113, 114, 112}, false, 1, 0},
		{"more memory", "real", "resident-p50-MiB", []float64{122, 123, 124, 122}, false, 1, 1},
		{"fewer hits", "virtual", "hit-%", []float64{80, 81, 80, 80}, false, 1, 1},
		{"more hits", "virtual", "hit-%", []float64{120, 121, 120, 120}, false, 1, 0},
		{"a higher floor", "virtual", "get-floor-p50-ms", []float64{200, 200, 200, 200}, false, 0, 0},
		{"another machine", "real", "search-p50-ms", []float64{200, 200, 200, 200}, false, 0, 0},
		{"the same machine", "real", "search-p50-ms", []float64{200, 200, 200, 200}, true, 2, 1}, // ns/op, too
	} {
		changes := report.Compare(read(t, printed(tc.world, "a/b/10", tc.unit, base...)), read(t, printed(tc.world, "a/b/10", tc.unit, tc.now...)), tc.realTime)
		if len(changes) != tc.compared {
			t.Errorf("%s: %d measurements are compared", tc.name, len(changes))
		}
		regressions := 0
		for _, c := range changes {
			if c.Regression {
				regressions++
			}
		}
		if regressions != tc.regressions {
			t.Errorf("%s: %d regressions: %+v", tc.name, regressions, changes)
		}
	}
}

func TestFit(t *testing.T) {
	f, ok := report.FitLog([]float64{2, 4, 8, 16}, []float64{5, 8, 11, 14})
	if !ok || math.Abs(f.A-2) > 1e-9 || math.Abs(f.B-3) > 1e-9 || math.Abs(f.R2-1) > 1e-9 {
		t.Errorf("2 + 3·log2(x) is fitted as %+v", f)
	}
	if _, ok := report.FitLog([]float64{8, 8}, []float64{1, 2}); ok {
		t.Error("one size is fitted")
	}
}

// TestPages: both pages hold what was measured, and nothing that is no number.
func TestPages(t *testing.T) {
	r := read(t, printed("virtual", "scalability/dht_lookup_scaling/10", "head-cold-p50-ms", 4),
		printed("virtual", "scalability/dht_lookup_scaling/100", "head-cold-p50-ms", 6),
		printed("real", "cli_commands/cli_search", "cli-search-p50-ms", 9))
	if err := r.ReadSeries(strings.NewReader(`{"scenario":"a/<b>/10","series":"get","unit":"ms","count":6,"values":[1,2,3,4,5,6]}`)); err != nil {
		t.Fatal(err)
	}
	var markdown, html strings.Builder
	about := report.About{Made: time.Unix(0, 0), Commit: "abc"}
	if err := r.Markdown(&markdown, about); err != nil {
		t.Fatal(err)
	}
	if err := r.HTML(&html, about); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| lookup, cold, p50 | internet | 1000 | 200-500 ms | ≤ 80 ms | 6 ms | - | at 100: yes |", "≤ 30 ms | 9 ms |", "| lookup, cold, p50 (ms) | 10, 100 |"} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, markdown.String())
		}
	}
	for _, not := range []string{"NaN", "Inf", "<b>", "%!"} {
		if strings.Contains(markdown.String(), not) || strings.Contains(html.String(), not) {
			t.Errorf("the report has %s", not)
		}
	}
	if strings.Count(html.String(), "<svg") != 2 {
		t.Error("there are not two plots, one of growth and one of a distribution")
	}
}

func FuzzReadSeries(f *testing.F) {
	f.Add(`{"scenario":"a/b/10","series":"get","unit":"ms","values":[1,2]}`)
	f.Add("{}\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := report.NewResults()
		if r.ReadSeries(strings.NewReader(text)) != nil {
			return
		}
		for _, s := range r.Series {
			if len(s.Values) == 0 || !slices.IsSorted(s.Values) {
				t.Errorf("%+v is accepted", s)
			}
		}
	})
}
