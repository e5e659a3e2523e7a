package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// attachTimeout is how long a running engine may take to answer the first call. It
// takes a millisecond unless it is stopped, stuck, or the machine is very busy.
const attachTimeout = 5 * time.Second

// patience is how long to wait for that answer: enough is left of ctx's deadline
// to start another engine. final tells that an engine which has not answered by
// then may be ended.
func patience(ctx context.Context) (wait time.Duration, final bool) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return attachTimeout, true
	}
	wait = min(attachTimeout, time.Until(deadline)/2)
	return wait, wait >= time.Second
}

// endSilent ends an engine that holds its lock and does not answer: its process
// was stopped, or it is stuck. Nobody else could use it either.
func (cfg Config) endSilent(ctx context.Context, state launch.State) (shared.Diagnostic, error) {
	if err := endListener(ctx, state.Address); err != nil {
		return shared.Diagnostic{}, shared.NewError(shared.ReasonEngineTimeout, "the %s does not answer, and cannot be ended: %w", name(state), err).
			WithHint("end process %d and run the command again; its log is %s", state.PID, launch.LogFile(cfg.home()))
	}
	if err := cfg.awaitEnd(ctx, stateTimeout); err != nil {
		return shared.Diagnostic{}, err
	}
	return shared.Diagnostic{
		Severity: shared.SeverityWarning, Reason: shared.ReasonEngineTimeout,
		Message: fmt.Sprintf("the %s did not answer and was ended", name(state)),
		Hint:    "its log is " + launch.LogFile(cfg.home()),
	}, nil
}

// awaitEnd waits until no engine holds its lock.
func (cfg Config) awaitEnd(ctx context.Context, most time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		running, err := cfg.alive()
		if err != nil || !running {
			return err
		}
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				return shared.AsError(ctx.Err())
			}
			return errStillRunning
		case <-tick.C:
		}
	}
}

var errStillRunning = errors.New("the engine does not end")
