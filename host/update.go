package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) outdatedCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "outdated", Usage: "list installed packages of which there are newer releases",
		Description: `WANTED is what update would install; LATEST is the publisher's newest release, which
a requirement of another package may forbid.`,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "exit-code", Usage: "end with code 9 if there are any"}},
	}, arity{0, 0}, outdated)
}

func (p *program) updateCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "update", Usage: "move installed packages to their newest releases", ArgsUsage: "[NAME...]",
		Description: `Without NAME all packages of ggen.lock may move; otherwise those that are named, and
the others only if they must. Publishers stay the same.`,
		UsageText: `ggen marketplace update --dry-run
ggen marketplace update greeting-service`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "show what would change; touch nothing"},
			&cli.BoolFlag{Name: "trust", Usage: "accept publishers that nobody on this machine has used before"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask before anything is done"},
			&cli.StringFlag{Name: "min-age", Usage: "leave out releases that this peer has known for less than `AGE`, such as 3d"},
			&cli.BoolFlag{Name: "force", Usage: "replace folders whose files were changed"},
			&cli.BoolFlag{Name: "allow-executables", Usage: "accept executable files that a package's manifest does not name"},
			&cli.BoolFlag{Name: "offline", Usage: "use only what this peer holds"},
		},
	}, arity{0, many}, updatePackages)
}

// loosened is an install of what was asked for, in which the named packages (all, if
// none is named) keep their publishers and not their versions.
func loosened(installed []project.Installed, names []string) shared.InstallRequest {
	var req shared.InstallRequest
	for _, pkg := range installed {
		locked := pkg.LockedPackage
		if len(names) == 0 || slices.Contains(names, pkg.Name) {
			locked.Version = ""
		}
		req.Locked = append(req.Locked, locked)
		if pkg.Requested {
			req.Packages = append(req.Packages, shared.Ref{Publisher: pkg.Publisher, Name: pkg.Name})
		}
	}
	return req
}

func updatePackages(ctx context.Context, v *invocation) error {
	dryRun := v.flags.Bool("dry-run")
	if !dryRun {
		unlock, err := v.lockPlace(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	installed, err := v.place.List()
	if err != nil {
		return err
	}
	if len(installed) == 0 {
		return usage("there is nothing to update: %s lists no packages", v.place.Lockfile())
	}
	g := newGraph(installed)
	for _, name := range v.args {
		if err := g.check(name, v); err != nil {
			return err
		}
	}
	return v.withEngine(ctx, func(s session) error {
		req := loosened(installed, v.args)
		req.Root, req.DryRun = v.place.Packages(), dryRun
		req.Trust, req.Force, req.Offline = v.flags.Bool("trust"), v.flags.Bool("force"), v.flags.Bool("offline")
		req.Executables = v.flags.Bool("allow-executables")
		receipt, err := v.agreed(ctx, s, req)
		doc := render.NewUpdate(moves(g, receipt.Packages), dryRun)
		if !dryRun && len(receipt.Packages) > 0 {
			// Also when it failed half-way: what is in place is recorded.
			if recordErr := v.place.Record(receipt.Packages); recordErr != nil {
				return errors.Join(err, recordErr)
			}
		}
		if err != nil {
			return err
		}
		v.Remarks(receipt.Diagnostics)
		if left := left(g, receipt.Packages); len(left) > 0 {
			v.Note("nothing needs these any more: %s; `ggen marketplace remove` takes them away", strings.Join(left, ", "))
		}
		return v.Print(doc)
	})
}

// moves lists what an install changes, by name.
func moves(g graph, now []shared.InstalledPackage) []render.Move {
	changed := []render.Move{}
	for _, pkg := range now {
		if before := g.packages[pkg.Name]; before.Version != pkg.Version || before.Digest != pkg.Digest {
			changed = append(changed, render.Move{Name: pkg.Name, From: before.Version, To: pkg.Version, Publisher: pkg.Publisher})
		}
	}
	slices.SortFunc(changed, func(a, b render.Move) int { return strings.Compare(a.Name, b.Name) })
	return changed
}

// left are packages that came as dependencies and that nothing leads to any more.
func left(g graph, now []shared.InstalledPackage) (names []string) {
	for name, pkg := range g.packages {
		if !pkg.Requested && !slices.ContainsFunc(now, func(p shared.InstalledPackage) bool { return p.Name == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func outdated(ctx context.Context, v *invocation) error {
	installed, err := v.place.List()
	if err != nil {
		return err
	}
	doc := render.Outdated{Packages: []render.OutdatedPackage{}}
	if len(installed) == 0 {
		return v.Print(doc)
	}
	return v.withEngine(ctx, func(s session) error {
		wanted, err := v.wanted(ctx, s, installed)
		if err != nil {
			return err
		}
		for _, pkg := range installed {
			latest, err := newest(ctx, s, pkg)
			if err != nil {
				return err
			}
			row := render.OutdatedPackage{Name: pkg.Name, Current: pkg.Version, Wanted: wanted[pkg.Name], Latest: latest, Publisher: pkg.Publisher}
			if newer(row.Wanted, row.Current) || newer(row.Latest, row.Current) {
				doc.Packages = append(doc.Packages, row)
			}
		}
		doc.Total = len(doc.Packages)
		if err := v.Print(doc); err != nil || doc.Total == 0 || !v.flags.Bool("exit-code") {
			return err
		}
		return finding{shared.NewError(shared.ReasonUnsatisfiable, "%s outdated", map[bool]string{true: "one package is", false: fmt.Sprintf("%d packages are", doc.Total)}[doc.Total == 1]).WithHint("`ggen marketplace update` moves them"), exitFindings}
	})
}

// wanted is what update would install.
func (v *invocation) wanted(ctx context.Context, s session, installed []project.Installed) (map[string]string, error) {
	rules, err := v.rules()
	if err != nil {
		return nil, err
	}
	req := loosened(installed, nil)
	req.Root, req.DryRun, req.Force, req.Policy = v.place.Packages(), true, true, rules.Policy
	receipt, err := v.watched(ctx, s, req)
	if err != nil {
		return nil, fmt.Errorf("see what update would do: %w", err)
	}
	versions := map[string]string{}
	for _, pkg := range receipt.Packages {
		versions[pkg.Name] = pkg.Version
	}
	return versions, nil
}

// newest is the publisher's newest release that is neither withdrawn nor a
// pre-release; if the publisher is not known here any more, what is installed.
func newest(ctx context.Context, s session, pkg project.Installed) (string, error) {
	details, err := s.Describe(ctx, shared.Ref{Publisher: pkg.Publisher, Name: pkg.Name})
	switch {
	case errors.Is(err, shared.ReasonNotFound), errors.Is(err, shared.ReasonNoPeers):
		return pkg.Version, nil
	case err != nil:
		return "", err
	}
	latest := pkg.Version
	for _, release := range details.Versions {
		version, err := semver.StrictNewVersion(release.Version)
		if err == nil && !release.Yanked && version.Prerelease() == "" && newer(release.Version, latest) {
			latest = release.Version
		}
	}
	return latest, nil
}

// newer compares semantic versions; what is none is never newer.
func newer(a, b string) bool {
	first, err := semver.StrictNewVersion(a)
	if err != nil {
		return false
	}
	second, err := semver.StrictNewVersion(b)
	return err == nil && first.GreaterThan(second)
}
