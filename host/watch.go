package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) watchCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "watch", Usage: "show new releases as they arrive", ArgsUsage: "[WORD...]",
		Description: `Runs until it is interrupted. With words, only releases are shown that have all of
them in name, description or tags. With --json it prints one document a line. What
arrives while the engine is being replaced is not shown, and that is said.`,
		UsageText: `ggen marketplace watch http
ggen marketplace watch --all --json`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "show peers that come and go, and publishers that are quarantined, too"},
			&cli.IntFlag{Name: "count", Usage: "end after `N` events"},
		},
	}, arity{0, many}, watch)
}

// errEnough ends a watch that has shown what it was asked for.
var errEnough = errors.New("enough")

func watch(ctx context.Context, v *invocation) error {
	query := shared.WatchQuery{Text: strings.Join(v.args, " ")}
	if !v.flags.Bool("all") {
		query.Kinds = []shared.EventKind{shared.EventRelease, shared.EventLost}
	}
	left := v.flags.Int("count")
	if left < 0 {
		return usage("--count %d is negative", left)
	}
	return v.withEngine(ctx, func(s session) error {
		err := s.Watch(ctx, query, func(event shared.Event) error {
			if err := v.Print(render.NewEvent(event)); err != nil {
				return err
			}
			if left--; left == 0 {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
}
