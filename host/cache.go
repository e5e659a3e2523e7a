package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) cacheCommand() *cli.Command {
	return &cli.Command{
		Name: "cache", Usage: "what this peer keeps of packages, for itself and for others",
		Subcommands: []*cli.Command{
			p.leaf(&cli.Command{
				Name: "stats", Usage: "show what is kept, and how often it served",
				Description: `What was published here, is pinned, or is installed on this machine always stays.
Of the rest, what nobody has wanted for a week goes, and what was wanted least
lately when it is more than the settings allow.`,
			}, arity{0, 0}, cacheStats),
			p.leaf(&cli.Command{
				Name: "clean", Usage: "remove content that need not stay", ArgsUsage: "[REF...]",
				Description: `Without REF it is everything that was not published here, is not pinned, and is not
installed on this machine. Nothing of a project changes. What is removed is fetched
again when it is wanted.

` + refHelp,
				UsageText: `ggen marketplace cache clean --dry-run
ggen marketplace cache clean --unused 2d
ggen marketplace cache clean greeting-service@1.0.0`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "unused", Usage: "remove only what nobody has wanted for an `AGE` such as 36h or 3d"},
					&cli.BoolFlag{Name: "dry-run", Usage: "show what would be removed, and remove nothing"},
				},
			}, arity{0, many}, cacheClean),
			p.leaf(&cli.Command{
				Name: "verify", Usage: "read all content that is kept, and drop what is damaged",
				Description: "Ends with code 5 if something was damaged. It is fetched again when it is wanted;\nwhat this peer alone had published has to be published again from its folder.",
			}, arity{0, 0}, cacheVerify),
			p.leaf(&cli.Command{
				Name: "pin", Usage: "keep packages and what they depend on, whatever happens", ArgsUsage: "REF...",
				Description: `What is not here is fetched. Pinned content can be installed with --offline, and
others can get it from this peer. It says nothing about trust: ` + "`trust pin`" + ` does.

` + refHelp,
				UsageText: `ggen marketplace cache pin greeting-service@^1`,
				Flags:     []cli.Flag{&cli.BoolFlag{Name: "offline", Usage: "use only what this peer holds"}},
			}, arity{1, many}, cachePin),
			p.leaf(&cli.Command{
				Name: "unpin", Usage: "let go of what was pinned", ArgsUsage: "REF",
				Description: "Without a version it is all of that name. Nothing is removed at once.",
			}, arity{1, 1}, cacheUnpin),
		},
	}
}

func cacheStats(ctx context.Context, v *invocation) error {
	return v.withEngine(ctx, func(s session) error {
		stats, err := s.CacheStats(ctx)
		if err != nil {
			return err
		}
		return v.Print(render.NewCacheStats(stats))
	})
}

func cacheClean(ctx context.Context, v *invocation) error {
	refs, err := parseRefs(v.args)
	if err != nil {
		return err
	}
	req := shared.CleanRequest{Packages: refs, DryRun: v.flags.Bool("dry-run")}
	if text := v.flags.String("unused"); text != "" {
		if req.Unused, err = project.ParseAge(text); err != nil {
			return usage("--unused %s: %w", text, err)
		}
	}
	return v.withEngine(ctx, func(s session) error {
		receipt, err := s.CleanCache(ctx, req)
		v.showCandidates(ctx, s, err)
		if err != nil {
			return err
		}
		v.Remarks(receipt.Diagnostics)
		return v.Print(render.NewCleaned(receipt, req.DryRun))
	})
}

func cacheVerify(ctx context.Context, v *invocation) error {
	return v.withEngine(ctx, func(s session) error {
		progress := v.NewProgress()
		defer progress.Close()
		report, err := s.VerifyCache(ctx, progress.Report)
		progress.Close()
		if err != nil {
			return err
		}
		doc := render.NewCacheReport(report)
		if err := v.Print(doc); err != nil || len(doc.Damaged) == 0 {
			return err
		}
		failure := shared.NewError(shared.ReasonIntegrity, "content was damaged on disk, and is not kept any more").
			WithHint("it is fetched again when it is wanted; check the disk if this happens often")
		if own := doc.Own(); len(own) > 0 {
			failure = failure.WithHint("publish %s again from its folder: this peer may have been the only one that had it", strings.Join(own, ", "))
		}
		return finding{cause: failure}
	})
}

func cachePin(ctx context.Context, v *invocation) error {
	refs, err := parseRefs(v.args)
	if err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		progress := v.NewProgress()
		defer progress.Close()
		receipt, err := s.PinContent(ctx, shared.PinRequest{Packages: refs, Offline: v.flags.Bool("offline")}, progress.Report)
		progress.Close()
		v.showCandidates(ctx, s, err)
		if err != nil {
			return err
		}
		v.Remarks(receipt.Diagnostics)
		return v.Print(render.NewPinnedContent(receipt.Packages, true, receipt.Fetched))
	})
}

func cacheUnpin(ctx context.Context, v *invocation) error {
	refs, err := parseRefs(v.args)
	if err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		released, err := s.UnpinContent(ctx, refs[0])
		if err != nil {
			return err
		}
		return v.Print(render.NewPinnedContent(released, false, 0))
	})
}
