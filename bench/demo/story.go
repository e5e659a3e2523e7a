package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// patience bounds every wait for the network; on one machine it takes a second.
const patience = 30 * time.Second

// story plays the scenes in order and remembers what the summary needs.
type story struct {
	ctx      context.Context
	ggen     string // the host binary
	dir      string // everything the demo writes is below it
	packages string // folder of package folders

	peers   []*peer
	summary []row
}

// row is one line of the summary table.
type row struct {
	what, peer string
	took       time.Duration
}

// collection is what one set of packages offers the story.
type collection struct {
	publish []string // in an order in which dependencies come first
	broken  string   // must be refused
	query   string   // a search that must find top
	top     string   // ends a dependency chain of three packages
	chain   []string // what installing top must bring
}

var collections = []collection{
	{
		publish: []string{
			"hello-world", "agent-memory-forge", "agent-context-crafter", "agent-reasoning-mcp", "banking-core",
			"workflow-engine-cli", "comprehensive-rust-showcase", "platform-engineers-handbook", "gall-core-pack",
		},
		broken: "rest-api-template", query: "reasoning engine inference", top: "agent-reasoning-mcp",
		chain: []string{"agent-context-crafter", "agent-memory-forge", "agent-reasoning-mcp"},
	},
	{
		publish: []string{"greeting", "greeting-cli", "greeting-service", "ontology-basics", "sparql-starter"},
		broken:  "broken", query: "http service greeting", top: "greeting-service",
		chain: []string{"greeting", "greeting-cli", "greeting-service"},
	},
}

// pick finds the collection whose packages the folder holds.
func (s *story) pick() (collection, error) {
	for _, c := range collections {
		complete := !slices.ContainsFunc(append(slices.Clone(c.publish), c.broken), func(name string) bool {
			_, err := os.Stat(filepath.Join(s.packages, name))
			return err != nil
		})
		if complete {
			return c, nil
		}
	}
	return collection{}, fmt.Errorf("%s holds none of the package collections that the demo knows", s.packages)
}

func (s *story) play() error {
	set, err := s.pick()
	if err != nil {
		return err
	}
	fmt.Printf("Three people share packages of a code generator. There is no server: each of them runs a peer.\nPackages: %s\nTheir homes: %s\n", s.packages, s.dir)

	var a, b, c *peer
	scenes := []struct {
		title string
		play  func() error
	}{
		{"Start three peers; B and C know only A's address", func() error {
			if a, err = s.start("A"); err != nil {
				return err
			}
			if b, err = s.start("B", "--bootstrap", a.address); err != nil {
				return err
			}
			c, err = s.start("C", "--bootstrap", a.address)
			return err
		}},
		{"A publishes its packages", func() error { return s.publishAll(a, set) }},
		{"A tries to publish a package with a broken manifest: it is refused, with the place of the mistake", func() error { return s.refuse(a, set.broken) }},
		{"B searches its own copy of the catalogue, which arrived by gossip", func() error { return s.search(b, set.query, set.top) }},
		{"B looks at the package before it installs it", func() error { return s.info(b, set.top) }},
		{"B installs it, with what it depends on", func() error { return s.install(b, set) }},
		{"A goes away", func() error { return s.stop(a) }},
		{"C installs the same from what B holds", func() error { return s.install(c, set) }},
		{"C's files are A's files, digest by digest", func() error { return s.compare(c, set) }},
		{"B's engine is killed without warning; the next command on B just works", func() error { return s.kill(b, set) }},
		{"Everybody leaves", func() error { return errors.Join(s.stop(b), s.stop(c)) }},
	}
	for i, scene := range scenes {
		fmt.Printf("\n%2d. %s\n", i+1, scene.title)
		if err := scene.play(); err != nil {
			return fmt.Errorf("%s: %w", scene.title, err)
		}
	}
	return s.printSummary()
}

func (s *story) publishAll(p *peer, set collection) error {
	for _, name := range set.publish {
		var receipt struct {
			Package, Version, Digest string
		}
		took, err := p.json(&receipt, "publish", filepath.Join(s.packages, name))
		if err != nil {
			return err
		}
		if receipt.Package != name {
			return fmt.Errorf("published %q, got a receipt for %q", name, receipt.Package)
		}
		fmt.Printf("    published %s %s (%s…)\n", receipt.Package, receipt.Version, receipt.Digest[:min(len(receipt.Digest), 19)])
		s.note("publish "+name, p, took)
	}
	return nil
}

