package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

// maxSearch is the contract's limit on one page of a search.
const maxSearch = 1000

func (p *program) searchCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "search", Usage: "find packages in the catalogue", ArgsUsage: "[WORD...]",
		Description: `Searches the copy of the catalogue that this peer keeps: names, titles,
descriptions, keywords, tags, categories, authors and the beginning of readmes.
Of packages that match about equally well, those that more peers hold come
first. Without words it lists everything.

--min-reputation leaves out what only peers may have that have served this one
badly, or that it knows nothing of: a package stays if this peer knows a holder
of that reputation (see "p2p peer-list"), which is a peer that has given it the
package, or that the network has named as a provider when somebody here
searched for the package, looked at it or installed it.`,
		UsageText: `ggen marketplace search http service
ggen marketplace search --category api --limit 5 --json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "category", Usage: "only packages of `CATEGORY`"},
			&cli.StringFlag{Name: "tag", Usage: "only packages with `TAG`"},
			&cli.StringFlag{Name: "publisher", Usage: "only packages of publisher `ID` (8 digits are enough if they are unique)"},
			&cli.StringFlag{Name: "license", Usage: "only packages under `LICENSE`"},
			&cli.Float64Flag{Name: "min-reputation", Usage: "only packages of which a holder is known with a reputation of at least `R` (0 to 1; a stranger has 0.5)"},
			&cli.StringFlag{Name: "sort", Usage: "list them by `ORDER`: relevance (default), name or newest"},
			&cli.IntFlag{Name: "limit", Value: 20, Usage: "at most `N` packages (1 to 1000; default 20)"},
			&cli.IntFlag{Name: "offset", Usage: "leave out the first `N` packages"},
		},
	}, arity{0, many}, search)
}

func search(ctx context.Context, v *invocation) error {
	query := shared.SearchQuery{
		Text: strings.Join(v.args, " "), Category: v.flags.String("category"), Tag: v.flags.String("tag"),
		License: v.flags.String("license"), MinReputation: v.flags.Float64("min-reputation"), Limit: v.flags.Int("limit"), Offset: v.flags.Int("offset"),
	}
	if query.Limit < 1 || query.Limit > maxSearch {
		return usage("--limit %d is not between 1 and %d", query.Limit, maxSearch)
	}
	if order := v.flags.String("sort"); order != "" {
		if query.Sort = shared.SearchOrder(order); !slices.Contains(shared.SearchOrders(), query.Sort) {
			return usage("--sort %s is not relevance, name or newest", order)
		}
	}
	if !(query.MinReputation >= 0 && query.MinReputation <= 1) {
		return usage("--min-reputation %v is not between 0 and 1", query.MinReputation)
	}
	if query.Offset < 0 {
		return usage("--offset %d is negative", query.Offset)
	}
	if publisher := v.flags.String("publisher"); publisher != "" {
		id, err := shared.ParsePublisherID(publisher)
		if err != nil {
			return err
		}
		query.Publisher = id
	}
	return v.withEngine(ctx, func(s session) error {
		result, err := s.Search(ctx, query)
		if err != nil {
			return err
		}
		v.Remarks(result.Diagnostics)
		return v.Print(render.NewSearch(result))
	})
}

func (p *program) infoCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "info", Usage: "show what is known of a package", ArgsUsage: "REF",
		Description: refHelp,
		UsageText: `ggen marketplace info greeting
ggen marketplace info 3f9a1c22/greeting@^1.2
ggen marketplace info greeting --proof --file README.md`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "proof", Usage: "verify the release anew, and say step by step how its digest leads to its publisher"},
			&cli.StringFlag{Name: "file", Usage: "with --proof: begin at the package's file `PATH`"},
		},
	}, arity{1, 1}, info)
}

// refHelp explains REF wherever one is taken.
const refHelp = `REF is [PUBLISHER/]NAME[@RANGE]: a package's name, where needed with the first
8 or more digits of its publisher, and a version or a range of versions.`

func info(ctx context.Context, v *invocation) error {
	ref, err := shared.ParseRef(v.args[0])
	if err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		if v.flags.Bool("proof") || v.flags.IsSet("file") {
			proven, err := s.Prove(ctx, ref, v.flags.String("file"))
			v.showCandidates(ctx, s, err)
			if err != nil {
				return err
			}
			return v.Print(render.NewProvenance(proven))
		}
		details, err := s.Describe(ctx, ref)
		v.showCandidates(ctx, s, err)
		if err != nil {
			return err
		}
		v.Remarks(details.Diagnostics)
		return v.Print(render.NewInfo(details))
	})
}
