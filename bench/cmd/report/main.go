// Command report writes docs/benchmarks/REPORT.md and report.html from files that the
// benchmarks have printed and written.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ggen.dev/marketplace/bench/report"
)

func main() {
	out := flag.String("out", filepath.Join("docs", "benchmarks"), "`folder` for the report")
	flag.Usage = func() {
		_, _ = fmt.Fprintln(flag.CommandLine.Output(), "usage: report [flags] FILE...\nFILEs that end in .jsonl are series, others what go test has printed.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(context.Background(), *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string, files []string) error {
	results := report.NewResults()
	for _, file := range files {
		if err := results.ReadFile(file); err != nil {
			return err
		}
	}
	if len(results.Scenarios) == 0 {
		return fmt.Errorf("no benchmark in %s", strings.Join(files, ", "))
	}
	about := report.About{Made: time.Now(), Commit: commit(ctx), Memory: memory(), Command: "go run ./bench/cmd/report"}
	if err := write(filepath.Join(out, "REPORT.md"), about, results.Markdown); err != nil {
		return err
	}
	return write(filepath.Join(out, "report.html"), about, results.HTML)
}

func write(path string, about report.About, content func(io.Writer, report.About) error) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return content(file, about)
}

// commit is what is measured, as far as git knows.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// memory is what the machine has (Linux).
func memory() string {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "memory unknown"
	}
	var kB float64
	if _, err := fmt.Sscanf(string(info), "MemTotal: %f kB", &kB); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%.0f GiB", kB/(1<<20))
}
