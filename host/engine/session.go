package engine

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"ggen.dev/marketplace/shared"
)

// Session is a marketplace in an engine's process. A call that meets a dead or
// stopping engine goes to a new one, once, where repeating it is safe. Its
// methods may be called concurrently.
type Session struct {
	cfg      Config
	mayStart bool

	mu      sync.Mutex // guards the fields below
	conn    *connection
	retired []*connection // replaced, and perhaps still in use by calls of before
	notices []shared.Diagnostic
	closed  bool
}

var _ shared.Marketplace = (*Session)(nil)

func (s *Session) adopt(c *connection, notices []shared.Diagnostic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
	s.notices = append(s.notices, notices...)
}

// reconnect replaces the connection. While it waits, other calls keep the old one.
func (s *Session) reconnect(ctx context.Context) error {
	c, notices, err := attachOrStart(ctx, s.cfg, s.mayStart)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return c.close()
	}
	if s.conn != nil {
		s.retired = append(s.retired, s.conn)
	}
	s.conn, s.notices = c, append(s.notices, notices...)
	return nil
}

func (s *Session) connection() *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// replace reconnects, unless another call did so since broken was in use.
func (s *Session) replace(ctx context.Context, broken *connection) error {
	if s.connection() != broken {
		return nil
	}
	return s.reconnect(ctx)
}

// Close detaches. The engine lives on, for the next command.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.conn == nil {
		return nil
	}
	s.closed = true
	err := s.conn.close()
	for _, c := range s.retired {
		err = errors.Join(err, c.close())
	}
	return err
}

// Notices are what the user should know about the engine itself.
func (s *Session) Notices() []shared.Diagnostic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]shared.Diagnostic(nil), s.notices...)
}

// drainPatience is how long a call waits, in all, for engines that are stopping:
// one that is swapped finishes its calls first.
const drainPatience = 2 * swapGrace

// call runs one idempotent call, bounded by limit without a sign of life. One whose
// engine is stopping goes to the next engine; one whose engine died is repeated
// once on another.
func call[T any](ctx context.Context, s *Session, limit time.Duration, run func(context.Context, *watchdog, shared.Marketplace) (T, error)) (T, error) {
	begun, died := time.Now(), false
	for {
		conn := s.connection()
		result, err := try(ctx, s.cfg, conn, limit, run)
		switch {
		case err == nil || ctx.Err() != nil:
			return result, err
		case errors.Is(err, shared.ReasonEngineDraining) && time.Since(begun) < drainPatience:
			if err := pause(ctx, err); err != nil {
				return result, err
			}
		case errors.Is(err, shared.ReasonEngineFailed) && !died && !conn.patient:
			died = true
		default:
			return result, err
		}
		if reconnectErr := s.replace(ctx, conn); reconnectErr != nil {
			if errors.Is(reconnectErr, ErrNotRunning) {
				return result, err
			}
			return result, reconnectErr
		}
	}
}

func try[T any](ctx context.Context, cfg Config, c *connection, limit time.Duration, run func(context.Context, *watchdog, shared.Marketplace) (T, error)) (T, error) {
	guarded, w := c.guard(ctx, limit)
	defer w.stop()
	result, err := run(guarded, w, c.client)
	return result, cfg.blame(ctx, c.state, w.explain(guarded, cfg, c, err))
}

// pause obeys a stopping engine that says when to come back.
func pause(ctx context.Context, err error) error {
	ms, parseErr := strconv.Atoi(shared.AsError(err).Metadata["retry_after_ms"])
	if parseErr != nil || ms <= 0 {
		return nil
	}
	timer := time.NewTimer(min(time.Duration(ms)*time.Millisecond, 5*time.Second))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return shared.AsError(ctx.Err())
	}
}

// Info implements shared.Marketplace.
func (s *Session) Info(ctx context.Context) (shared.EngineInfo, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.EngineInfo, error) {
		return m.Info(ctx)
	})
}

// Search implements shared.Marketplace.
func (s *Session) Search(ctx context.Context, query shared.SearchQuery) (shared.SearchResult, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.SearchResult, error) {
		return m.Search(ctx, query)
	})
}

// Describe implements shared.Marketplace.
func (s *Session) Describe(ctx context.Context, ref shared.Ref) (shared.PackageDetails, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.PackageDetails, error) {
		return m.Describe(ctx, ref)
	})
}