func (s *story) refuse(p *peer, name string) error {
	out := p.run(s.ctx, "publish", filepath.Join(s.packages, name))
	if out.code != 2 {
		return fmt.Errorf("publishing %s ended with exit code %d, not 2\n%s", name, out.code, out.text())
	}
	fmt.Print(indent(out.stderr))
	s.note("refuse "+name, p, out.took)
	return nil
}

func (s *story) search(p *peer, query, want string) error {
	var result struct {
		Packages []struct{ Name, Version, Description string }
		Total    int
	}
	asked := time.Now()
	err := s.until("the search finds "+want, func() (bool, error) {
		took, err := p.json(&result, "search", query)
		if err != nil || len(result.Packages) == 0 || result.Packages[0].Name != want {
			return false, err
		}
		s.note("search", p, took)
		return true, nil
	})
	if err != nil {
		return err
	}
	fmt.Printf("    %d found for %q (first asked %s ago); the best: %s %s\n", result.Total, query, time.Since(asked).Round(time.Millisecond), want, result.Packages[0].Version)
	return nil
}

func (s *story) info(p *peer, name string) error {
	out, err := p.ok("info", name)
	if err != nil {
		return err
	}
	fmt.Print(indent(out.stdout))
	s.note("info", p, out.took)
	return nil
}

func (s *story) install(p *peer, set collection) error {
	// What A published reaches everybody by gossip, and who missed it by
	// anti-entropy: wait until this peer knows it.
	if err := s.search(p, set.query, set.top); err != nil {
		return err
	}
	var receipt struct{ Package, Version, Path string }
	took, err := p.json(&receipt, "install", "--project", p.project, "--yes", "--trust", "--save", set.top)
	if err != nil {
		return err
	}
	for _, name := range set.chain {
		if _, err := os.Stat(filepath.Join(p.project, ".ggen", "packages", name)); err != nil {
			return fmt.Errorf("install did not bring %s: %w", name, err)
		}
	}
	fmt.Printf("    %s %s and its dependencies are in %s\n", receipt.Package, receipt.Version, receipt.Path)
	s.note(fmt.Sprintf("install %d packages", len(set.chain)), p, took)
	out, err := p.ok("verify", "--project", p.project)
	s.note("verify", p, out.took)
	return err
}

// compare holds every file that p installed against the folder it was published from.
func (s *story) compare(p *peer, set collection) error {
	begin := time.Now()
	files := 0
	for _, name := range set.chain {
		installed := filepath.Join(p.project, ".ggen", "packages", name)
		err := filepath.WalkDir(filepath.Join(s.packages, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(filepath.Join(s.packages, name), path)
			if err != nil {
				return err
			}
			want, err := digest(path)
			if err != nil {
				return err
			}
			got, err := digest(filepath.Join(installed, rel))
			if err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%s/%s differs: published %s, installed %s", name, rel, want, got)
			}
			files++
			return nil
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("    %d files in %d packages are equal\n", files, len(set.chain))
	s.note(fmt.Sprintf("compare %d files", files), p, time.Since(begin))
	return nil
}

func (s *story) kill(p *peer, set collection) error {
	before, err := p.status()
	if err != nil {
		return err
	}
	if err := signalProcess(before.EnginePID, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill engine %d: %w", before.EnginePID, err)
	}
	var found struct{ Total int }
	took, err := p.json(&found, "search", set.query)
	if err != nil {
		return err
	}
	if found.Total == 0 {
		return errors.New("after the kill B finds nothing: it lost its catalogue")
	}
	after, err := p.status()
	if err != nil {
		return err
	}
	if after.PeerID != before.PeerID || after.EnginePID == before.EnginePID {
		return fmt.Errorf("expected a new process with the old identity; before %+v, after %+v", before, after)
	}
	p.pids = append(p.pids, after.EnginePID)
	fmt.Printf("    killed process %d; search found %d packages %s later, in process %d, still peer %s\n", before.EnginePID, found.Total, took.Round(time.Millisecond), after.EnginePID, after.PeerID)
	s.note("search after SIGKILL", p, took)
	return nil
}

func (s *story) note(what string, p *peer, took time.Duration) {
	s.summary = append(s.summary, row{what, p.name, took})
}

func (s *story) printSummary() error {
	fmt.Println("\nSummary (whole commands, from start to exit)")
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	table := "what\tpeer\ttime\t\n"
	for _, r := range s.summary {
		table += fmt.Sprintf("%s\t%s\t%d ms\t\n", r.what, r.peer, r.took.Milliseconds())
	}
	_, err := w.Write([]byte(table))
	return errors.Join(err, w.Flush())
}

// until asks again and again until ask says yes, fails, or patience ends.
func (s *story) until(what string, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ask()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain until %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + line)
	}
	return b.String()
}
