package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
)

// commandLine is a command line put into the only order that urfave/cli reads
// without losing anything: commands, flags, "--", arguments. By itself it takes a
// flag behind an argument for another argument, and says nothing.
type commandLine struct {
	args []string
	path []*cli.Command // the commands that were named
	help bool           // asked for, or the line ends before a command that does something

	// The flags that matter even when the rest of the line makes no sense.
	json, yaml, noColor, quiet, verbose bool
}

// normalize walks the command tree along args. Flags that every command has may
// stand anywhere; a command's own come after its name.
func normalize(app *cli.App, args []string) (commandLine, error) {
	line := commandLine{}
	for i, arg := range args {
		if i == 0 {
			continue
		}
		if arg == "--" {
			break
		}
		switch name, value, given := strings.Cut(arg, "="); name {
		case "--json":
			line.json = isOn(value, given)
		case "--format":
			if !given && i+1 < len(args) {
				value = args[i+1]
			}
			line.json, line.yaml = line.json || value == formatJSON, value == formatYAML
		case "--no-color":
			line.noColor = isOn(value, given)
		case "--quiet", "-q":
			line.quiet = isOn(value, given)
		case "--verbose":
			line.verbose = isOn(value, given)
		}
	}
	w := &walker{app: app, line: &line, commands: app.Commands}
	err := w.walk(args[min(1, len(args)):])
	return line, err
}

// isOn reads a switch as the library does, the last one wins. A value that makes no
// sense is refused later, in the form that was asked for with it.
func isOn(value string, given bool) bool {
	on, err := strconv.ParseBool(value)
	return !given || on || err != nil
}

// walker is on its way through a command line.
type walker struct {
	app       *cli.App
	line      *commandLine
	commands  []*cli.Command // that may come next; nil behind the last one
	topic     bool           // behind "help"
	flags     []string
	arguments []string
}

func (w *walker) walk(args []string) error {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			w.arguments = append(w.arguments, args...)
			args = nil
		case len(arg) > 1 && arg[0] == '-':
			rest, err := w.flag(arg, args)
			if err != nil {
				return err
			}
			args = rest
		case w.commands != nil:
			if err := w.command(arg); err != nil {
				return err
			}
		default:
			w.arguments = append(w.arguments, arg)
		}
	}
	if w.commands != nil && len(w.arguments) > 0 {
		return usage("%q is behind --, where no command can be", w.arguments[0])
	}
	if w.commands != nil && !w.line.help {
		if w.line.json {
			return usage("%s: the command is missing", w.where()).WithHint("%s --help lists them", w.where())
		}
		w.line.help = true
	}
	w.line.args = []string{w.app.Name}
	for _, command := range w.line.path {
		w.line.args = append(w.line.args, command.Name)
	}
	w.line.args = append(append(append(w.line.args, w.flags...), "--"), w.arguments...)
	w.line.help = w.line.help || w.topic
	return nil
}

// command steps into a command. "help" before a command's name shows its help.
func (w *walker) command(name string) error {
	if name == "help" {
		w.topic = true
		return nil
	}
	i := slices.IndexFunc(w.commands, func(c *cli.Command) bool { return c.HasName(name) })
	if i < 0 {
		var names []string
		for _, c := range w.commands {
			names = append(names, c.Name)
		}
		return usage("%s: there is no command %q", w.where(), name).WithHint("%s", w.suggest("", name, names))
	}
	w.line.path = append(w.line.path, w.commands[i])
	w.commands = w.commands[i].Subcommands
	if len(w.commands) == 0 {
		w.commands = nil
	}
	return nil
}

