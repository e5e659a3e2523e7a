package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) startCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "start", Usage: "start the peer and keep it running",
		Description: `Returns when the peer is up, which then runs until "p2p stop". Settings come from
flags, then GGEN_P2P_LISTEN, GGEN_P2P_BOOTSTRAP (addresses separated by commas)
and GGEN_P2P_DHT_SERVER, then [marketplace] in the project's ggen.toml, then the
same in config.toml in the home.`,
		UsageText: `ggen marketplace p2p start
ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/4001 --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
ggen marketplace p2p start --foreground`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "listen", Usage: "listen on `ADDRESS`; may be repeated"},
			&cli.StringSliceFlag{Name: "bootstrap", Usage: "join the network through the peer at `ADDRESS`; may be repeated"},
			&cli.BoolFlag{Name: "dht-server", Usage: "answer DHT queries even if not known to be reachable from outside"},
			&cli.StringFlag{Name: "network-key", Usage: "join the private network whose pre-shared key is in `FILE`"},
			&cli.StringSliceFlag{Name: "allow-peer", Usage: "let the peer with this `ID` connect, and nobody else; may be repeated"},
			&cli.BoolFlag{Name: "light", Usage: "keep no catalogue: ask other peers, and verify what they answer"},
			&cli.BoolFlag{Name: "super-peer", Usage: "offer to answer for light peers"},
			&cli.BoolFlag{Name: "no-mdns", Usage: "do not look for peers in the local network"},
			&cli.StringFlag{Name: "metrics-addr", Usage: "serve metrics for Prometheus at this `ADDRESS` of this machine, such as 127.0.0.1:9464"},
			&cli.StringFlag{Name: "config", Usage: "read settings from `FILE` instead of ggen.toml and config.toml"},
			&cli.BoolFlag{Name: "foreground", Usage: "stay in the foreground until interrupted"},
		},
	}, arity{0, 0}, start)
}

func start(ctx context.Context, v *invocation) error {
	var given project.Given
	for _, list := range []struct {
		flag string
		into *[]string
	}{{"listen", &given.Listen}, {"bootstrap", &given.Bootstrap}} {
		for _, text := range v.flags.StringSlice(list.flag) {
			if addresses := project.SplitAddresses(text); addresses != nil {
				*list.into = append(*list.into, addresses...)
			}
		}
	}
	if ids := v.flags.StringSlice("allow-peer"); len(ids) > 0 {
		given.AllowPeers = ids
	}
	if file := v.flags.String("network-key"); file != "" {
		given.NetworkKey = v.absolute(file)
	}
	for flag, into := range map[string]**bool{"dht-server": &given.DHTServer, "light": &given.Light, "super-peer": &given.SuperPeer} {
		if v.flags.IsSet(flag) {
			on := v.flags.Bool(flag)
			*into = &on
		}
	}
	given.MetricsAddr = v.flags.String("metrics-addr")
	if v.flags.IsSet("no-mdns") {
		on := !v.flags.Bool("no-mdns")
		given.MDNS = &on
	}
	cfg, err := v.config(given, v.flags.String("config"))
	if err != nil {
		return err
	}
	if v.flags.Bool("foreground") {
		return foreground(ctx, v, cfg)
	}
	s, started, err := v.engines.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // detaching changes no result
	return v.printStarted(ctx, s, started)
}

// foreground ends without an error when it is interrupted: it did what it was for.
func foreground(ctx context.Context, v *invocation, cfg engineConfig) error {
	var printErr error
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	err := v.engines.Foreground(running, cfg, func(s session) {
		if printErr = v.printStarted(running, s, true); printErr != nil {
			cancel()
		}
	})
	return errors.Join(printErr, err)
}

func (v *invocation) printStarted(ctx context.Context, s session, started bool) error {
	v.Remarks(s.Notices())
	if err := awaitPeer(ctx, s); err != nil {
		return err
	}
	status, info, err := standing(ctx, s)
	if err != nil {
		return err
	}
	v.Remarks(status.Diagnostics)
	return v.Print(render.NewStarted(status, info, started))
}

// firstPeer is how long a peer that was told addresses may take to reach one of them
// before something is said about that.
const firstPeer = 2 * time.Second

// awaitPeer waits until a peer that knows addresses to start from is connected, for a
// short time.
func awaitPeer(ctx context.Context, s session) error {
	ctx, cancel := context.WithTimeout(ctx, firstPeer)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := s.Status(ctx)
		if ctx.Err() != nil {
			return nil // the command itself has more time, or says that it has none
		}
		alone := slices.ContainsFunc(status.Diagnostics, func(d shared.Diagnostic) bool { return d.Reason == shared.ReasonNoPeers })
		if err != nil || status.BootstrapCount == 0 || !alone {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func standing(ctx context.Context, s session) (shared.NodeStatus, shared.EngineInfo, error) {
	status, err := s.Status(ctx)
	if err != nil {
		return status, shared.EngineInfo{}, err
	}
	info, err := s.Info(ctx)
	return status, info, err
}

func (p *program) stopCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "stop", Usage: "stop the peer", Description: "Calls that are running may finish, for at most ten seconds.",
	}, arity{0, 0}, stop)
}

func stop(ctx context.Context, v *invocation) error {
	cfg, err := v.config(project.Given{}, "")
	if err != nil {
		return err
	}
	stopped, err := v.engines.Stop(ctx, cfg, stopGrace)
	if err != nil {
		return err
	}
	return v.Print(render.Stopped{Stopped: stopped})
}

func (p *program) statusCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "status", Usage: "show how the peer stands in the network",
		Description: "Starts nothing: that no peer is running is an answer too.",
	}, arity{0, 0}, status)
}

func status(ctx context.Context, v *invocation) error {
	cfg, err := v.config(project.Given{}, "")
	if err != nil {
		return err
	}
	s, err := v.engines.Attach(ctx, cfg)
	if errors.Is(err, errNotRunning) {
		return v.Print(render.NotRunning())
	}
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // detaching changes no result
	v.Remarks(s.Notices())
	st, info, err := standing(ctx, s)
	if err != nil {
		return err
	}
	v.Remarks(st.Diagnostics)
	return v.Print(render.NewStatus(st, info, time.Now()))
}
