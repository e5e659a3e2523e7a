package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) treeCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "tree", Usage: "show which installed package needs which", ArgsUsage: "[NAME...]",
		Description: `Begins with the packages that were asked for, or with those that are named. Reads
ggen.lock; no engine is needed.`,
	}, arity{0, many}, tree)
}

func (p *program) whyCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "why", Usage: "say which packages an installed one is there for", ArgsUsage: "NAME",
		Description: `Shows the ways that lead to it from packages that were asked for, at most 20 of
them. Reads ggen.lock; no engine is needed.`,
	}, arity{1, 1}, why)
}

func tree(_ context.Context, v *invocation) error {
	installed, err := v.place.List()
	if err != nil {
		return err
	}
	g := newGraph(installed)
	roots := v.args
	if len(roots) == 0 {
		roots = g.requested
	}
	var trees []render.TreeNode
	shown := map[string]bool{}
	for _, name := range roots {
		if err := g.check(name, v); err != nil {
			return err
		}
		trees = append(trees, g.node(name, shown))
	}
	return v.Print(render.NewTree(trees, len(installed)))
}

func why(_ context.Context, v *invocation) error {
	installed, err := v.place.List()
	if err != nil {
		return err
	}
	g := newGraph(installed)
	name := v.args[0]
	if err := g.check(name, v); err != nil {
		return err
	}
	pkg := g.packages[name]
	doc := render.Why{Package: name, Version: pkg.Version, Requested: pkg.Requested, Paths: [][]string{}}
	for _, root := range g.requested {
		if root != name {
			g.paths(root, name, []string{root}, &doc.Paths)
		}
	}
	return v.Print(doc)
}

// maxPaths bounds how many ways to a package are shown: there may be exponentially many.
const maxPaths = 20

// check refuses a package that is not installed.
func (g graph) check(name string, v *invocation) error {
	if err := shared.CheckName(name); err != nil {
		return err
	}
	if _, ok := g.packages[name]; !ok {
		return shared.NewError(shared.ReasonNotFound, "%s is not installed in %s", name, v.place.Root()).
			WithHint("`ggen marketplace list` shows what is")
	}
	return nil
}
