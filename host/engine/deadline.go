package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"ggen.dev/marketplace/shared"
)

const (
	// shortCall bounds the calls that answer from memory, or after a few dials.
	shortCall = time.Minute
	// stallLimit bounds how long the other calls may go without any progress. A peer
	// that stalls is given up within a minute, so this is an engine that is stuck.
	stallLimit = 5 * time.Minute
)

// watchdog ends a call when nothing happens for its limit.
type watchdog struct {
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

var errStalled = errors.New("nothing happens")

// guard begins to watch a call. The caller ends it by stop.
func (c *connection) guard(ctx context.Context, limit time.Duration) (context.Context, *watchdog) {
	w := &watchdog{limit: limit}
	ctx, w.cancel = context.WithCancelCause(ctx)
	if !c.patient {
		w.timer = time.AfterFunc(limit, func() { w.cancel(errStalled) })
	}
	return ctx, w
}

func (w *watchdog) alive() {
	if w.timer != nil {
		w.timer.Reset(w.limit)
	}
}

func (w *watchdog) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.cancel(nil)
}

// explain makes the error of a call that was given up one that says so; ctx is the
// one that guard gave.
func (w *watchdog) explain(ctx context.Context, cfg Config, c *connection, err error) error {
	if err == nil || !errors.Is(context.Cause(ctx), errStalled) {
		return err
	}
	return cfg.withLog(shared.NewError(shared.ReasonEngineTimeout, "the %s did nothing for %s", name(c.state), w.limit).
		WithHint("it may be stuck: `ggen marketplace p2p stop` ends it, and the next command starts another"))
}

// report passes progress on, which is a sign of life.
func (w *watchdog) report(to shared.ProgressFunc) shared.ProgressFunc {
	return func(p shared.Progress) {
		w.alive()
		to.Report(p)
	}
}

// reader passes a package on; that it is read is a sign of life too.
func (w *watchdog) reader(r io.Reader) io.Reader { return livelyReader{w, r} }

type livelyReader struct {
	w *watchdog
	r io.Reader
}

// Read implements io.Reader.
func (l livelyReader) Read(p []byte) (int, error) {
	l.w.alive()
	return l.r.Read(p)
}
