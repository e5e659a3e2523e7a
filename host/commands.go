package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

// app is the command tree. Help, unknown commands and the order of arguments are
// dealt with before it runs, by normalize; it parses values and dispatches.
func (p *program) app() *cli.App {
	app := &cli.App{
		Name:  "ggen",
		Usage: "ggen shares packages for code generation between peers, without a registry",
		Commands: []*cli.Command{
			{
				Name:  "marketplace",
				Usage: "find, install and publish packages",
				Description: `Every participant runs a peer, which the first command that needs it starts
and which ends when it is idle. Results go to standard output, everything else
to standard error.`,
				UsageText: `ggen marketplace search http service
ggen marketplace install greeting-service --save
ggen marketplace publish ./my-package --dry-run
ggen marketplace p2p start --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...`,
				Subcommands: []*cli.Command{
					p.searchCommand(), p.infoCommand(), p.watchCommand(), p.installCommand(), p.listCommand(), p.removeCommand(), p.verifyCommand(),
					p.publishCommand(), p.yankCommand(), p.deprecateCommand(), p.packageCommand(),
					p.treeCommand(), p.whyCommand(), p.outdatedCommand(), p.updateCommand(),
					p.exportCommand(), p.importCommand(), p.vendorCommand(), p.sbomCommand(),
					{Name: "p2p", Usage: "the peer on this machine, and the others", Subcommands: []*cli.Command{
						p.startCommand(), p.stopCommand(), p.statusCommand(), p.peerListCommand(), p.peerInfoCommand(), p.bootstrapCommand(),
					}},
					p.cacheCommand(), p.keyCommand(), p.trustCommand(), p.pluginCommand(),
					p.completionCommand(), p.versionCommand(),
				},
			},
			p.versionCommand(),
		},
		HideVersion: true, HideHelp: true, HideHelpCommand: true,
		DisableSliceFlagSeparator: true,
		// By default the library ends the process on its own.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   asUsage,
		// Nothing of the library's own output is wanted.
		Writer: io.Discard, ErrWriter: io.Discard,
	}
	if p.direct() {
		marketplace := app.Commands[0]
		app.Name, app.Usage, app.Description, app.Commands = directName, marketplace.Usage, marketplace.Description, marketplace.Subcommands
	}
	quieten(app.Commands)
	return app
}

// directName is the program's other name, by which other programs call it: then its
// commands are those of `ggen marketplace`.
const directName = "ggen-marketplace"

// direct tells whether the program was called by its other name.
func (p *program) direct() bool {
	return len(p.args) > 0 && strings.TrimSuffix(filepath.Base(p.args[0]), ".exe") == directName
}

func quieten(commands []*cli.Command) {
	for _, command := range commands {
		command.HideHelp, command.HideHelpCommand = true, true
		command.OnUsageError = asUsage
		quieten(command.Subcommands)
	}
}

// asUsage is for what normalize has let through.
func asUsage(_ *cli.Context, err error, _ bool) error { return usage("%w", err) }

// leaf completes a command that does something.
func (p *program) leaf(command *cli.Command, arguments arity, do func(context.Context, *invocation) error) *cli.Command {
	command.Flags = append(command.Flags, globalFlags()...)
	command.Action = p.action(arguments, do)
	return command
}

// globalFlags are new ones each time: the library keeps state in them.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "print the result, or the error, as one JSON document"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print results and problems only"},
		&cli.BoolFlag{Name: "verbose", Usage: "print more detail and the log of what the host does"},
		&cli.BoolFlag{Name: "no-color", Usage: "print without colours; so does NO_COLOR in the environment"},
		&cli.StringFlag{Name: "home", Usage: "keep keys, catalogue and content in `DIR` (default $GGEN_HOME, else ~/.ggen)"},
		&cli.StringFlag{Name: "profile", Usage: "use the engine, keys and catalogue of profile `NAME`, beside those of others (default $GGEN_PROFILE)"},
		&cli.StringFlag{Name: "project", Usage: "work on the project in `DIR` (default: the nearest folder with a ggen.toml, else the home)"},
		&cli.StringSliceFlag{Name: "plugin-dir", Usage: "look for engines in `DIR` first; may be repeated"},
		&cli.DurationFlag{Name: "timeout", Usage: "give up after `DURATION`, such as 30s or 2m"},
	}
}
