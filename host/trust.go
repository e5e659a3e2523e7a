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
that it is the wrong one. A project whose ggen.lock names another publisher is
refused from then on, until the package is removed there or the pin is changed back.`,
				UsageText: `ggen marketplace trust pin http-client 3fc02d9edf53`,
			}, arity{2, 2}, trustPin),
			p.leaf(&cli.Command{
				Name: "unpin", Usage: "let the next first use decide what a name means", ArgsUsage: "NAME",
			}, arity{1, 1}, trustUnpin),
			p.leaf(&cli.Command{
				Name: "why", Usage: "say whom a name means and why, and who else offers one", ArgsUsage: "NAME",
				Description: `The rules, the strongest first: a pin; a trust catalogue; that nobody else offers
such a package. Well-known names that this one may be taken for are shown too.`,
			}, arity{1, 1}, trustWhy),
			p.leaf(&cli.Command{
				Name: "proof", Usage: "write or check the proof that a publisher signed two different logs", ArgsUsage: "[PUBLISHER]",
				Description: `Such a publisher shows one history to some and another one to others; nothing more
is accepted from it. The proof is a file that anybody can check, without a network
and without trusting you.`,
				UsageText: `ggen marketplace trust proof 3fc02d9edf53 --out proof.json
ggen marketplace trust proof --check proof.json`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "out", Usage: "write the proof to `FILE` (default: fork-PUBLISHER.json)"},
					&cli.StringFlag{Name: "check", Usage: "check the proof in `FILE`"},
				},
			}, arity{0, 1}, trustProof),
			p.catalogueCommand(),
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
