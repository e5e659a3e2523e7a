package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) yankCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "yank", Usage: "withdraw a release of yours, or allow it again", ArgsUsage: "NAME@VERSION",
		Description: `Nothing is deleted: whoever has the release locked goes on installing it, with a
warning, and nobody else gets it. Only the publisher of a package can yank.`,
		UsageText: `ggen marketplace yank my-package@1.2.0 --why "leaks a token"
ggen marketplace yank my-package@1.2.0 --undo`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "why", Usage: "say why, in `TEXT` that others see"},
			&cli.BoolFlag{Name: "undo", Usage: "allow the release again"},
		},
	}, arity{1, 1}, yank)
}

func yank(ctx context.Context, v *invocation) error {
	ref, err := shared.ParseRef(v.args[0])
	if err != nil {
		return err
	}
	if ref.Constraint == "" || ref.Publisher != "" {
		return usage("%s does not name one release of yours", v.args[0]).WithHint("name it as %s@VERSION", ref.Name)
	}
	statement := shared.Statement{Kind: shared.StatementYank, Package: ref.Name, Version: ref.Constraint, Why: v.flags.String("why")}
	if v.flags.Bool("undo") {
		statement.Kind = shared.StatementUnyank
	}
	return declare(ctx, v, statement)
}

func (p *program) deprecateCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "deprecate", Usage: "advise against a package of yours, or take that back", ArgsUsage: "NAME",
		Description: `It stays installable; whoever looks at it or installs it is told, and it comes
later in searches. Only the publisher of a package can deprecate it.`,
		UsageText: `ggen marketplace deprecate old-package --successor new-package --why "not maintained"
ggen marketplace deprecate old-package --undo`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "successor", Usage: "say what to use instead: `NAME`, or PUBLISHER/NAME"},
			&cli.StringFlag{Name: "why", Usage: "say why, in `TEXT` that others see"},
			&cli.BoolFlag{Name: "undo", Usage: "take the advice back"},
		},
	}, arity{1, 1}, deprecate)
}

func deprecate(ctx context.Context, v *invocation) error {
	if err := shared.CheckName(v.args[0]); err != nil {
		return err
	}
	statement := shared.Statement{Kind: shared.StatementDeprecate, Package: v.args[0], Successor: v.flags.String("successor"), Why: v.flags.String("why")}
	if v.flags.Bool("undo") {
		if statement.Successor != "" {
			return usage("--undo takes the advice back, and names no --successor")
		}
		statement.Kind = shared.StatementUndeprecate
	}
	return declare(ctx, v, statement)
}

func declare(ctx context.Context, v *invocation, statement shared.Statement) error {
	if len(statement.Why) > shared.MaxWhy {
		return usage("--why has %d bytes; %d are allowed", len(statement.Why), shared.MaxWhy)
	}
	return v.withEngine(ctx, func(s session) error {
		receipt, err := s.Declare(ctx, statement)
		if err != nil {
			return err
		}
		v.Remarks(receipt.Diagnostics)
		return v.Print(render.NewDeclared(statement, receipt))
	})
}
