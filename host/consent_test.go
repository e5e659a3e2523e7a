package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstallAsksInATerminal: what is going to be done is shown, and happens if the
// user agrees; what is unusual is not what happens by default.
func TestInstallAsksInATerminal(t *testing.T) {
	for _, c := range []struct {
		name, flags, answer string
		known               bool // the publisher was used before
		code                exitCode
		asks, says          string
	}{
		{"yes", "", "y\n", false, exitDone, "[y/N]", ""},
		{"no", "", "n\n", false, exitTrust, "[y/N]", "you did not agree"},
		{"nothing, at a first use", "", "\n", false, exitTrust, "[y/N]", "you did not agree"},
		{"nothing, when all is known", "", "\n", true, exitDone, "[Y/n]", ""},
		{"nothing, and --trust", "--trust", "\n", false, exitDone, "[Y/n]", ""},
		{"no answer at all", "", "", false, exitTrust, "[y/N]", "you did not agree"},
		{"--yes is not --trust", "--yes", "", false, exitTrust, "", "has used app of publisher"},
		{"--yes and --trust", "--yes --trust", "", false, exitDone, "", ""},
		{"JSON asks nothing", "--json --trust", "", false, exitDone, "", ""},
		{"a dry run asks nothing", "--dry-run", "", false, exitDone, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			home := "other"
			if c.known {
				home = "author"
			}
			file := filepath.Join(dir, "pkg", "package.toml")
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte("[package]\nname = \"app\"\nversion = \"1.0.0\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			run := func(home, answer string, line ...string) (exitCode, string) {
				var out, errs bytes.Buffer
				env := map[string]string{"GGEN_HOME": filepath.Join(dir, home), "TEST_NETWORK": filepath.Join(dir, "network")}
				p := testProgram(append([]string{"marketplace"}, line...)...)
				p.dir, p.stdin, p.stdout, p.stderr = dir, strings.NewReader(answer), &out, &errs
				p.stdinTerminal, p.stderrTerminal = true, true
				p.env = func(name string) string { return env[name] }
				p.engines = folderEngines{p.env}
				return p.run(t.Context()), errs.String()
			}
			if code, said := run("author", "", "publish", "pkg"); code != exitDone {
				t.Fatal(said)
			}
			code, said := run(home, c.answer, append([]string{"install", "app"}, strings.Fields(c.flags)...)...)
			if code != c.code || !strings.Contains(said, c.says) || strings.Contains(said, "Install?") != (c.asks != "") || !strings.Contains(said, c.asks) {
				t.Fatalf("exit code %d, want %d:\n%s", code, c.code, said)
			}
			if c.asks != "" && strings.Index(said, "app") > strings.Index(said, "Install?") {
				t.Errorf("it asks before it shows:\n%s", said)
			}
			_, err := os.Stat(filepath.Join(dir, home, "packages", "app"))
			if installed := err == nil; installed != (c.code == exitDone && c.flags != "--dry-run") {
				t.Errorf("installed: %v", installed)
			}
		})
	}
}
