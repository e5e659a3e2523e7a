package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// complete asks the bash script what may follow a line, as bash would.
func complete(t *testing.T, dir string, words ...string) []string {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("there is no bash here")
	}
	app := testProgram().app()
	script := filepath.Join(dir, "completion.bash")
	if err := os.WriteFile(script, []byte(bashCompletion(completions(app, nil, app.Commands))), 0o600); err != nil {
		t.Fatal(err)
	}
	driver := `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ggen_completion; printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{"--norc", "-c", driver, "bash", script}, words...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Fields(string(out))
}

func TestBashCompletion(t *testing.T) {
	for _, tc := range []struct {
		name  string
		words []string
		want  string // all of them, or with "…" the first ones
	}{
		{"commands of the program", []string{"ggen", ""}, "marketplace version"},
		{"commands of a group", []string{"ggen", "marketplace", "p"}, "publish package p2p plugin"},
		{"commands of a group within", []string{"ggen", "marketplace", "p2p", "peer"}, "peer-list peer-info"},
		{"behind a flag", []string{"ggen", "marketplace", "--json", "p2p", "sto"}, "stop"},
		{"flags of a command", []string{"ggen", "marketplace", "install", "--s"}, "--save"},
		{"flags of every command", []string{"ggen", "marketplace", "install", "x", "--js"}, "--json"},
		{"shells", []string{"ggen", "marketplace", "completion", ""}, "bash zsh fish"},
		{"files stand for arguments", []string{"ggen", "marketplace", "publish", ""}, ""},
		{"files stand for values", []string{"ggen", "marketplace", "publish", "--home", "--"}, ""},
		{"a pattern is no pattern", []string{"ggen", "marketplace", "*"}, ""},
		{"nothing that fits", []string{"ggen", "marketplace", "zzz"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := strings.Join(complete(t, t.TempDir(), tc.words...), " "); got != tc.want {
				t.Fatalf("%q: %q, want %q", tc.words, got, tc.want)
			}
		})
	}
}

// TestCompletionOfBothNames: their scripts may be loaded into one shell.
func TestCompletionOfBothNames(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("there is no bash here")
	}
	var scripts strings.Builder
	for _, name := range []string{"ggen", directName} {
		p := testProgram()
		p.args = []string{name}
		app := p.app()
		scripts.WriteString(bashCompletion(completions(app, nil, app.Commands)))
	}
	scripts.WriteString(`
COMP_WORDS=(ggen marketplace sea) COMP_CWORD=2; _ggen_completion; echo "${COMPREPLY[@]}"
COMP_WORDS=(ggen-marketplace p2p sto) COMP_CWORD=2; _ggen_marketplace_completion; echo "${COMPREPLY[@]}"
complete -p ggen; complete -p ggen-marketplace
`)
	cmd := exec.CommandContext(t.Context(), "bash", "--norc")
	cmd.Stdin = strings.NewReader(scripts.String())
	out, err := cmd.CombinedOutput()
	want := "search\nstop\ncomplete -o default -F _ggen_completion ggen\ncomplete -o default -F _ggen_marketplace_completion ggen-marketplace\n"
	if err != nil || string(out) != want {
		t.Fatalf("%v\n%s\nwant\n%s", err, out, want)
	}
}

// TestCompletionEvaluatesNothing: what was typed, wherever it stands, is data.
func TestCompletionEvaluatesNothing(t *testing.T) {
	for _, evil := range []string{"$(touch ran)", "`touch ran`", "\"; touch ran; \"", "*", "--$(touch ran)", "'$(touch ran)'", "a[$(touch ran)]"} {
		t.Run(evil, func(t *testing.T) {
			dir := t.TempDir()
			complete(t, dir, "ggen", evil)
			complete(t, dir, "ggen", "marketplace", evil)
			complete(t, dir, "ggen", evil, "marketplace", evil, evil)
			if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
				t.Fatal("a candidate was executed")
			}
		})
	}
}

// TestCompletionScriptsParse gives each script to its shell, where that is here.
func TestCompletionScriptsParse(t *testing.T) {
	app := testProgram().app()
	for shell, write := range shells {
		t.Run(shell, func(t *testing.T) {
			script := write(completions(app, nil, app.Commands))
			for _, c := range completions(app, nil, app.Commands) {
				if !strings.Contains(script, c.trail) {
					t.Errorf("%s is not in the script", c.trail)
				}
			}
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("there is no %s here to parse it", shell)
			}
			file := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), path, "-n", file).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

func TestQuoting(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("there is no bash here")
	}
	words := []string{"plain", "it's", `a"b`, "$(x)", "`x`", `\`, "a b", "'"}
	out, err := exec.CommandContext(context.Background(), "bash", "--norc", "-c", "printf '%s\\n' "+quotedList(words)).Output()
	if got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"); err != nil || !slices.Equal(got, words) {
		t.Fatalf("%q, %v; want %q", got, err, words)
	}
}
