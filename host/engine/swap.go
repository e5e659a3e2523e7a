package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

const (
	// swapGrace is how long calls that run may go on when their engine is swapped;
	// what does not end by then goes on with the new one, from its start.
	swapGrace = time.Minute
	// healthTimeout bounds the calls by which a new engine shows that it works.
	healthTimeout = 10 * time.Second
)

// Swap replaces the running engine by the one that plugins.lock asks for now, with
// the same settings; swapped is false if none ran, or that one. In either case the
// new engine has shown that it works when Swap returns.
//
// The new engine is started beside the running one and waits for its lock, while
// that one finishes its calls and refuses new ones, whose sessions wait and come to
// the new one. If the new engine is no engine, speaks no protocol of ours, does not
// come up or does not answer, former is put back into plugins.lock, the engine of
// before is started again if it was stopped, and the error says both.
//
// Errors: those of [Connect]; ENGINE_FAILED when the engine of before does not come
// back either.
func Swap(ctx context.Context, cfg Config, former plugins.Choice) (swapped bool, err error) {
	if err := cfg.check(); err != nil {
		return false, err
	}
	if os.Getenv(launch.AttachVariable) != "" || !warmSupported {
		return false, nil // nothing of ours runs
	}
	if err := cfg.prepare(); err != nil {
		return false, err
	}
	err = cfg.locked(ctx, func() error {
		swapped, err = cfg.swap(ctx, former)
		return err
	})
	return swapped, err
}

func (cfg Config) swap(ctx context.Context, former plugins.Choice) (bool, error) {
	undo := func(err error) error {
		return errors.Join(err, plugins.Restore(context.WithoutCancel(ctx), cfg.Search(), former))
	}
	candidate, err := cfg.probe(ctx)
	if err != nil {
		return false, undo(err)
	}
	if err := cfg.forget(); err != nil {
		return false, undo(err)
	}
	running, err := cfg.alive()
	if err != nil {
		return false, undo(err)
	}
	spec := launch.Spec{Home: cfg.home(), Run: cfg.run(), Settings: cfg.Settings}
	var old *connection
	if running {
		old, _, err = reach(ctx, cfg, true)
		if err != nil && !errors.Is(err, ErrNotRunning) {
			return false, undo(err)
		}
	}
	if old == nil {
		return false, cfg.tryOut(ctx, candidate, spec, undo)
	}
	defer func() { _ = old.close() }() // it is gone
	if old.state.Binary == candidate.Path && old.state.Version == candidate.Version {
		return false, nil
	}
	spec.Settings, spec.Stay = old.state.Settings, old.state.Staying
	spec.LockWait = swapGrace + closeTime + launch.DefaultLockWait
	return cfg.exchange(ctx, old, candidate, spec, undo)
}

// probe chooses the new engine and makes it describe itself, beside the old one.
func (cfg Config) probe(ctx context.Context) (plugins.Candidate, error) {
	candidate, err := cfg.choose(ctx)
	if err != nil {
		return candidate, err
	}
	d, err := describe(ctx, candidate)
	if err != nil {
		return candidate, err
	}
	if _, ok := rpc.Negotiate(d.Protocols); !ok {
		return candidate, shared.NewError(shared.ReasonEngineProtocol, "the engine %s speaks the protocols %v, and this ggen speaks %v", candidate.Path, d.Protocols, rpc.Protocols())
	}
	return candidate, nil
}

// tryOut starts the new engine where none runs.
func (cfg Config) tryOut(ctx context.Context, candidate plugins.Candidate, spec launch.Spec, undo func(error) error) error {
	removeStaleSockets(cfg.run())
	c, err := cfg.startHealthy(ctx, candidate, spec)
	if err != nil {
		return undo(err)
	}
	return c.close()
}

// exchange stops the old engine and starts the new one. From here on a Ctrl-C does
// not count: it would leave no engine.
func (cfg Config) exchange(ctx context.Context, old *connection, candidate plugins.Candidate, spec launch.Spec, undo func(error) error) (bool, error) {
	ctx = context.WithoutCancel(ctx)
	next, err := spawn(cfg, candidate, spec)
	if err != nil {
		return false, undo(err)
	}
	if err := old.client.Stop(ctx, swapGrace); err != nil && !errors.Is(err, shared.ReasonEngineFailed) {
		next.kill()
		return false, undo(err)
	}
	c, err := next.healthy(ctx)
	if err == nil {
		return true, c.close()
	}
	return false, cfg.goBack(ctx, old, candidate, spec, undo(err))
}

// goBack starts the engine of before again, after the new one has failed.
func (cfg Config) goBack(ctx context.Context, old *connection, candidate plugins.Candidate, spec launch.Spec, cause error) error {
	if err := cfg.awaitEnd(ctx, swapGrace+closeTime); errors.Is(err, errStillRunning) {
		return shared.NewError(shared.ReasonEngineFailed, "engine %s: %w; the %s runs on", candidate.Version, cause, name(old.state))
	}
	former, err := cfg.choose(ctx)
	if err == nil {
		var c *connection
		if c, err = cfg.startHealthy(ctx, former, spec); err == nil {
			e := *shared.AsError(cause)
			e.Message = fmt.Sprintf("engine %s does not work (%s), so engine %s was started again", candidate.Version, e.Message, former.Version)
			return errors.Join(&e, c.close())
		}
	}
	return cfg.withLog(shared.NewError(shared.ReasonEngineFailed, "engine %s does not work (%w), and engine %s does not start again: %v", candidate.Version, cause, old.state.Version, err))
}

func (cfg Config) startHealthy(ctx context.Context, candidate plugins.Candidate, spec launch.Spec) (*connection, error) {
	s, err := spawn(cfg, candidate, spec)
	if err != nil {
		return nil, err
	}
	return s.healthy(ctx)
}

// healthy attaches to an engine when it is up, and makes it answer calls that go
// through all of it.
func (s *starting) healthy(ctx context.Context) (*connection, error) {
	c, err := s.attach(ctx)
	if err != nil {
		return nil, err
	}
	checking, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if _, err = c.client.Status(checking); err == nil {
		_, err = c.client.Search(checking, shared.SearchQuery{Limit: 1})
	}
	if err == nil {
		return c, nil
	}
	_ = s.cmd.Process.Kill() // the goroutine of attach reaps it
	return nil, errors.Join(s.failed("came up and does not work", err), c.close())
}
