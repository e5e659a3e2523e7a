package main

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/tracing"
)

// program is one run of ggen: its command line and its surroundings.
type program struct {
	args           []string // with the program's own name
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	dir            string // working folder, absolute
	dirErr         error  // why there is none
	version        string
	engines        engines

	stdinTerminal, stdoutTerminal, stderrTerminal bool
	password                                      func(ctx context.Context) (string, error) // from the terminal, without echo
	width                                         int                                       // columns of stdout; 0 when not known
}

// run carries out the command line and says how the process should end.
func (p *program) run(ctx context.Context) exitCode {
	app := p.app()
	line, err := normalize(app, p.args)
	out := p.output(line.json, line.noColor, line.quiet, line.verbose)
	out.YAML = line.yaml && !line.json
	switch {
	case err != nil:
	case line.help:
		err = printHelp(p.stdout, app, line.path)
	case p.dirErr != nil:
		err = shared.NewError(shared.ReasonStorage, "find the working folder: %w", p.dirErr).WithHint("change to a folder that exists")
	default:
		err = app.RunContext(ctx, line.args)
	}
	if err == nil {
		return exitDone
	}
	said, printed, code := outcome(ctx, err)
	if err := out.Fail(said, printed); err != nil && code == exitDone {
		return exitInternal
	}
	return code
}

func (p *program) output(asJSON, noColor, quiet, verbose bool) *render.Output {
	color := !noColor && p.env("NO_COLOR") == "" && p.env("TERM") != "dumb"
	out := &render.Output{
		Out: p.stdout, Err: p.stderr, JSON: asJSON, Quiet: quiet, Verbose: verbose,
		Color: color && p.stdoutTerminal, ColorErr: color && p.stderrTerminal, Terminal: p.stderrTerminal,
	}
	if p.stdoutTerminal {
		out.Width = p.width
	}
	return out
}

// invocation is a command that is being carried out.
type invocation struct {
	*program
	*render.Output
	flags *cli.Context
	args  []string
	home  string
	place project.Place
}

// action wraps what a command does in what all of them need. The engine is not
// touched here: most mistakes are found without one.
func (p *program) action(arguments arity, do func(context.Context, *invocation) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := arguments.check(c); err != nil {
			return err
		}
		home, err := project.Home(c.String("home"), p.dir, p.env)
		if err != nil {
			return err
		}
		place, err := project.Locate(p.dir, c.String("project"), home)
		if err != nil {
			return err
		}
		v := &invocation{
			program: p, flags: c, args: c.Args().Slice(), home: home, place: place,
			Output: p.output(c.Bool("json"), c.Bool("no-color"), c.Bool("quiet"), c.Bool("verbose")),
		}
		ctx := c.Context
		if limit := c.Duration("timeout"); limit != 0 {
			if limit < 0 {
				return usage("--timeout %s is negative", limit)
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		ctx, end := tracing.Start(ctx, c.Command.HelpName)
		err = do(ctx, v)
		end(err)
		return err
	}
}

// config is the engine that this command is about. given are the settings from
// flags, which go before all others; file, if any, replaces the usual files.
func (v *invocation) config(given project.Given, file string) (engineConfig, error) {
	sources, err := v.sources(given, file)
	if err != nil {
		return engineConfig{}, err
	}
	cfg := engineConfig{
		Home: v.home, Profile: cmp.Or(v.flags.String("profile"), v.env("GGEN_PROFILE")), PerCommand: v.env("GGEN_ENGINE_PER_COMMAND") != "",
		Version: v.version, Logger: slog.New(slog.DiscardHandler),
	}
	if v.place.IsProject() {
		cfg.Project = v.place.Root()
	}
	cfg.Settings = project.Merge(sources...)
	for _, dir := range v.flags.StringSlice("plugin-dir") {
		cfg.PluginDirs = append(cfg.PluginDirs, v.absolute(dir))
	}
	if v.Verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(v.Err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return cfg, cfg.Settings.Check()
}

// sources reads the settings from everywhere, the strongest first.
func (v *invocation) sources(given project.Given, file string) ([]project.Given, error) {
	environment, err := project.FromEnvironment(v.env)
	if err != nil {
		return nil, err
	}
	sources := []project.Given{given, environment}
	files := []string{filepath.Join(v.home, project.ConfigName)}
	if v.place.IsProject() {
		files = append([]string{v.place.Manifest()}, files...)
	}
	if file != "" {
		files = []string{v.absolute(file)}
	}
	for _, name := range files {
		source, err := project.FromFile(name, file != "")
		if err != nil {
			return nil, err
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// withEngine connects, starting an engine if need be, and calls use.
func (v *invocation) withEngine(ctx context.Context, use func(session) error) error {
	cfg, err := v.config(project.Given{}, "")
	if err != nil {
		return err
	}
	s, err := v.engines.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // detaching changes no result
	before := s.Notices()
	v.Remarks(before)
	err = use(s)
	// What happened to the engine meanwhile.
	v.Remarks(s.Notices()[len(before):])
	return err
}

// lockPlace keeps other commands out of the place that this one changes.
func (v *invocation) lockPlace(ctx context.Context) (unlock func(), err error) {
	return v.place.Lock(ctx, func() { v.Note("waiting for another ggen that is changing %s", v.place.Root()) })
}

func (v *invocation) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(v.dir, path)
}

// stopGrace is how long an engine may go on with running calls when it is told to
// stop: a transfer of the largest package over a slow line takes longer, and can
// be resumed.
const stopGrace = 10 * time.Second

// usage is a mistake on the command line.
func usage(format string, args ...any) *shared.Error {
	return shared.NewError(shared.ReasonInvalidArgument, format, args...)
}
