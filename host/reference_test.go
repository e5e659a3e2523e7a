package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

//go:generate go test -run "^(TestReference|TestSchemas)$" . -args -update

// TestReference keeps docs/CLI.md in step with the commands: `go generate ./host`
// writes it.
func TestReference(t *testing.T) {
	file := filepath.Join("..", "docs", "CLI.md")
	want := reference(t, testProgram().app())
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is stale: run `go generate ./host`", file)
	}
}

func reference(t *testing.T, app *cli.App) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("<!-- Generated from the commands by `go generate ./host`. -->\n# The command line\n\n")
	b.WriteString("Results go to standard output: text for a person or, with `--json`, exactly one line with one JSON document.\n")
	b.WriteString("Progress, remarks and errors go to standard error. Flags may stand anywhere behind their command; `--` ends them.\n")
	b.WriteString("A failure with `--json` is a document too: `{\"error\":{\"reason\",\"message\",\"hint\",\"retryable\",\"metadata\"}}`\n")
	b.WriteString("(where a command has findings to show, such as `verify`, its own document is the one).\n")
	b.WriteString("\n## Flags of every command\n\n")
	_, global := flagRows(nil)
	writeMarkdown(&b, []string{"flag", "meaning"}, global)
	b.WriteString("\n## Environment and settings\n\nA flag goes before the environment, that before `[marketplace]` in the project's `ggen.toml`, and that before the\nsame table in `$GGEN_HOME/config.toml`. `p2p start --config FILE` reads FILE instead of the two.\n\n")
	writeMarkdown(&b, []string{"variable", "key in `[marketplace]`", "meaning"}, [][3]string{
		{project.EnvHome, "", "where keys, catalogue and content are kept; default `~/.ggen`"},
		{project.EnvListen, "listen = [\"…\"]", "addresses to listen on; in the variable separated by commas"},
		{project.EnvBootstrap, "bootstrap = [\"…\"]", "addresses of peers to start from; in the variable separated by commas"},
		{project.EnvDHTServer, "dht_server = true", "answer DHT queries even if not known to be reachable"},
		{project.EnvKey, "network_key = \"network.key\"", "file of the pre-shared key of a private network, see NETWORK.md; in a file relative to that"},
		{project.EnvAllow, "allow_peers = [\"…\"]", "IDs of the only peers that may connect; in the variable separated by commas"},
		{project.EnvMDNS, "mdns = false", "whether to look for peers in the local network, by multicast DNS; default true"},
		{project.EnvMetrics, `metrics_addr = "127.0.0.1:9464"`, "serve metrics for Prometheus at this address of this machine, see OPERATIONS.md; a project's file has no say in it"},
		{"", `upload_limit = "2MiB"`, "how many bytes a second are sent of packages to all others together; default no limit"},
		{project.EnvLight, "light = true", "keep no catalogue: ask other peers, and verify what they answer"},
		{project.EnvSuper, "super_peer = true", "offer to answer for light peers"},
		{"", "lookup_fanout = 5", "how many peers a lookup in the network asks at first"},
		{"", "lookup_concurrency = 10", "how many peers a lookup asks at most at once"},
		{"", "`[location]`: latitude = 48.1, longitude = 11.6, region = \"eu\"", "a table of its own, and not in a project's file: where this machine is, in degrees. It is rounded to whole ones and told to every peer; without it nobody is told, see PEERS.md"},
		{"", "`[cache]`: size = \"2GiB\", lifetime = \"7d\", hot_entries = 100, hot_lifetime = \"1h\", warm_entries = 1000, warm_lifetime = \"1d\"", "a table of its own, and not in a project's file: how much is kept of packages that were neither published nor pinned nor installed here, and for how long after it was wanted last; and how much is remembered in memory. These are the defaults; see `cache stats`"},
		{"", "idle_stop = \"10m\"", "how long an engine that is not used stays"},
		{project.EnvMemory, "memory_limit = \"512MiB\"", "how much memory the engine may use, at least 256MiB; default no limit"},
		{project.EnvPolicy, "trust_policy = \"allow-list\"", "whom packages may come from: `tofu` (default) or `allow-list`, see TRUST.md; the strictest of all sources counts"},
		{project.EnvMinAge, "min_age = \"3d\"", "leave out releases that this peer has known for less; the longest of all sources counts, and `--min-age` goes before it"},
		{"", "max_package_size = \"16MiB\"", "refuse packages whose archive is larger; the smallest of all sources counts, and at most 256MiB"},
		{"", "max_package_files = 1000", "refuse packages with more files; the smallest of all sources counts, and at most 10000"},
		{launch.LogFormatVariable, "", "`json`: the engine writes its log as JSON"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "", "where to send traces and metrics, and with the other variables of OpenTelemetry how; see OPERATIONS.md"},
		{launch.PassphraseVariable, "", "the passphrase of encrypted keys, see `key`"},
		{"GGEN_PROFILE", "", "the profile, as `--profile`: each has an engine, keys and a catalogue of its own, below `$GGEN_HOME/profiles`"},
		{"GGEN_ENGINE_ATTACH", "", "the socket of an engine that somebody runs in a terminal (`serve -debug`), to be used instead of any other"},
		{"GGEN_PLUGIN_PATH", "", "folders in which engines are looked for, after `--plugin-dir`; separated as in `PATH`"},
		{"GGEN_PLUGIN_PROJECT", "", "if it is set, engines in the project's `.ggen/plugins` may be used: a folder that somebody sent must not run programs unasked"},
		{"GGEN_PLUGIN_DEV", "", "an engine binary to use instead of any other, unverified; for work on engines"},
		{"GGEN_ENGINE_PER_COMMAND", "", "if it is set, every command starts an engine of its own"},
		{"NO_COLOR", "", "no colours, whatever its value"},
	})
	b.WriteString("\n## Exit codes\n\n")
	var rows [][3]string
	for _, e := range exitMeanings {
		var reasons []string
		for _, reason := range shared.Reasons() {
			if codeOf(reason) == e.code {
				reasons = append(reasons, string(reason))
			}
		}
		rows = append(rows, [3]string{fmt.Sprint(e.code), e.meaning, strings.Join(reasons, ", ")})
	}
	writeMarkdown(&b, []string{"code", "meaning", "reasons"}, rows)
	writeCommands(t, &b, app, nil, app.Commands)
	return b.Bytes()
}

