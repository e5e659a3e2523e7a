package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// connection is a gRPC connection to an engine.
type connection struct {
	client   *rpc.Client
	instance string
	close    func() error
}

// attach connects to the engine that holds the lock. The caller holds the host's
// lock. An engine that is just starting or stopping is given some time; the error
// matches [ErrNotRunning] when it is gone after all.
func attach(ctx context.Context, cfg Config) (*connection, error) {
	waiting, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		state, ok := launch.ReadState(cfg.run())
		if ok {
			c, err := dial(waiting, state)
			if err == nil {
				return c, nil
			}
			if errors.Is(err, shared.ReasonEngineTimeout) && waiting.Err() == nil || ctx.Err() != nil {
				return nil, explainSilence(ctx, cfg, state, err)
			}
		}
		running, err := cfg.alive()
		if err != nil {
			return nil, err
		}
		if !running { // it was stopping, or is just dead
			return nil, ErrNotRunning
		}
		select {
		case <-waiting.Done():
			return nil, explainSilence(ctx, cfg, state, shared.NewError(shared.ReasonEngineTimeout, "it holds its lock and does not answer"))
		case <-tick.C:
		}
	}
}

func explainSilence(ctx context.Context, cfg Config, state launch.State, err error) error {
	if ctx.Err() != nil {
		return shared.AsError(ctx.Err())
	}
	return shared.NewError(shared.ReasonEngineTimeout, "the engine (process %d) does not answer: %w", state.PID, err).
		WithHint("it may be stopped or stuck: end process %d and run the command again; its log is %s", state.PID, launch.LogFile(cfg.home()))
}

// dial connects to an engine's socket and asks who it is: this first call makes
// sure that an engine answers, and the one that the state is about.
//
// The engine serves through go-plugin, but this does not go through go-plugin's
// reattach: that takes no context, does no handshake, and hangs for a minute when
// the engine is stopped (measured with SIGSTOP, v1.8.0).
func dial(ctx context.Context, state launch.State) (*connection, error) {
	client, conn, err := rpc.Dial(state.Network, state.Address)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	c := &connection{client: client, instance: state.Instance, close: conn.Close}
	info, err := client.Info(bounded)
	switch {
	case err == nil && info.InstanceID == state.Instance:
		return c, nil
	case err == nil:
		err = shared.NewError(shared.ReasonEngineFailed, "another engine answers than the one that was started")
	case errors.Is(err, shared.ReasonDeadlineExceeded) && ctx.Err() == nil:
		err = shared.NewError(shared.ReasonEngineTimeout, "no answer within %s", attachTimeout)
	}
	return nil, errors.Join(err, c.close())
}

// startForOneCommand starts an engine as an ordinary go-plugin child that ends
// with this command: where no engine can live in the background.
func startForOneCommand(cfg Config) (*connection, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	candidate, err := choose(cfg)
	if err != nil {
		return nil, err
	}
	variable, err := specVariable(launch.Spec{Home: cfg.home(), Run: cfg.run(), Settings: cfg.Settings})
	if err != nil {
		return nil, shared.AsError(err)
	}
	cmd := exec.Command(candidate.Path) //nolint:noctx // go-plugin ends it by Kill
	cmd.Env = append(environment(), variable)
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  rpc.Handshake(),
		VersionedPlugins: rpc.Plugins(nil, nil),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		GRPCDialOptions:  rpc.DialOptions(),
		Cmd:              cmd,
		AutoMTLS:         true,
		StartTimeout:     startTimeout,
		Logger:           hclog.NewNullLogger(),
	})
	protocol, err := client.Client()
	if err != nil {
		client.Kill()
		return nil, failed(cfg, "the engine "+candidate.Path+" did not come up", err)
	}
	dispensed, err := protocol.Dispense(rpc.PluginName)
	if err != nil {
		client.Kill()
		return nil, failed(cfg, "the engine "+candidate.Path+" has no marketplace", err)
	}
	c, ok := dispensed.(*rpc.Client)
	if !ok {
		client.Kill()
		return nil, shared.NewError(shared.ReasonEngineProtocol, "the engine dispenses %T", dispensed)
	}
	return &connection{client: c, close: func() error { client.Kill(); return nil }}, nil
}

// removeStaleSockets deletes what dead engines left in the run folder. The caller
// knows that none is alive.
func removeStaleSockets(run string) {
	entries, err := os.ReadDir(run)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if entry.Type()&os.ModeSocket != 0 || strings.HasPrefix(entry.Name(), "plugin") {
			_ = os.Remove(filepath.Join(run, entry.Name())) // in nobody's way if it stays
		}
	}
}
