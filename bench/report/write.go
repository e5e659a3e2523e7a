package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// About is what a report says of its making, which no file says.
type About struct {
	Made    time.Time
	Commit  string
	Memory  string // of the machine
	Command string // that wrote the report
}

// omissions is what the simulation leaves out.
const omissions = `Virtual time counts no computing: a figure of a simulated network is what links and protocols take, and is the same on every machine. Left out are contention for
processors, queues of the kernel, NAT, routes that change, and links whose delay varies. Links are QUIC up to 500 peers. Bandwidth is that of each host's own link. The published delays
are one way, and longer than most measured ones; within a region they are 2 to 7 ms. Packets are lost only where a scenario says so.
Networks of more than 500 peers, and the scenarios named *streams*, have TLS 1.3 and yamux on streams of bytes instead of QUIC's packets: as many round trips, no congestion control, a
fraction of the memory. Up to 50 peers tell each other of all in every scenario; in lookups of more than that, and in scenarios named *given*, each begins with the peer table, the coordinates and the
routing table that it would have learned, all of which share one: 500 peers did not fill their tables in 10 core-minutes. Hosts, connections, records and lookups are the real ones at every size.
What was not measured at a size is not in the tables, but for what is called *modelled*.`

// Markdown writes the report as a page of the documentation.
func (r *Results) Markdown(w io.Writer, about About) error {
	p := &printer{w: w}
	p.line("# What the benchmarks have measured\n")
	p.line("Written by `%s` from the benchmarks' own output; no number and no verdict here was typed. Plots: [report.html](report.html). What the processor does in the hot paths, and what was done about it: [profiles.md](profiles.md).\n", about.Command)
	p.line("* %s, commit %s, made %s", strings.Join(slices.Concat(r.Config["cpu"], []string{about.Memory}, r.Config["go"], r.Config["goos"], r.Config["goarch"]), ", "), about.Commit, about.Made.UTC().Format("2006-01-02"))
	for _, key := range []string{"set", "seed", "links", "benchtime"} {
		p.line("* %s: %s", key, strings.Join(r.Config[key], "; "))
	}
	p.line("* made by: %s\n", strings.Join(r.Config["made-by"], "; "))
	p.line("## Goals\n")
	p.line("The goals are those of DESIGN section 6; *floor* was computed on the same network in the same run. A verdict *at n* is about a smaller network than the goal's, and no pass; one that is *modelled* was computed from a smaller network.\n")
	p.line("| what | links | peers | reference | goal | measured | floor | reached |")
	p.line("|---|---|---|---|---|---|---|---|")
	for _, g := range Goals() {
		v := g.Judge(r)
		measured, floor, relation := "-", g.FloorWhat, "≤"
		unit := g.Unit
		if g.Over != "" {
			unit = "ratio-x"
		}
		if v.Scenario != "" {
			measured = quantity(v.Measured, unit)
			if v.HasFloor {
				floor = quantity(v.Least, unit)
			}
		}
		if floor == "" {
			floor = "-"
		}
		if g.AtLeast {
			relation = "≥"
		}
		p.line("| %s | %s | %s | %s | %s %s | %s | %s | %s |", g.What, orDash(g.Links), orDash(g.Size), orDash(g.Reference), relation, quantity(g.Bound, unit), measured, floor, v)
	}
	p.line("\n## What the simulation leaves out\n\n%s\n", omissions)
	r.crossCheck(p)
	r.fits(p)
	r.modelled(p)
	r.others(p)
	p.line("## All measurements\n")
	p.line("Medians of the runs. Percentiles are p50 / p95 / p99. *time an operation* is virtual where the world is. *wall* is how long the whole scenario took on this machine.\n")
	group := ""
	for _, name := range r.Names() {
		if strings.HasPrefix(name, others) {
			continue
		}
		if g, _, _ := strings.Cut(name, "/"); g != group {
			group = g
			p.line("\n### %s\n\n| scenario | world | time an operation | wall | measured |\n|---|---|---|---|---|", group)
		}
		m := r.Scenarios[name]
		operation, _ := r.Value(name, "sec/op")
		wall, _ := r.Value(name, "wall-s")
		p.line("| %s | %s | %s | %.1f s | %s |", strings.TrimPrefix(name, group+"/"), m.World, duration(operation), wall, strings.Join(r.describe(name), "; "))
	}
	return p.err
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func duration(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(max(time.Duration(seconds*float64(time.Second))/1000, 1)).String()
}

// describe lists the measurements of a scenario.
func (r *Results) describe(name string) (parts []string) {
	for _, unit := range slices.Sorted(maps.Keys(r.Scenarios[name].Values)) {
		value, _ := r.Value(name, unit)
		if series, kind, ok := strings.Cut(unit, "-p50-"); ok {
			p95, _ := r.Value(name, series+"-p95-"+kind)
			p99, _ := r.Value(name, series+"-p99-"+kind)
			parts = append(parts, fmt.Sprintf("%s %s / %s / %s %s", series, figure(value), figure(p95), figure(p99), kind))
			continue
		}
		if strings.Contains(unit, "-p95-") || strings.Contains(unit, "-p99-") || unit == "sec/op" || unit == "wall-s" {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %s", unit, figure(value)))
	}
	return parts
}

// fits says how lookups and joining grow with the network.
func (r *Results) fits(p *printer) {
	p.line("## Growth\n")
	p.line("Least squares of a + b·log2(peers). A b near 0 means that the size of the network does not matter.\n")
	p.line("| what | sizes | a | b | R² | residuals |\n|---|---|---|---|---|---|")
	for _, c := range curves {
		x, y := r.curve(c)
		f, ok := FitLog(x, y)
		if !ok {
			continue
		}
		p.line("| %s | %s | %s | %s | %.2f | %s |", c.name, join(x), figure(f.A), figure(f.B), f.R2, join(f.Residuals))
	}
	p.line("")
}

func join(values []float64) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, figure(v))
	}
	return strings.Join(texts, ", ")
}