// Publish implements shared.Marketplace. It is repeated only when the tree can be
// read again from its start (an [io.Seeker]) and the request has an ID, by which
// an engine that did the work before it died knows it again.
func (s *Session) Publish(ctx context.Context, req shared.PublishRequest, tree io.Reader, report shared.ProgressFunc) (shared.PublishReceipt, error) {
	first := true
	return call(ctx, s, stallLimit, func(ctx context.Context, w *watchdog, m shared.Marketplace) (shared.PublishReceipt, error) {
		if !first {
			if err := rewind(req, tree); err != nil {
				return shared.PublishReceipt{}, err
			}
		}
		first = false
		return m.Publish(ctx, req, w.reader(tree), w.report(report))
	})
}

func rewind(req shared.PublishRequest, tree io.Reader) error {
	seeker, ok := tree.(io.Seeker)
	if !ok || req.RequestID == "" {
		return shared.NewError(shared.ReasonEngineFailed, "the engine ended while the package was sent").
			WithHint("run the command again: what was published before is recognised")
	}
	if _, err := seeker.Seek(0, io.SeekStart); err != nil {
		return shared.NewError(shared.ReasonEngineFailed, "the engine ended while the package was sent, and it cannot be read again: %w", err)
	}
	return nil
}

// Declare implements shared.Marketplace. Repeating it finds what holds already.
func (s *Session) Declare(ctx context.Context, statement shared.Statement) (shared.DeclareReceipt, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.DeclareReceipt, error) {
		return m.Declare(ctx, statement)
	})
}

// Install implements shared.Marketplace. Repeating it finds what is in place.
func (s *Session) Install(ctx context.Context, req shared.InstallRequest, report shared.ProgressFunc) (shared.InstallReceipt, error) {
	return call(ctx, s, stallLimit, func(ctx context.Context, w *watchdog, m shared.Marketplace) (shared.InstallReceipt, error) {
		return m.Install(ctx, req, w.report(report))
	})
}

// Verify implements shared.Marketplace.
func (s *Session) Verify(ctx context.Context, req shared.VerifyRequest) (shared.VerifyReport, error) {
	return call(ctx, s, stallLimit, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.VerifyReport, error) {
		return m.Verify(ctx, req)
	})
}

// Status implements shared.Marketplace.
func (s *Session) Status(ctx context.Context) (shared.NodeStatus, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.NodeStatus, error) {
		return m.Status(ctx)
	})
}

// Peers implements shared.Marketplace.
func (s *Session) Peers(ctx context.Context, query shared.PeerQuery) (shared.PeerList, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.PeerList, error) {
		return m.Peers(ctx, query)
	})
}

// Bootstrap implements shared.Marketplace.
func (s *Session) Bootstrap(ctx context.Context, addresses []string) ([]shared.DialOutcome, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) ([]shared.DialOutcome, error) {
		return m.Bootstrap(ctx, addresses)
	})
}

// Watch implements shared.Marketplace. When the engine is replaced, it goes on with
// the next one, after an event of kind [shared.EventLost]: nobody knows what
// happened in between.
func (s *Session) Watch(ctx context.Context, query shared.WatchQuery, deliver func(shared.Event) error) error {
	for {
		conn := s.connection()
		err := conn.client.Watch(ctx, query, deliver)
		gone := errors.Is(err, shared.ReasonEngineDraining) || errors.Is(err, shared.ReasonEngineFailed) && !conn.patient
		if !gone || ctx.Err() != nil {
			return s.cfg.blame(ctx, conn.state, err)
		}
		if reconnectErr := s.replace(ctx, conn); reconnectErr != nil {
			if errors.Is(reconnectErr, ErrNotRunning) {
				return err
			}
			return reconnectErr
		}
		if err := deliver(shared.Event{Kind: shared.EventLost, Time: time.Now(), Message: "the engine was replaced"}); err != nil {
			return err
		}
	}
}

// watchUntilGone returns when ctx ends or the engine does.
func (s *Session) watchUntilGone(ctx context.Context) error {
	return s.connection().client.Watch(ctx, shared.WatchQuery{Kinds: []shared.EventKind{"none"}}, func(shared.Event) error { return nil })
}
