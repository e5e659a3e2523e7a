package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
)

func testProgram(args ...string) *program {
	return &program{
		args: append([]string{"ggen"}, args...), stdout: io.Discard, stderr: io.Discard, env: func(string) string { return "" },
		dir: os.TempDir(), version: "0.0.0", engines: folderEngines{func(string) string { return "" }},
	}
}

func TestNormalize(t *testing.T) {
	for _, tc := range []struct {
		name, line, want string
	}{
		{"flags come before arguments", "marketplace search foo --json", "marketplace search --json -- foo"},
		{"a common flag before the commands", "--json marketplace search foo", "marketplace search --json -- foo"},
		{"a common flag between the commands", "marketplace --home /h search foo", "marketplace search --home=/h -- foo"},
		{"a value behind a space", "marketplace search --limit 5 a b", "marketplace search --limit=5 -- a b"},
		{"a value behind an equals sign", "marketplace search --limit=5 a", "marketplace search --limit=5 -- a"},
		{"a value that begins with a dash and is no flag", "marketplace search --tag -x", "marketplace search --tag=-x --"},
		{"a value that looks like a flag, behind an equals sign", "marketplace search --tag=--json", "marketplace search --tag=--json --"},
		{"an empty value", "marketplace search --tag=", "marketplace search --tag= --"},
		{"a short flag", "marketplace search -q x", "marketplace search --quiet -- x"},
		{"a switch that is turned off", "marketplace search --json=false x", "marketplace search --json=false -- x"},
		{"everything behind -- is an argument", "marketplace search -- --json -q help", "marketplace search -- --json -q help"},
		{"a single dash is an argument", "marketplace publish -", "marketplace publish -- -"},
		{"an argument that is called like a command", "marketplace search list", "marketplace search -- list"},
		{"a repeated flag keeps its order", "marketplace p2p start --listen a --listen b", "marketplace p2p start --listen=a --listen=b --"},
		{"version as a flag", "--version --json", "version --json --"},
		{"version as a flag of a group", "marketplace --version", "version --"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := testProgram(strings.Fields(tc.line)...)
			line, err := normalize(p.app(), p.args)
			if got := strings.Join(line.args, " "); err != nil || got != strings.TrimSpace("ggen "+tc.want) || line.help {
				t.Fatalf("normalize(%s)\n got %q, %v\nwant %q", tc.line, got, err, "ggen "+tc.want)
			}
		})
	}
}

func TestNormalizeRefuses(t *testing.T) {
	for _, tc := range []struct{ name, line, message, hint string }{
		{"an unknown command", "marketplace instal x", `there is no command "instal"`, "did you mean install?"},
		{"an unknown flag", "marketplace search --jsn", "there is no flag --jsn", "did you mean --json?"},
		{"a long flag with one dash", "marketplace search -json", "there is no flag -json", "did you mean --json?"},
		{"a short flag with two dashes", "marketplace search --q", "there is no flag --q", "--help"},
		{"the value out of the message", "marketplace search --token=secret", "there is no flag --token", "--help"},
		{"a missing value at the end", "marketplace search --limit", "--limit needs a value", ""},
		{"a missing value before a flag", "marketplace search --limit --json", "--limit needs a value", ""},
		{"a missing value before --", "marketplace search --limit -- x", "--limit needs a value", ""},
		{"a command's flag before its name", "marketplace --limit 3 search", "there is no flag --limit", "come after its name"},
		{"no number", "marketplace search --limit 3x", "not a whole number", ""},
		{"no duration", "marketplace search --timeout 5", "not a duration", ""},
		{"commands behind --", "marketplace -- search", "behind --", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := testProgram(strings.Fields(tc.line)...)
			line, err := normalize(p.app(), p.args)
			if err == nil {
				t.Fatalf("normalize(%s) = %q", tc.line, line.args)
			}
			said, _, code := outcome(t.Context(), err)
			if !strings.Contains(said.Message, tc.message) || !strings.Contains(said.Hint, tc.hint) || code != exitUsage {
				t.Fatalf("normalize(%s): %q, hint %q, code %d", tc.line, said.Message, said.Hint, code)
			}
			if strings.Contains(said.Message+said.Hint, "secret") {
				t.Fatal("a value that may be a secret is repeated")
			}
		})
	}
}

// FuzzNormalize: whatever is typed, the library sees every argument as an
// argument, in order, and never gets to guess.
func FuzzNormalize(f *testing.F) {
	for _, seed := range []string{
		"marketplace\nsearch\nfoo\n--json", "--json\nmarketplace\np2p\nstart\n--listen\na", "marketplace\nsearch\n--\n--json\n-q",
		"help\nmarketplace\ninstall", "marketplace\nsearch\n--limit", "--version", "marketplace\nsearch\n-\n\n--tag=\n$(x)",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := testProgram(strings.Split(text, "\n")...)
		app := p.app()
		line, err := normalize(app, p.args)
		if err != nil || line.help {
			return
		}
		var seen []string
		ran := false
		leaf := line.path[len(line.path)-1]
		leaf.Action = func(c *cli.Context) error {
			seen, ran = c.Args().Slice(), true
			return nil
		}
		if err := app.RunContext(context.Background(), line.args); err != nil {
			return // a value that only the library checks
		}
		want := line.args[slices.Index(line.args, "--")+1:]
		if !ran || !slices.Equal(seen, want) {
			t.Fatalf("%q: ran %v with %q, want %q", line.args, ran, seen, want)
		}
	})
}

func TestEditDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"serch", "search", 1}, {"lits", "list", 2}, {"", "ab", 2}, {strings.Repeat("x", 40), "y", 32}} {
		if got := project.EditDistance(tc.a, tc.b); got != tc.want {
			t.Errorf("EditDistance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
