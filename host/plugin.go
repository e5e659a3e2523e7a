package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) pluginCommand() *cli.Command {
	return &cli.Command{
		Name: "plugin", Usage: "engine files: which are there, which is used, which may be",
		Description: `An engine is a file ggen-engine-marketplace_v<version>_p<protocol>_<os>_<arch> with
its checksum beside it. Of those that this ggen can speak to and that plugins.lock
allows, the newest is used. They are looked for in --plugin-dir, GGEN_PLUGIN_PATH,
the project's .ggen/plugins (only if GGEN_PLUGIN_PROJECT is set), plugins in the
home, and beside ggen.

The home's plugins.lock remembers what each version's file was when it ran first:
another file of that version is refused. With public keys of minisign in plugin-keys
in the home (*.pub), an engine also needs a signature by one of them.`,
		Subcommands: []*cli.Command{
			p.pluginListCommand(), p.pluginVerifyCommand(), p.pluginInstallCommand(), p.pluginUseCommand(),
			p.pluginPinCommand(), p.pluginRollbackCommand(), p.pluginRemoveCommand(),
		},
	}
}

// search is where this command looks for engines; it warns of one that nobody verifies.
func (v *invocation) search() (plugins.Search, engineConfig, error) {
	cfg, err := v.config(project.Given{}, "")
	if err != nil {
		return plugins.Search{}, cfg, err
	}
	search := v.engines.Search(cfg)
	v.Remarks(search.Warnings())
	return search, cfg, nil
}

func (p *program) pluginListCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "list", Usage: "list engine files, which one is used, and why the others are not",
		Description: "Nothing is executed.",
	}, arity{0, 0}, pluginList)
}

func pluginList(_ context.Context, v *invocation) error {
	search, _, err := v.search()
	if err != nil {
		return err
	}
	found, err := plugins.Find(search)
	if err != nil {
		return err
	}
	doc := render.Plugins{Plugins: []render.Plugin{}, Total: len(found)}
	for _, c := range found {
		doc.Plugins = append(doc.Plugins, newPlugin(c))
	}
	if len(found) > 0 && !found[0].Used {
		v.Remarks([]shared.Diagnostic{{Severity: shared.SeverityWarning, Message: "no engine can be used; the first one cannot because " + found[0].Why, Hint: found[0].Fix}})
	}
	return v.Print(doc)
}

func newPlugin(c plugins.Candidate) render.Plugin {
	return render.Plugin{
		Path: c.Path, Version: c.Version, Protocol: c.Protocol, OS: c.OS, Arch: c.Arch, Source: c.Source,
		Digest: c.Digest, Signature: c.Signature, Used: c.Used, Why: c.Why, Fix: c.Fix,
	}
}

func (p *program) pluginVerifyCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "verify", Usage: "compare engine files with their checksums, signatures and plugins.lock",
		Description: `Reads every engine file as a whole, whatever was verified before, and ends with
code 8 if one is not what it should be. Nothing is executed.`,
	}, arity{0, 0}, pluginVerify)
}

func pluginVerify(_ context.Context, v *invocation) error {
	search, _, err := v.search()
	if err != nil {
		return err
	}
	verdicts, err := plugins.Verify(search)
	if err != nil {
		return err
	}
	doc := render.PluginVerify{Plugins: []render.VerifiedPlugin{}, Total: len(verdicts), OK: true}
	wrong := 0
	for _, r := range verdicts {
		if !r.OK {
			wrong++
		}
		doc.Plugins = append(doc.Plugins, render.VerifiedPlugin{
			Path: r.Path, Version: r.Version, OS: r.OS, Arch: r.Arch, Source: r.Source,
			OK: r.OK, Expected: r.Expected, Found: r.Found, Signature: r.Signature, Problem: r.Problem, Fix: r.Remedy,
		})
	}
	doc.OK = wrong == 0
	if err := v.Print(doc); err != nil || doc.OK {
		return err
	}
	return finding{cause: shared.NewError(shared.ReasonEngineInvalid, "%d of %d engine files are not what they should be", wrong, len(verdicts)).
		WithHint("install them again from where you trust them")}
}

