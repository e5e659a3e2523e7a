// Command compare compares what two runs of the benchmarks have printed. It exits with 1
// if something is worse by more than 10 % (memory: 15 %) and that is no chance (p < 0.05,
// Mann-Whitney), and with 2 if it cannot tell.
package main

import (
	"flag"
	"fmt"
	"os"
	"text/tabwriter"

	"ggen.dev/marketplace/bench/report"
)

func main() {
	all := flag.Bool("all", false, "show what has not changed, too")
	realTime := flag.Bool("real", false, "compare what was measured in real time, too: both on the same machine, which did nothing else")
	flag.Usage = func() {
		_, _ = fmt.Fprintln(flag.CommandLine.Output(), "usage: compare [-all] [-real] BASE NEW")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	regressions, err := run(flag.Arg(0), flag.Arg(1), *all, *realTime)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	case regressions > 0:
		fmt.Fprintf(os.Stderr, "compare: %d regressions\n", regressions)
		os.Exit(1)
	}
}

// run prints the changes, and counts regressions.
func run(base, fresh string, all, realTime bool) (regressions int, err error) {
	old, now := report.NewResults(), report.NewResults()
	if err := old.ReadFile(base); err != nil {
		return 0, err
	}
	if err := now.ReadFile(fresh); err != nil {
		return 0, err
	}
	changes := report.Compare(old, now, realTime)
	if len(changes) == 0 {
		return 0, fmt.Errorf("%s and %s have nothing in common", base, fresh)
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0) // Flush has its errors
	_, _ = fmt.Fprintln(out, "scenario\tunit\tbase\tnew\tchange\tp\truns\t")
	for _, c := range changes {
		remark := ""
		switch {
		case c.Regression:
			remark = "REGRESSION"
			regressions++
		case c.Progress:
			remark = "better"
		case !all:
			continue
		}
		_, _ = fmt.Fprintf(out, "%s\t%s\t%.4g\t%.4g\t%+.1f %%\t%.3f\t%d, %d\t%s\n", c.Scenario, c.Unit, c.Old, c.New, 100*c.Delta(), c.P, c.Runs[0], c.Runs[1], remark)
	}
	if err := out.Flush(); err != nil {
		return 0, err
	}
	fmt.Printf("%d measurements compared\n", len(changes))
	return regressions, nil
}
