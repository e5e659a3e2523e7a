package shared_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "ggen.dev/marketplace/"

// rule says what the packages below one folder may import. Folders are relative
// to the module; the longest matching prefix decides.
type rule struct {
	folder string
	ours   []string // own folders that may be imported directly, as prefixes
	never  []string // import paths that must not be reached, even indirectly, with the reason why
	why    string
}

var rules = []rule{
	{"shared/rpc", []string{"shared"}, []string{"github.com/libp2p/", "github.com/urfave/"}, "the contract knows neither the network nor the terminal"},
	{"shared/launch", []string{"shared"}, []string{"github.com/libp2p/", "google.golang.org/grpc", "github.com/urfave/"}, "starting a process needs no wire"},
	{"shared/conformance", []string{"shared"}, []string{"github.com/libp2p/", "google.golang.org/grpc"}, "the conformance suite speaks the contract, not the wire"},
	{"shared/tracing", []string{"shared"}, []string{"github.com/libp2p/", "google.golang.org/grpc", "github.com/urfave/", "go.opentelemetry.io/otel/sdk"}, "who makes spans knows no exporter"},
	{"shared/telemetry", []string{"shared"}, []string{"github.com/libp2p/", "github.com/urfave/"}, "exporting knows neither the network nor the terminal"},
	{"shared", nil, []string{"github.com/libp2p/", "google.golang.org/grpc", "github.com/urfave/"}, "the vocabulary imports nothing of ours and no wire"},
	{"host", []string{"host", "shared"}, []string{"github.com/libp2p/", module + "p2p", module + "plugin"}, "a crash in networking code must never take the generator down"},
	{"plugin", []string{"plugin", "p2p", "shared"}, []string{"github.com/urfave/", module + "host"}, "the engine binary wires p2p to the wire and nothing else"},
	{"p2p/p2ptest", []string{"p2p", "shared"}, []string{"google.golang.org/grpc", "github.com/hashicorp/go-plugin", "github.com/urfave/"}, "the engine does not know who calls it"},
	{"p2p", []string{"shared", "p2p"}, []string{"google.golang.org/grpc", "github.com/hashicorp/go-plugin", "github.com/urfave/", module + "shared/rpc", module + "host"}, "the engine does not know who calls it"},
	{"bench", []string{"bench", "p2p", "shared"}, []string{module + "host"}, "benchmarks drive the host as a process"},
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// TestImportsFollowTheArrows is DESIGN section 2 as a test: host → shared ← p2p ← plugin.
func TestImportsFollowTheArrows(t *testing.T) {
	for _, pkg := range goList(t) {
		folder := strings.TrimPrefix(pkg.ImportPath, module)
		r, ok := ruleFor(folder)
		if !ok {
			t.Errorf("%s is in no room of the house: add a rule that says what it may import", folder)
			continue
		}
		for _, imported := range pkg.Imports {
			target, ours := strings.CutPrefix(imported, module)
			if ours && !slices.ContainsFunc(r.ours, func(allowed string) bool { return within(target, allowed) }) {
				t.Errorf("%s imports %s: %s", folder, target, r.why)
			}
		}
		for _, dep := range pkg.Deps {
			if i := slices.IndexFunc(r.never, func(banned string) bool { return banned == dep || within(dep, banned) }); i >= 0 {
				t.Errorf("%s depends on %s: %s", folder, dep, r.why)
			}
		}
	}
}

// partNeighbours are the parts of the engine that another part may import; all
// other meetings happen in package p2p itself.
var partNeighbours = map[string][]string{
	"publisher": nil,
	"netblock":  nil,
	"p2ptest":   {"", "node", "catalog", "publisher", "store"},
	"peertable": {"coordinate", "netblock"},
	// The overlay is the engine's lower half: it composes what finds things in the network.
	"overlay": {"node", "gossip", "peertable", "replicate", "routing"},
	"":        {"*"},
}

// TestPartsOfTheEngineDoNotKnowEachOther holds for everything directly below p2p:
// each part may know p2p/publisher, whose signed records are their common language, and
// p2p/netblock, which says whose an address is.
func TestPartsOfTheEngineDoNotKnowEachOther(t *testing.T) {
	for _, pkg := range goList(t) {
		part, ok := partOf(pkg.ImportPath)
		if !ok {
			continue
		}
		allowed, special := partNeighbours[part]
		if !special {
			allowed = []string{"publisher", "netblock"}
		}
		for _, imported := range pkg.Imports {
			other, ok := partOf(imported)
			if !ok || other == part || slices.Contains(allowed, "*") || slices.Contains(allowed, other) {
				continue
			}
			t.Errorf("p2p/%s imports p2p/%s: declare a small interface and let the engine hand it in", part, other)
		}
	}
}

// partOf gives the first folder below p2p, "" for p2p itself.
func partOf(importPath string) (string, bool) {
	rest, ok := strings.CutPrefix(importPath, module+"p2p")
	if !ok {
		return "", false
	}
	part, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	return part, true
}

func ruleFor(folder string) (rule, bool) {
	var best rule
	for _, r := range rules {
		if within(folder, r.folder) && len(r.folder) > len(best.folder) {
			best = r
		}
	}
	return best, best.folder != ""
}

// within tells whether path is folder or lies below it.
func within(path, folder string) bool {
	folder = strings.TrimSuffix(folder, "/")
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func goList(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", module+"...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var pkgs []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("go list output: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}