func (p *program) pluginInstallCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "install", Usage: "copy an engine file into the home, after verifying it", ArgsUsage: "FILE",
		Description: `Takes the checksum from FILE.sha256, unless --sha256 gives it, and the signature
from FILE.minisig if there is one. A running engine stays; "plugin use" replaces it.`,
		Flags: []cli.Flag{&cli.StringFlag{Name: "sha256", Usage: "expect the file to have the SHA-256 `HEX`"}},
	}, arity{1, 1}, pluginInstall)
}

func pluginInstall(ctx context.Context, v *invocation) error {
	search, _, err := v.search()
	if err != nil {
		return err
	}
	installed, err := plugins.Install(ctx, search, v.absolute(v.args[0]), v.flags.String("sha256"))
	if err != nil {
		return err
	}
	return v.Print(render.InstalledPlugin{Plugin: newPlugin(installed)})
}

func (p *program) pluginUseCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "use", Usage: "use one version of the engine, and no other", ArgsUsage: "VERSION",
		Description: `Writes the version into plugins.lock in the home and replaces a running engine. If
the new one does not work, the old one stays.`,
	}, arity{1, 1}, func(ctx context.Context, v *invocation) error {
		return swap(ctx, v, func(search plugins.Search) (plugins.Change, error) { return plugins.Use(ctx, search, v.args[0]) })
	})
}

func (p *program) pluginRollbackCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "rollback", Usage: "go back to the version of the engine that was used before",
		Description: "Like \"plugin use\" of the version before the last \"use\" or \"install\". Again, it goes back further.",
	}, arity{0, 0}, func(ctx context.Context, v *invocation) error {
		return swap(ctx, v, func(search plugins.Search) (plugins.Change, error) { return plugins.Rollback(ctx, search) })
	})
}

// swap changes which engine is used, and then the running one.
func swap(ctx context.Context, v *invocation, choose func(plugins.Search) (plugins.Change, error)) error {
	search, cfg, err := v.search()
	if err != nil {
		return err
	}
	change, err := choose(search)
	if err != nil {
		return err
	}
	result, err := v.engines.Swap(ctx, cfg, change.Former)
	if err != nil {
		return err
	}
	return v.Print(render.UsedPlugin{
		Version: change.New.Version, Path: change.New.Path, PreviousVersion: change.Old.Version, Swapped: result.Swapped,
	})
}

func (p *program) pluginPinCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "pin", Usage: "write the version that is used, and its digests, into the project's plugins.lock",
		Description: `Commit the file: everybody who works on the project then uses this version, and
exactly these files of it. Outside of a project it is the home's plugins.lock.`,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "remove", Usage: "let plugins.lock ask for no version; it keeps the digests"}},
	}, arity{0, 0}, pluginPin)
}

func pluginPin(ctx context.Context, v *invocation) error {
	search, cfg, err := v.search()
	if err != nil {
		return err
	}
	if cfg.Project != "" {
		unlock, err := v.lockPlace(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	pin := plugins.Pin
	if v.flags.Bool("remove") {
		pin = plugins.Unpin
	}
	pinned, err := pin(ctx, search)
	if err != nil {
		return err
	}
	doc := render.PinnedPlugin{Pinned: !v.flags.Bool("remove"), Version: pinned.Version, File: pinned.File, Platforms: []string{}}
	doc.Platforms = append(doc.Platforms, pinned.Platforms...)
	return v.Print(doc)
}

func (p *program) pluginRemoveCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "remove", Usage: "remove a version of the engine from the home", ArgsUsage: "VERSION",
		Description: `Removes what "plugin install" has put there, for every platform; not the version in
use. What plugins.lock knows of its digests stays.`,
	}, arity{1, 1}, pluginRemove)
}

func pluginRemove(ctx context.Context, v *invocation) error {
	search, _, err := v.search()
	if err != nil {
		return err
	}
	removed, err := plugins.Remove(ctx, search, v.args[0])
	if err != nil {
		return err
	}
	return v.Print(render.RemovedPlugin{Version: strings.TrimPrefix(v.args[0], "v"), Removed: removed})
}
