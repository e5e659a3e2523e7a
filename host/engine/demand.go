package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// fit gives the connection to an engine that may be used here: the one that runs, or,
// if that is another one than the lock files or the environment ask for, the right
// one in its place, with the same settings. The caller holds the host's lock.
func (cfg Config) fit(ctx context.Context, c *connection) (*connection, []shared.Diagnostic, error) {
	why, err := cfg.misfit(c.state)
	if err != nil {
		return nil, nil, errors.Join(err, c.close())
	}
	if why == "" {
		return c, cfg.Search().Warnings(), nil
	}
	defer func() { _ = c.close() }() // it is gone then
	candidate, err := cfg.probe(ctx)
	if err != nil {
		return nil, nil, err
	}
	spec := launch.Spec{
		Home: cfg.home(), Run: cfg.run(), Settings: c.state.Settings, Stay: c.state.Staying,
		LockWait: swapGrace + closeTime + launch.DefaultLockWait,
	}
	if _, err := cfg.exchange(ctx, c, candidate, spec, func(err error) error { return err }); err != nil {
		return nil, nil, err
	}
	notice := shared.Diagnostic{
		Severity: shared.SeverityWarning, Message: fmt.Sprintf("the %s was replaced by %s: %s", name(c.state), candidate.Path, why),
	}
	next, notices, err := attach(ctx, cfg, true)
	return next, append(append(notices, notice), cfg.Search().Warnings()...), err
}

// misfit says why an engine that runs is not the one to use; it is empty if it is.
func (cfg Config) misfit(state launch.State) (why string, err error) {
	demand, err := plugins.Demanded(cfg.Search())
	if err != nil {
		return "", err
	}
	switch {
	case demand.Development != "" && !sameFile(demand.Development, state.Binary):
		return demand.By + " names this one", nil
	case demand.Development == "" && cfg.unverified(state):
		return "that one was started by " + plugins.DevVariable + ", unverified", nil
	case demand.Version != "" && demand.Version != state.Version && demand.Development == "":
		return fmt.Sprintf("%s asks for engine %s", demand.By, demand.Version), nil
	}
	return "", nil
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// unverified tells whether an engine that runs was started without being verified.
func (cfg Config) unverified(state launch.State) bool {
	file := launch.UnverifiedFile(cfg.run())
	info, err := os.Lstat(file)
	if err != nil || info.Size() != int64(len(state.Instance)) || !info.Mode().IsRegular() {
		return false
	}
	instance, err := os.ReadFile(file)
	return err == nil && string(instance) == state.Instance
}

// noteVerification leaves word for later commands of how an engine was started.
func (cfg Config) noteVerification(candidate plugins.Candidate, state launch.State) error {
	file := launch.UnverifiedFile(cfg.run())
	if candidate.Development() {
		return os.WriteFile(file, []byte(state.Instance), 0o600)
	}
	if err := os.Remove(file); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