// crossCheck sets the simulation beside processes.
func (r *Results) crossCheck(p *printer) {
	sizes := r.Sizes("beyond/crosscheck_simulated")
	if len(sizes) == 0 {
		return
	}
	p.line("## Simulation and processes\n")
	p.line("The same peers on the same links, once in virtual time and once as processes of this machine that delay each packet. The difference is what the simulation leaves out.\n")
	p.line("| peers | what | simulated p50 | processes p50 | difference |\n|---|---|---|---|---|")
	for _, size := range sizes {
		for _, unit := range []string{"release-p50-ms", "install-p50-ms"} {
			simulated, ok := r.Value(fmt.Sprintf("beyond/crosscheck_simulated/%d", size), unit)
			actual, also := r.Value(fmt.Sprintf("beyond/crosscheck_processes/%d", size), unit)
			if ok && also {
				p.line("| %d | %s | %s ms | %s ms | %+.0f ms, %+.0f %% |", size, strings.TrimSuffix(unit, "-p50-ms"), figure(simulated), figure(actual), actual-simulated, 100*(actual/simulated-1))
			}
		}
	}
	p.line("")
}

// others is what begins the names of whole commands of this and other tools.
const others = "Peers/"

// others sets this program beside tools that do the same work.
func (r *Results) others(p *printer) {
	var works, tools []string
	for _, name := range r.Names() {
		rest, ok := strings.CutPrefix(name, others)
		if !ok {
			continue
		}
		tool, work, _ := strings.Cut(rest, "/")
		if !slices.Contains(works, work) {
			works = append(works, work)
		}
		if !slices.Contains(tools, tool) {
			tools = append(tools, tool)
		}
	}
	if len(works) == 0 {
		return
	}
	p.line("## Beside other tools\n")
	p.line("Whole commands on this machine, over loopback, each tool's server or second peer running, files in memory (`make bench-peers`, scripts in bench/peers): the median of the rounds, the least and the most.\n")
	p.line("| | %s |\n|---|%s", strings.Join(tools, " | "), strings.Repeat("---|", len(tools)))
	for _, work := range works {
		var cells []string
		for _, tool := range tools {
			cell := "-"
			if m := r.Scenarios[others+tool+"/"+work]; m != nil {
				values := m.Values["sec/op"]
				cell = fmt.Sprintf("%s (%s to %s) ms", figure(1000*median(values)), figure(1000*slices.Min(values)), figure(1000*slices.Max(values)))
			}
			cells = append(cells, cell)
		}
		p.line("| %s | %s |", work, strings.Join(cells, " | "))
	}
	p.line("")
}

