package main

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/folder"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) packageCommand() *cli.Command {
	return &cli.Command{Name: "package", Usage: "write packages and check them", Subcommands: []*cli.Command{
		p.leaf(&cli.Command{
			Name: "new", Usage: "write a package to begin with", ArgsUsage: "NAME",
			Description: `Writes a manifest, a readme, a template and a .ggenignore to a folder that is
empty or not there yet. The package can be published as it is. No engine is
needed.`,
			UsageText: `ggen marketplace package new my-templates
ggen marketplace package new my-pack --kind pack --dir ./packs/mine`,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "kind", Value: folder.Kinds()[0], Usage: "write the manifest of `KIND`: package, gpack or pack"},
				&cli.StringFlag{Name: "dir", Usage: "write to `DIR` (default: a folder NAME in the working folder)"},
			},
		}, arity{1, 1}, packageNew),
		p.leaf(&cli.Command{
			Name: "lint", Usage: "say what is wrong with a package, and what could be better", ArgsUsage: "[DIR]",
			Description: `DIR (default: the working folder) is checked as by a publish, without one: all
findings are told with file, line and a way to mend them. It ends with code 2 if
the package cannot be published.`,
			UsageText: `ggen marketplace package lint
ggen marketplace package lint ./my-package --json`,
		}, arity{0, 1}, packageLint),
	}}
}

func packageNew(_ context.Context, v *invocation) error {
	name := v.args[0]
	dir := name
	if v.flags.IsSet("dir") {
		dir = v.flags.String("dir")
	}
	if err := shared.CheckName(name); err != nil {
		return err
	}
	if dir == "" {
		return usage("--dir is empty text")
	}
	doc := render.NewPackage{Package: name, Kind: v.flags.String("kind"), Path: v.absolute(dir)}
	files, err := folder.WriteSkeleton(doc.Path, name, doc.Kind)
	if err != nil {
		return err
	}
	doc.Files = files
	return v.Print(doc)
}

func packageLint(ctx context.Context, v *invocation) error {
	dir := "."
	if len(v.args) > 0 {
		dir = v.args[0]
	}
	if dir == "" {
		return usage("the folder to check is empty text")
	}
	path := v.absolute(dir)
	tree, err := folder.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = tree.Close() }() // only read
	return v.withEngine(ctx, func(s session) error {
		// An older engine does not know of lint, and must not publish.
		receipt, err := upload(ctx, s, shared.PublishRequest{DryRun: true, Lint: true}, tree, nil)
		findings := receipt.Findings
		if err != nil {
			mistake, ok := mistakeOf(err)
			if !ok {
				return err
			}
			findings = append(findings, mistake)
		}
		v.Remarks(receipt.Diagnostics)
		doc := render.NewLint(path, findings)
		if err := v.Print(doc); err != nil || doc.OK {
			return err
		}
		return finding{cause: shared.NewError(shared.ReasonInvalidPackage, "%s cannot be published as it is", filepath.Base(path)).
			WithHint("mend what is marked as an error")}
	})
}

// mistakeOf turns an error into the finding that says the same, if it is about the
// package: a pattern that cannot be followed, or what an older engine says.
func mistakeOf(err error) (shared.Finding, bool) {
	typed := shared.AsError(err)
	if !slices.Contains([]shared.Reason{shared.ReasonInvalidManifest, shared.ReasonInvalidPackage, shared.ReasonLimitExceeded}, typed.Reason) {
		return shared.Finding{}, false
	}
	f := shared.Finding{
		Severity: shared.SeverityError, Rule: strings.ToLower(string(typed.Reason)),
		File: cmp.Or(typed.Metadata["file"], typed.Metadata["path"]), Message: typed.Message, Fix: typed.Hint,
	}
	f.Line, _ = strconv.Atoi(typed.Metadata["line"]) // 0, if there is none
	f.Column, _ = strconv.Atoi(typed.Metadata["column"])
	// The place stands in the message too.
	if _, message, ok := strings.Cut(f.Message, f.Where()+": "); ok && f.Line > 0 {
		f.Message = message
	}
	return f, true
}
