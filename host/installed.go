package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) listCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "list", Usage: "list installed packages",
		Description: "Reads ggen.lock; no engine is needed.",
	}, arity{0, 0}, list)
}

func list(_ context.Context, v *invocation) error {
	installed, err := v.place.List()
	if err != nil {
		return err
	}
	doc := render.List{Packages: []render.Listed{}, Total: len(installed), Root: v.place.Root()}
	for _, pkg := range installed {
		dependencies := pkg.Dependencies
		if dependencies == nil {
			dependencies = []string{}
		}
		doc.Packages = append(doc.Packages, render.Listed{
			Name: pkg.Name, Version: pkg.Version, Title: pkg.Title, Description: pkg.Description, Publisher: pkg.Publisher,
			Digest: pkg.Digest, Dependencies: dependencies, Path: pkg.Path, Requested: pkg.Requested, Present: pkg.Present,
		})
	}
	return v.Print(doc)
}

func (p *program) removeCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "remove", Usage: "remove installed packages", ArgsUsage: "NAME...",
		Description: `Removes the folder, the entry in ggen.lock and the line in [packs] of ggen.toml.
What other installed packages need stays, and so does what was changed since it was
installed, unless --force.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "remove also what other packages need, and what was changed"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "ask nothing; for scripts"},
		},
	}, arity{1, many}, remove)
}

func remove(ctx context.Context, v *invocation) error {
	for _, name := range v.args {
		if err := shared.CheckName(name); err != nil {
			return err
		}
	}
	unlock, err := v.lockPlace(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !v.flags.Bool("force") {
		if err := v.checkUnchanged(ctx, v.args); err != nil {
			return err
		}
	}
	removal, err := v.place.Remove(v.args, v.flags.Bool("force"))
	if err != nil {
		return err
	}
	for _, name := range removal.Kept {
		v.Warn("ggen.toml still names %s in [packs]: the entry was not made by ggen, or does not stand on lines of its own", name)
	}
	if len(removal.Unused) > 0 {
		v.Note("nothing needs these any more: %s", strings.Join(removal.Unused, ", "))
	}
	doc := render.Remove{Removed: []render.Removed{}, Total: len(removal.Removed), Unused: []string{}}
	for _, pkg := range removal.Removed {
		doc.Removed = append(doc.Removed, render.Removed{Name: pkg.Name, Version: pkg.Version, Path: filepath.Join(v.place.Packages(), pkg.Name)})
	}
	doc.Unused = append(doc.Unused, removal.Unused...)
	return v.Print(doc)
}

// checkUnchanged refuses to lose what somebody did to installed packages. What is not
// installed, or needed by others, is for [project.Place.Remove] to refuse.
func (v *invocation) checkUnchanged(ctx context.Context, names []string) error {
	lock, err := v.place.ReadLockfile()
	if err != nil {
		return err
	}
	var packages []shared.LockedPackage
	for _, name := range names {
		pkg, ok := lock.Get(name)
		if !ok || len(lock.NeededBy(name, names)) > 0 {
			return nil
		}
		if v.place.Present(name) {
			packages = append(packages, pkg)
		}
	}
	if len(packages) == 0 {
		return nil
	}
	return v.withEngine(ctx, func(s session) error {
		report, err := s.Verify(ctx, shared.VerifyRequest{Root: v.place.Packages(), Packages: packages})
		if err != nil {
			return err
		}
		if doc := render.NewVerify(report); !doc.OK {
			return shared.NewError(shared.ReasonModified, "files of %s were changed since it was installed, and would be lost", strings.Join(doc.Differing(), ", ")).
				WithHint("`ggen marketplace verify` shows which; --force removes them")
		}
		return nil
	})
}

func (p *program) verifyCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "verify", Usage: "compare installed files with what was published", ArgsUsage: "[NAME...]",
		Description: "Checks every file of the packages in ggen.lock, or of those that are named, and\nends with code 5 if one was changed, is missing or was added.",
	}, arity{0, many}, verify)
}

func verify(ctx context.Context, v *invocation) error {
	lock, err := v.place.ReadLockfile()
	if err != nil {
		return err
	}
	packages := lock.Packages
	if len(v.args) > 0 {
		packages = nil
		for _, name := range v.args {
			if err := shared.CheckName(name); err != nil {
				return err
			}
			pkg, found := lock.Get(name)
			if !found {
				return shared.NewError(shared.ReasonNotFound, "verify %s: it is not installed in %s", name, v.place.Root()).
					WithHint("`ggen marketplace list` shows what is")
			}
			packages = append(packages, pkg)
		}
	}
	if len(packages) == 0 {
		v.Note("no packages are installed in %s", v.place.Root())
		return v.Print(render.NewVerify(shared.VerifyReport{}))
	}
	return v.withEngine(ctx, func(s session) error {
		report, err := s.Verify(ctx, shared.VerifyRequest{Root: v.place.Packages(), Packages: packages})
		if err != nil {
			return err
		}
		v.Remarks(report.Diagnostics)
		doc := render.NewVerify(report)
		if err := v.Print(doc); err != nil || doc.OK {
			return err
		}
		return finding{cause: shared.NewError(shared.ReasonIntegrity, "these packages are not as they were published: %s", strings.Join(doc.Differing(), ", ")).
			WithHint("`ggen marketplace install --force` puts them back")}
	})
}
