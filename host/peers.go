package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) peerListCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "peer-list", Usage: "list other peers and what is known of them",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "connected", Usage: "only peers that are connected now"},
			&cli.Float64Flag{Name: "min-reputation", Usage: "only peers with a reputation of at least `R` (0 to 1; a stranger has 0.5)"},
		},
	}, arity{0, 0}, peerList)
}

func peerList(ctx context.Context, v *invocation) error {
	query := shared.PeerQuery{ConnectedOnly: v.flags.Bool("connected"), MinReputation: v.flags.Float64("min-reputation")}
	if !(query.MinReputation >= 0 && query.MinReputation <= 1) {
		return usage("--min-reputation %v is not between 0 and 1", query.MinReputation)
	}
	return v.withEngine(ctx, func(s session) error {
		peers, err := s.Peers(ctx, query)
		if err != nil {
			return err
		}
		return v.Print(render.NewPeers(peers))
	})
}

func (p *program) peerInfoCommand() *cli.Command {
	return p.leaf(&cli.Command{Name: "peer-info", Usage: "show what is known of one peer", ArgsUsage: "PEER-ID"}, arity{1, 1}, peerInfo)
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
				return v.Print(render.NewPeer(peer))
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