func writeCommands(t *testing.T, b *bytes.Buffer, app *cli.App, path, commands []*cli.Command) {
	t.Helper()
	for _, command := range commands {
		here := append(append([]*cli.Command{}, path...), command)
		fmt.Fprintf(b, "\n## %s\n\n%s.\n\n```\n%s\n```\n", commandName(app, here), capital(command.Usage), synopsis(app, here))
		if command.Description != "" {
			fmt.Fprintf(b, "\n%s\n", command.Description)
		}
		if own, _ := flagRows(here); len(own) > 0 {
			b.WriteString("\n")
			writeMarkdown(b, []string{"flag", "meaning"}, own)
		}
		if command.UsageText != "" {
			fmt.Fprintf(b, "\n```sh\n%s\n```\n", command.UsageText)
		}
		writeCommands(t, b, app, here, command.Subcommands)
	}
}

// writeMarkdown writes a table; all columns but "meaning" are code.
func writeMarkdown[R [2]string | [3]string](b *bytes.Buffer, header []string, rows []R) {
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, row := range rows {
		b.WriteString("|")
		for i, title := range header {
			cell := strings.ReplaceAll(row[i], "|", `\|`)
			if title != "meaning" && title != "reasons" && cell != "" {
				cell = "`" + cell + "`"
			}
			b.WriteString(" " + cell + " |")
		}
		b.WriteString("\n")
	}
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// TestHelpIsComplete: every command says what it is for, and every flag as well.
func TestHelpIsComplete(t *testing.T) {
	app := testProgram().app()
	var walk func(path, commands []*cli.Command)
	walk = func(path, commands []*cli.Command) {
		for _, command := range commands {
			here := append(append([]*cli.Command{}, path...), command)
			if command.Usage == "" {
				t.Errorf("%s does not say what it is for", commandName(app, here))
			}
			own, global := flagRows(here)
			for _, row := range append(own, global...) {
				if row[1] == "" {
					t.Errorf("%s: %s does not say what it is for", commandName(app, here), row[0])
				}
			}
			var help bytes.Buffer
			if err := printHelp(&help, app, here); err != nil || strings.Count(help.String(), "\n") > 70 {
				t.Errorf("%s: the help has %d lines, %v", commandName(app, here), strings.Count(help.String(), "\n"), err)
			}
			walk(here, command.Subcommands)
		}
	}
	walk(nil, app.Commands)
}