// printer remembers the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// curve is something that grows with the network.
type curve struct {
	name     string
	families []string
	unit     string
}

var curves = []curve{
	{"lookup, cold, p50 (ms)", []string{lookups, moreLookup}, "head-cold-p50-ms"},
	{"lookup, cold, p95 (ms)", []string{lookups, moreLookup}, "head-cold-p95-ms"},
	{"the library's lookup, p95 (ms)", []string{lookups, moreLookup}, "head-library-p95-ms"},
	{"storing a head, p50 (ms)", []string{"dht_operations/dht_put"}, "put-p50-ms"},
	{"gossip, p50 of deliveries (ms)", []string{"gossipsub/message_propagation", "beyond/propagation"}, "delivery-p50-ms"},
	{"bootstrap of all at once, p50 (ms)", []string{"scalability/bootstrap_scaling", "beyond/bootstrap"}, "bootstrap-p50-ms"},
	{"joining, p50 (ms)", []string{"scalability/bootstrap_scaling", "beyond/bootstrap"}, "join-p50-ms"},
	{"search, p50 (ms)", []string{"scalability/search_scaling"}, "search-p50-ms"},
	{"memory of a peer (MiB)", []string{"memory_usage/network_memory", "beyond/memory"}, "MiB/peer"},
}

// curve are its points.
func (r *Results) curve(c curve) (x, y []float64) {
	points := map[int]float64{}
	for _, family := range c.families {
		for _, n := range r.Sizes(family) {
			if value, ok := r.Value(fmt.Sprintf("%s/%d", family, n), c.unit); ok {
				points[n] = value
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(points)) {
		x, y = append(x, float64(n)), append(y, points[n])
	}
	return x, y
}

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// HTML writes the plots.
func (r *Results) HTML(w io.Writer, about About) error {
	var scaling []Plot
	for _, c := range curves {
		x, y := r.curve(c)
		if len(x) < 2 {
			continue
		}
		plot := Plot{Title: c.name, XLabel: "peers", YLabel: "", LogX: true, Lines: []Line{{Name: "measured", X: x, Y: y, Points: true}}}
		if f, ok := FitLog(x, y); ok {
			fitted := make([]float64, len(x))
			for i := range x {
				fitted[i] = y[i] - f.Residuals[i]
			}
			plot.Lines = append(plot.Lines, Line{Name: fmt.Sprintf("%s + %s·log2(n), R² %.2f", figure(f.A), figure(f.B), f.R2), X: x, Y: fitted, Dashed: true})
		}
		scaling = append(scaling, plot)
	}
	return page.Execute(w, map[string]any{"About": about, "Scaling": scaling, "Distributions": r.distributions(), "Config": r.Config})
}

// distributions are the shares of values up to each time, one plot for each scenario: for
// announcements that is how many peers have them after a time.
func (r *Results) distributions() (plots []Plot) {
	byScenario := map[string]*Plot{}
	seen := map[string]bool{}
	for _, s := range r.Series {
		key := s.Scenario + " " + s.Series
		if s.Unit != "ms" || len(s.Values) < 5 || seen[key] {
			continue // of repetitions the first one is shown
		}
		seen[key] = true
		p := byScenario[s.Scenario]
		if p == nil {
			p = &Plot{Title: s.Scenario, XLabel: "ms", YLabel: "share"}
			byScenario[s.Scenario] = p
		}
		line := Line{Name: s.Series, Dashed: strings.HasSuffix(s.Series, "-floor")}
		for i, v := range s.Values {
			line.X, line.Y = append(line.X, v), append(line.Y, float64(i+1)/float64(len(s.Values)))
		}
		p.Lines = append(p.Lines, line)
	}
	for _, name := range slices.SortedFunc(maps.Keys(byScenario), func(a, b string) int { return strings.Compare(sortKey(a), sortKey(b)) }) {
		plots = append(plots, *byScenario[name])
	}
	return plots
}
