package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// printHelp explains the command at the end of path, or the program.
func printHelp(w io.Writer, app *cli.App, path []*cli.Command) error {
	var b bytes.Buffer
	commands, description, examples, about := app.Commands, app.Description, "", app.Usage
	if len(path) > 0 {
		command := path[len(path)-1]
		commands, description, examples, about = command.Subcommands, command.Description, command.UsageText, command.Usage
	}
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", about, synopsis(app, path))
	if description != "" {
		fmt.Fprintf(&b, "\n%s\n", description)
	}
	if len(commands) > 0 {
		b.WriteString("\nCommands:\n")
		var rows [][2]string
		for _, command := range commands {
			rows = append(rows, [2]string{command.Name, command.Usage})
		}
		writePairs(&b, rows)
	}
	if app.Name == directName {
		examples = strings.ReplaceAll(examples, "ggen marketplace ", directName+" ")
	}
	if examples != "" {
		b.WriteString("\nExamples:\n")
		for line := range strings.Lines(strings.TrimSpace(examples)) {
			b.WriteString("  " + line)
		}
		b.WriteString("\n")
	}
	own, global := flagRows(path)
	if len(own) > 0 {
		b.WriteString("\nFlags:\n")
		writePairs(&b, own)
	}
	if len(commands) > 0 {
		b.WriteString("\nFlags of every command, anywhere on the line:\n")
		writePairs(&b, global)
	} else {
		fmt.Fprintf(&b, "\nEvery command also takes %s:\nsee %s --help.\n", strings.Join(globalNames(), " "), app.Name)
	}
	if len(path) < 2 && len(commands) > 0 {
		b.WriteString("\nExit codes:\n")
		var rows [][2]string
		for _, e := range exitMeanings {
			rows = append(rows, [2]string{fmt.Sprint(e.code), e.meaning})
		}
		writePairs(&b, rows)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// synopsis is a command's usage line.
func synopsis(app *cli.App, path []*cli.Command) string {
	line := commandName(app, path)
	if len(path) == 0 || len(path[len(path)-1].Subcommands) > 0 {
		return line + " COMMAND"
	}
	command := path[len(path)-1]
	if own, _ := flagRows(path); len(own) > 0 {
		line += " [flags]"
	}
	if command.ArgsUsage != "" {
		line += " " + command.ArgsUsage
	}
	return line
}

func globalNames() []string {
	var names []string
	for _, flag := range globalFlags() {
		names = append(names, "--"+flag.Names()[0])
	}
	return names
}

// flagRows are a command's own flags and those of every command, with what they
// are for.
func flagRows(path []*cli.Command) (own, global [][2]string) {
	shared := map[string]bool{}
	for _, flag := range globalFlags() {
		shared[flag.Names()[0]] = true
		global = append(global, flagRow(flag))
	}
	global = append(global, [2]string{"-h, --help", "explain the command"})
	if len(path) == 0 {
		return nil, global
	}
	for _, flag := range path[len(path)-1].Flags {
		if !shared[flag.Names()[0]] {
			own = append(own, flagRow(flag))
		}
	}
	return own, global
}

func flagRow(flag cli.Flag) [2]string {
	usage := ""
	if documented, ok := flag.(cli.DocGenerationFlag); ok {
		usage = documented.GetUsage()
	}
	value, usage := placeholder(usage)
	if value != "" {
		value = " " + value
	}
	name := "--" + flag.Names()[0] + value
	for _, alias := range flag.Names()[1:] {
		name = "-" + alias + ", " + name
	}
	return [2]string{name, usage}
}

// placeholder takes the word between backquotes in a flag's usage for the name of
// its value, as the flag package does.
func placeholder(usage string) (value, text string) {
	before, rest, found := strings.Cut(usage, "`")
	if !found {
		return "", usage
	}
	value, after, _ := strings.Cut(rest, "`")
	return value, before + value + after
}

func writePairs(b *bytes.Buffer, rows [][2]string) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", row[0], row[1]) // a buffer takes everything
	}
	_ = w.Flush() // likewise
}
