package main

import (
	"cmp"
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

// The forms of a list of peers.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

func (p *program) peerListCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "peer-list", Usage: "list other peers and what is known of them",
		Description: `A reputation is what this peer has seen itself, between 0 and 1: half of it is
whether a peer delivers, a fifth each how soon it answers and how much it sends,
and a tenth when it last did and how near it is. "p2p peer-info" shows the parts.
With --verbose there are more columns.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "connected", Usage: "only peers that are connected now"},
			&cli.Float64Flag{Name: "min-reputation", Usage: "only peers with a reputation of at least `R` (0 to 1; a stranger has 0.5)"},
			&cli.StringFlag{Name: "sort", Usage: "list them by `ORDER`: reputation, response, bandwidth, last-seen or id (default: connected ones first, then by reputation)"},
			&cli.StringFlag{Name: "format", Usage: "print them as `FORM`: table (default), json (as --json) or yaml"},
		},
		UsageText: `ggen marketplace p2p peer-list --min-reputation 0.6 --sort bandwidth
ggen marketplace p2p peer-list --format yaml`,
	}, arity{0, 0}, peerList)
}

func peerList(ctx context.Context, v *invocation) error {
	query := shared.PeerQuery{ConnectedOnly: v.flags.Bool("connected"), MinReputation: v.flags.Float64("min-reputation")}
	if !(query.MinReputation >= 0 && query.MinReputation <= 1) {
		return usage("--min-reputation %v is not between 0 and 1", query.MinReputation)
	}
	by := v.flags.String("sort")
	before, known := peerOrders[by]
	if !known && by != "" {
		return usage("--sort %s is no order of peers", by).WithHint("choose reputation, response, bandwidth, last-seen or id")
	}
	if err := v.chooseFormat(); err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		peers, err := s.Peers(ctx, query)
		if err != nil {
			return err
		}
		if before != nil {
			slices.SortStableFunc(peers.Peers, func(a, b shared.Peer) int { return cmp.Or(before(a, b), cmp.Compare(a.ID, b.ID)) })
		}
		return v.Print(render.NewPeers(peers))
	})
}

// chooseFormat has the result printed in the form that --format names.
func (v *invocation) chooseFormat() error {
	switch form := v.flags.String("format"); {
	case v.JSON && form != "" && form != formatJSON:
		return usage("--json and --format %s contradict each other", form)
	case form == formatJSON:
		v.JSON = true
	case form == formatYAML:
		v.YAML = true
	case form != "" && form != formatTable:
		return usage("there is no format %q", form).WithHint("choose table, json or yaml")
	}
	return nil
}

// peerOrders put the best first. What was never measured comes after what was.
var peerOrders = map[string]func(a, b shared.Peer) int{
	"reputation": func(a, b shared.Peer) int { return cmp.Compare(b.Reputation, a.Reputation) },
	"response": func(a, b shared.Peer) int {
		return cmp.Compare(uint64(a.AvgResponseTime)-1, uint64(b.AvgResponseTime)-1) // 0 becomes the longest
	},
	"bandwidth": func(a, b shared.Peer) int { return cmp.Compare(b.AvgBandwidth, a.AvgBandwidth) },
	"last-seen": func(a, b shared.Peer) int { return b.LastSeen.Compare(a.LastSeen) },
	"id":        func(a, b shared.Peer) int { return cmp.Compare(a.ID, b.ID) },
}

func (p *program) peerInfoCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "peer-info", Usage: "show what is known of one peer", ArgsUsage: "PEER-ID",
		Description: `Shows a peer's reputation with its parts: value times weight, summed, is the
reputation. With --full also the history behind it: how many dealings went how, the
averages, when it last delivered and failed, rests and bans. --json has all of it.`,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "full", Usage: "show the history behind the reputation, too"}},
	}, arity{1, 1}, peerInfo)
}

// maxPeerID bounds what is sent to an engine as a peer's ID; real ones have about 50.
const maxPeerID = 128

func peerInfo(ctx context.Context, v *invocation) error {
	id := v.args[0]
	if id == "" || len(id) > maxPeerID {
		return usage("%q is not the ID of a peer", id[:min(len(id), maxPeerID)])
	}
	return v.withEngine(ctx, func(s session) error {
		peers, err := s.Peers(ctx, shared.PeerQuery{ID: id})
		if err != nil {
			return err
		}
		for _, peer := range peers.Peers {
			if peer.ID == id {
				doc := render.NewPeer(peer)
				if v.flags.Bool("full") {
					doc = doc.WithHistory()
				}
				return v.Print(doc)
			}
		}
		return shared.NewError(shared.ReasonNotFound, "peer %s is not known here", id).
			WithHint("`ggen marketplace p2p peer-list` shows those that are")
	})
}

func (p *program) bootstrapCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "bootstrap", Usage: "dial peers, and say for each what happened", ArgsUsage: "[ADDRESS...]",
		Description: "Without addresses it dials those of the settings. It fails when none answers.",
		UsageText:   "ggen marketplace p2p bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...",
	}, arity{0, many}, bootstrap)
}

func bootstrap(ctx context.Context, v *invocation) error {
	cfg, err := v.config(project.Given{}, "")
	if err != nil {
		return err
	}
	addresses := cfg.Settings.Bootstrap
	if len(v.args) > 0 {
		addresses = v.args
	}
	if len(addresses) == 0 {
		return usage("there is no address to dial").WithHint("name one, or set %s", project.EnvBootstrap)
	}
	if err := (project.Settings{Bootstrap: addresses}).Check(); err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		outcomes, err := s.Bootstrap(ctx, addresses)
		if err != nil {
			return err
		}
		doc := render.NewBootstrap(outcomes)
		if err := v.Print(doc); err != nil || doc.Connected > 0 {
			return err
		}
		return finding{cause: shared.NewError(shared.ReasonNoPeers, "none of the addresses could be reached").
			WithHint("check the addresses, and that the peers are running")}
	})
}