// flag takes one flag off the line, with its value, and returns what is left.
func (w *walker) flag(arg string, rest []string) ([]string, error) {
	name, value, given := strings.Cut(arg, "=")
	short := !strings.HasPrefix(name, "--")
	name = strings.TrimLeft(name, "-")
	switch {
	case short && name == "h" || !short && name == "help":
		w.line.help = true
		return rest, nil
	case !short && name == "version" && w.commands != nil:
		return rest, w.version()
	}
	flag := w.lookup(name, short)
	if flag == nil {
		return nil, usage("%s: there is no flag %s", w.where(), strings.TrimSuffix(arg, "="+value)).WithHint("%s", w.suggest("--", name, w.flagNames()))
	}
	long := flag.Names()[0]
	if _, isBool := flag.(*cli.BoolFlag); isBool {
		if given {
			if _, err := strconv.ParseBool(value); err != nil {
				return nil, usage("--%s=%s: the value is neither true nor false", long, value)
			}
			w.flags = append(w.flags, "--"+long+"="+value)
		} else {
			w.flags = append(w.flags, "--"+long)
		}
		return rest, nil
	}
	if !given {
		if len(rest) == 0 || rest[0] == "--" || w.isFlag(rest[0]) {
			return nil, usage("%s: the flag --%s needs a value", w.where(), long)
		}
		value, rest = rest[0], rest[1:]
	}
	if err := checkValue(flag, value); err != nil {
		return nil, err
	}
	w.flags = append(w.flags, "--"+long+"="+value)
	return rest, nil
}

// version makes `ggen --version` the command of that name.
func (w *walker) version() error {
	w.commands, w.line.path = w.app.Commands, nil
	return w.command("version")
}

func checkValue(flag cli.Flag, value string) error {
	long := flag.Names()[0]
	switch flag.(type) {
	case *cli.IntFlag:
		if _, err := strconv.Atoi(value); err != nil {
			return usage("--%s %s: the value is not a whole number", long, value)
		}
	case *cli.Float64Flag:
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return usage("--%s %s: the value is not a number", long, value)
		}
	case *cli.DurationFlag:
		if _, err := time.ParseDuration(value); err != nil {
			return usage("--%s %s: the value is not a duration such as 500ms, 30s or 2m", long, value)
		}
	}
	return nil
}

// known are the flags that may stand here.
func (w *walker) known() []cli.Flag {
	if w.commands == nil && len(w.line.path) > 0 {
		return w.line.path[len(w.line.path)-1].Flags
	}
	return globalFlags()
}

func (w *walker) lookup(name string, short bool) cli.Flag {
	for _, flag := range w.known() {
		for _, known := range flag.Names() {
			if known == name && short == (len(known) == 1) {
				return flag
			}
		}
	}
	return nil
}

// isFlag tells a forgotten value from one that begins with a dash.
func (w *walker) isFlag(arg string) bool {
	name, _, _ := strings.Cut(arg, "=")
	short := !strings.HasPrefix(name, "--")
	name, dashed := strings.CutPrefix(name, "-")
	name = strings.TrimPrefix(name, "-")
	return dashed && (name == "help" || name == "h" || w.lookup(name, short) != nil)
}

func (w *walker) flagNames() []string {
	names := []string{"help"}
	for _, flag := range w.known() {
		names = append(names, flag.Names()[0])
	}
	return names
}

// where is the command so far, as the user would type it.
func (w *walker) where() string { return commandName(w.app, w.line.path) }

func commandName(app *cli.App, path []*cli.Command) string {
	name := app.Name
	for _, command := range path {
		name += " " + command.Name
	}
	return name
}

// suggest guesses what was meant.
func (w *walker) suggest(prefix, typed string, known []string) string {
	best, distance := "", 3
	for _, name := range known {
		if d := project.EditDistance(typed, name); d < distance {
			best, distance = name, d
		}
	}
	help := fmt.Sprintf("%s --help lists what there is", w.where())
	switch {
	case best != "":
		return fmt.Sprintf("did you mean %s%s? %s", prefix, best, help)
	case prefix != "" && w.commands != nil:
		return "a command's own flags come after its name; " + help
	}
	return help
}

// arity is how many arguments a command takes.
type arity struct{ least, most int }

// Kinds of arity; many is more than anybody types.
const many = 1 << 20

func (a arity) check(c *cli.Context) error {
	given := c.NArg()
	switch {
	case given < a.least:
		return usage("%s: the argument %s is missing", c.Command.HelpName, strings.Fields(c.Command.ArgsUsage + " ?")[0])
	case given > a.most && a.most == 0:
		return usage("%s takes no arguments, and got %q", c.Command.HelpName, c.Args().First())
	case given > a.most:
		return usage("%s takes %s, and got %d", c.Command.HelpName, map[bool]string{true: "one argument", false: fmt.Sprintf("at most %d arguments", a.most)}[a.most == 1], given)
	}
	return nil
}
