package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) installCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "install", Usage: "install packages and what they depend on", ArgsUsage: "[REF...]",
		Description: refHelp + `

In a project packages go to .ggen/packages, else to the home; ggen.lock records
version, publisher and digest. Without REF everything in ggen.lock is installed.
What will be done is shown before it is done, and in a terminal you are asked.
The first install of a name binds it to its publisher: you agree to that when you
are asked, or with --trust; ggen.lock and trust catalogues can vouch for
publishers too. Nothing in a package is ever run.`,
		UsageText: `ggen marketplace install greeting-service --save
ggen marketplace install greeting@1.2.0 ontology-basics --dry-run
ggen marketplace install`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "save", Usage: "enter the packages that are named into [packs] of ggen.toml"},
			&cli.BoolFlag{Name: "trust", Usage: "accept publishers that nobody on this machine has used before"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask before anything is done"},
			&cli.StringFlag{Name: "min-age", Usage: "leave out releases that this peer has known for less than `AGE`, such as 3d"},
			&cli.BoolFlag{Name: "force", Usage: "replace folders whose files were changed"},
			&cli.BoolFlag{Name: "allow-executables", Usage: "accept executable files that a package's manifest does not name"},
			&cli.BoolFlag{Name: "locked", Usage: "end with code 7 if ggen.lock would have to change"},
			&cli.BoolFlag{Name: "frozen", Usage: "the same as --locked and --offline"},
			&cli.BoolFlag{Name: "offline", Usage: "use only what this peer holds"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show what would be installed; touch nothing"},
		},
	}, arity{0, many}, install)
}

func install(ctx context.Context, v *invocation) error {
	refs, err := parseRefs(v.args)
	if err != nil {
		return err
	}
	save, dryRun := v.flags.Bool("save"), v.flags.Bool("dry-run")
	if save {
		if err := v.place.CheckSave(); err != nil {
			return err
		}
	}
	if !dryRun {
		unlock, err := v.lockPlace(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	lock, err := v.place.ReadLockfile()
	if err != nil {
		return err
	}
	wanted := refs
	if len(refs) == 0 {
		if wanted, err = lockedRefs(v.place, lock); err != nil {
			return err
		}
	}
	return v.withEngine(ctx, func(s session) error {
		if len(refs) == 0 {
			if err := v.takeVendored(ctx, s); err != nil {
				return err
			}
		}
		req := shared.InstallRequest{
			Packages: wanted, Root: v.place.Packages(), Locked: lock.Packages,
			Trust: v.flags.Bool("trust"), Force: v.flags.Bool("force"), DryRun: dryRun,
			Offline:     v.flags.Bool("offline") || v.flags.Bool("frozen"),
			Executables: v.flags.Bool("allow-executables"),
		}
		if v.flags.Bool("locked") || v.flags.Bool("frozen") {
			if err := v.checkLocked(ctx, s, req, lock); err != nil {
				return err
			}
		}
		receipt, err := v.agreed(ctx, s, req)
		if len(refs) == 0 {
			receipt.Packages = asBefore(v.place, receipt.Packages)
		}
		facts := render.InstallFacts{First: wanted[0].Name, Root: v.place.Packages(), Lockfile: v.place.Lockfile(), DryRun: dryRun}
		if !dryRun && len(receipt.Packages) > 0 {
			// Also when the install failed half-way: what is in place is recorded.
			if recordErr := v.place.Record(receipt.Packages); recordErr != nil {
				return errors.Join(err, recordErr)
			}
		}
		if err != nil {
			return err
		}
		if save && !dryRun {
			if facts.Saved, err = v.save(receipt.Packages); err != nil {
				return err
			}
		}
		v.Remarks(receipt.Diagnostics)
		return v.Print(render.NewInstall(receipt, facts))
	})
}

// save enters the packages that were asked for into ggen.toml.
func (v *invocation) save(packages []shared.InstalledPackage) (saved []string, err error) {
	var names []string
	for _, pkg := range packages {
		if pkg.Requested {
			names = append(names, pkg.Name)
		}
	}
	kept, err := v.place.Save(names)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if slices.Contains(kept, name) {
			v.Warn("%s has another entry for %s in [%s]; it was left as it is", project.ManifestName, name, "packs")
			continue
		}
		saved = append(saved, name)
	}
	return saved, nil
}

func parseRefs(args []string) ([]shared.Ref, error) {
	var refs []shared.Ref
	for _, arg := range args {
		ref, err := shared.ParseRef(arg)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(refs, func(r shared.Ref) bool { return r.Name == ref.Name }); i >= 0 {
			if refs[i] != ref {
				return nil, usage("%s and %s are the same package", refs[i], ref)
			}
			continue
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// lockedRefs asks for exactly what ggen.lock says.
func lockedRefs(place project.Place, lock project.Lockfile) ([]shared.Ref, error) {
	if len(lock.Packages) == 0 {
		return nil, usage("there is nothing to install: no package is named, and %s has none", place.Lockfile()).
			WithHint("name a package, as in `ggen marketplace install NAME`; `ggen marketplace search` finds some")
	}
	var refs []shared.Ref
	for _, pkg := range lock.Packages {
		refs = append(refs, shared.Ref{Publisher: pkg.Publisher, Name: pkg.Name, Constraint: "=" + pkg.Version})
	}
	return refs, nil
}

// asBefore undoes that an install from ggen.lock has to ask for every package by
// name: who was a dependency stays one. What List cannot say (it fails only
// where reading the lockfile had failed before) stays requested.
func asBefore(place project.Place, packages []shared.InstalledPackage) []shared.InstalledPackage {
	before, err := place.List()
	if err != nil {
		return packages
	}
	requested := map[string]bool{}
	for _, pkg := range before {
		requested[pkg.Name] = pkg.Requested
	}
	packages = slices.Clone(packages)
	for i := range packages {
		packages[i].Requested = requested[packages[i].Name]
	}
	return packages
}

// checkLocked refuses an install that would change ggen.lock.
func (v *invocation) checkLocked(ctx context.Context, s session, req shared.InstallRequest, lock project.Lockfile) error {
	rules, err := v.rules()
	if err != nil {
		return err
	}
	req.DryRun, req.Policy, req.MinAge = true, rules.Policy, rules.MinAge
	plan, err := v.watched(ctx, s, req)
	if err != nil {
		return err
	}
	var changes []string
	for _, pkg := range plan.Packages {
		switch locked, ok := lock.Get(pkg.Name); {
		case !ok:
			changes = append(changes, pkg.Name+" "+pkg.Version+" is not in it")
		case locked.Version != pkg.Version:
			changes = append(changes, fmt.Sprintf("%s would move from %s to %s", pkg.Name, locked.Version, pkg.Version))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return shared.NewError(shared.ReasonLockfile, "%s would have to change: %s", v.place.Lockfile(), strings.Join(changes, ", ")).
		WithHint("run the command without --locked where ggen.lock may change, and commit it")
}
