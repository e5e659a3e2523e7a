package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// connection is a gRPC connection to an engine.
type connection struct {
	client  *rpc.Client
	state   launch.State
	patient bool // it may pause for as long as it likes
	close   func() error
}

// attach connects to the engine that holds the lock, as [reach] does, if it speaks
// a protocol of ours. One that does not answer is ended only if mayEnd says so: who
// just looks should not do that.
func attach(ctx context.Context, cfg Config, mayEnd bool) (*connection, []shared.Diagnostic, error) {
	c, notices, err := reach(ctx, cfg, mayEnd)
	if err != nil {
		return nil, notices, err
	}
	if err := negotiate(c.state); err != nil {
		return nil, notices, errors.Join(err, c.close())
	}
	return c, notices, nil
}

// negotiate refuses an engine that speaks no protocol of ours. The newest that
// both speak is used; so far no call depends on which that is.
func negotiate(state launch.State) error {
	if _, ok := rpc.Negotiate(state.Protocols); ok {
		return nil
	}
	return shared.NewError(shared.ReasonEngineProtocol, "the %s speaks the protocols %v, and this ggen speaks %v", name(state), state.Protocols, rpc.Protocols()).
		WithHint("a newer ggen may have started it: use that one, or stop the engine with `ggen marketplace p2p stop`")
}

// reach connects to the engine that holds the lock. The caller holds the host's
// lock. An engine that is just starting or stopping is given some time, and one
// that does not answer at all is ended if mayEnd says so; the error matches [ErrNotRunning] when it
// is gone after all.
func reach(ctx context.Context, cfg Config, mayEnd bool) (*connection, []shared.Diagnostic, error) {
	giveUp := time.Now().Add(stateTimeout)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		state, ok := launch.ReadState(cfg.run())
		if ok {
			c, err := dial(ctx, state)
			switch {
			case err == nil:
				return c, nil, nil
			case ctx.Err() != nil:
				return nil, nil, shared.AsError(ctx.Err())
			case errors.Is(err, shared.ReasonEngineDraining): // it finishes what runs, and says so
				giveUp = time.Now().Add(stateTimeout)
			case errors.Is(err, shared.ReasonEngineTimeout):
				return cfg.replace(ctx, state, err, mayEnd)
			}
		}
		running, err := cfg.alive()
		if err != nil {
			return nil, nil, err
		}
		if !running { // it was stopping, or is just dead
			return nil, nil, ErrNotRunning
		}
		if time.Now().After(giveUp) {
			return nil, nil, shared.NewError(shared.ReasonEngineTimeout, "an engine holds %s and cannot be reached", launch.LockFile(cfg.run())).
				WithHint("end process %d, if that is an engine, and run the command again; its log is %s", state.PID, launch.LogFile(cfg.home()))
		}
		select {
		case <-ctx.Done():
			return nil, nil, shared.AsError(ctx.Err())
		case <-tick.C:
		}
	}
}

// replace ends an engine that does not answer, unless there was too little time
// to be sure of that.
func (cfg Config) replace(ctx context.Context, state launch.State, silence error, mayEnd bool) (*connection, []shared.Diagnostic, error) {
	if !mayEnd {
		return nil, nil, cfg.withLog(shared.NewError(shared.ReasonEngineTimeout, "the %s does not answer: %w", name(state), silence).
			WithHint("the next command that needs it replaces it; `ggen marketplace p2p stop` ends it"))
	}
	if _, final := patience(ctx); !final {
		return nil, nil, cfg.withLog(shared.NewError(shared.ReasonEngineTimeout, "the %s does not answer: %w", name(state), silence).
			WithHint("allow the command more time: an engine that does not answer for %s is replaced", attachTimeout))
	}
	notice, err := cfg.endSilent(ctx, state)
	if err != nil {
		return nil, nil, err
	}
	return nil, []shared.Diagnostic{notice}, ErrNotRunning
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
	wait, _ := patience(ctx)
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	c := &connection{client: client, state: state, close: conn.Close}
	info, err := client.Info(bounded)
	switch {
	case err == nil && info.InstanceID == state.Instance:
		c.state.Protocols = info.Protocols
		return c, nil
	case err == nil:
		err = shared.NewError(shared.ReasonEngineFailed, "another engine answers than the one that was started")
	case errors.Is(err, shared.ReasonDeadlineExceeded):
		err = shared.NewError(shared.ReasonEngineTimeout, "no answer within %s", wait.Round(time.Millisecond))
	}
	return nil, errors.Join(err, c.close())
}

// attachByHand connects to the engine that launch.AttachVariable names, which
// somebody runs in a terminal, perhaps under a debugger.
func attachByHand(ctx context.Context, socket string) (*connection, []shared.Diagnostic, error) {
	client, conn, err := rpc.DialPatiently("unix", socket)
	if err != nil {
		return nil, nil, err
	}
	info, err := client.Info(ctx)
	if err != nil {
		err = shared.NewError(shared.ReasonEngineFailed, "the engine at %s=%s: %w", launch.AttachVariable, socket, err).
			WithHint("start it again (serve -debug) and set what it prints, or unset %s", launch.AttachVariable)
		return nil, nil, errors.Join(err, conn.Close())
	}
	c := &connection{
		client: client, patient: true, close: conn.Close,
		state: launch.State{PID: info.PID, Instance: info.InstanceID, Version: info.Version, Protocols: info.Protocols, Network: "unix", Address: socket},
	}
	if err := negotiate(c.state); err != nil {
		return nil, nil, errors.Join(err, c.close())
	}
	return c, []shared.Diagnostic{{
		Severity: shared.SeverityWarning, Message: "attached to the " + name(c.state) + ", because " + launch.AttachVariable + " is set",
		Hint: "unset " + launch.AttachVariable + " to use the installed engine",
	}}, nil
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
