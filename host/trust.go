package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) trustCommand() *cli.Command {
	return &cli.Command{
		Name: "trust", Usage: "which publisher a package's name means on this machine",
		Subcommands: []*cli.Command{
			p.leaf(&cli.Command{
				Name: "list", Usage: "list the names that are pinned, and to whom",
			}, arity{0, 0}, trustList),
			p.leaf(&cli.Command{
				Name: "pin", Usage: "let a name mean this publisher, whatever it meant before", ArgsUsage: "NAME PUBLISHER",
				Description: `PUBLISHER is an ID, or the beginning of one that publishes such a package. The
first install of a package pins its publisher by itself; use this when you know
that it is the wrong one. Projects go on as their ggen.lock says.`,
				UsageText: `ggen marketplace trust pin http-client 3fc02d9edf53`,
			}, arity{2, 2}, trustPin),
			p.leaf(&cli.Command{
				Name: "unpin", Usage: "let the next first use decide what a name means", ArgsUsage: "NAME",
			}, arity{1, 1}, trustUnpin),
		},
	}
}

func trustList(ctx context.Context, v *invocation) error {
	return v.withEngine(ctx, func(s session) error {
		pins, err := s.Pins(ctx)
		if err != nil {
			return err
		}
		return v.Print(render.NewPins(pins))
	})
}

func trustPin(ctx context.Context, v *invocation) error {
	id, err := shared.ParsePublisherID(v.args[1])
	if err != nil {
		return err
	}
	return setPin(ctx, v, v.args[0], id)
}

func trustUnpin(ctx context.Context, v *invocation) error { return setPin(ctx, v, v.args[0], "") }

// setPin reads back what the name means now: a prefix was completed by the engine.
func setPin(ctx context.Context, v *invocation, name string, id shared.PublisherID) error {
	if err := shared.CheckName(name); err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		former, err := s.SetPin(ctx, name, id)
		if err != nil {
			return err
		}
		pins, err := s.Pins(ctx)
		if err != nil {
			return err
		}
		return v.Print(render.NewRepinned(name, former, pins))
	})
}
