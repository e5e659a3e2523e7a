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
	old := s.conn
	s.conn, s.notices = c, append(s.notices, notices...)
	if old != nil {
		return old.close()
	}
	return nil
}

// Close detaches. The engine lives on, for the next command.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.conn == nil {
		return nil
	}
	s.closed = true
	return s.conn.close()
}

// Notices are what the user should know about the engine itself.
func (s *Session) Notices() []shared.Diagnostic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]shared.Diagnostic(nil), s.notices...)
}

// again tells whether an error means that another engine could do better: this
// one died or hung up, or is about to stop.
func again(err error) bool {
	return errors.Is(err, shared.ReasonEngineFailed) || errors.Is(err, shared.ReasonEngineDraining)
}

// call runs one idempotent call, and once more on a new engine if it has to be.
func call[T any](ctx context.Context, s *Session, run func(shared.Marketplace) (T, error)) (T, error) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	result, err := run(conn.client)
	if !again(err) || ctx.Err() != nil {
		return result, err
	}
	if err := pause(ctx, err); err != nil {
		return result, err
	}
	if reconnectErr := s.reconnect(ctx); reconnectErr != nil {
		return result, reconnectErr
	}
	s.mu.Lock()
	conn = s.conn
	s.mu.Unlock()
	return run(conn.client)
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
	return call(ctx, s, func(m shared.Marketplace) (shared.EngineInfo, error) { return m.Info(ctx) })
}

// Search implements shared.Marketplace.
func (s *Session) Search(ctx context.Context, query shared.SearchQuery) (shared.SearchResult, error) {
	return call(ctx, s, func(m shared.Marketplace) (shared.SearchResult, error) { return m.Search(ctx, query) })
}

// Describe implements shared.Marketplace.
func (s *Session) Describe(ctx context.Context, ref shared.Ref) (shared.PackageDetails, error) {
	return call(ctx, s, func(m shared.Marketplace) (shared.PackageDetails, error) { return m.Describe(ctx, ref) })
}

// Publish implements shared.Marketplace. It is repeated only when the tree can be
// read again from its start (an [io.Seeker]) and the request has an ID, by which
// an engine that did the work before it died knows it again.
func (s *Session) Publish(ctx context.Context, req shared.PublishRequest, tree io.Reader, report shared.ProgressFunc) (shared.PublishReceipt, error) {
	first := true
	return call(ctx, s, func(m shared.Marketplace) (shared.PublishReceipt, error) {
		if !first {
			if err := rewind(req, tree); err != nil {
				return shared.PublishReceipt{}, err
			}
		}
		first = false
		return m.Publish(ctx, req, tree, report)
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

// Install implements shared.Marketplace. Repeating it finds what is in place.
func (s *Session) Install(ctx context.Context, req shared.InstallRequest, report shared.ProgressFunc) (shared.InstallReceipt, error) {
	return call(ctx, s, func(m shared.Marketplace) (shared.InstallReceipt, error) { return m.Install(ctx, req, report) })
}

// Verify implements shared.Marketplace.
func (s *Session) Verify(ctx context.Context, req shared.VerifyRequest) (shared.VerifyReport, error) {
	return call(ctx, s, func(m shared.Marketplace) (shared.VerifyReport, error) { return m.Verify(ctx, req) })
}

// Status implements shared.Marketplace.
func (s *Session) Status(ctx context.Context) (shared.NodeStatus, error) {
	return call(ctx, s, func(m shared.Marketplace) (shared.NodeStatus, error) { return m.Status(ctx) })
}

// Peers implements shared.Marketplace.
func (s *Session) Peers(ctx context.Context, query shared.PeerQuery) (shared.PeerList, error) {
	return call(ctx, s, func(m shared.Marketplace) (shared.PeerList, error) { return m.Peers(ctx, query) })
}

// Bootstrap implements shared.Marketplace.
func (s *Session) Bootstrap(ctx context.Context, addresses []string) ([]shared.DialOutcome, error) {
	return call(ctx, s, func(m shared.Marketplace) ([]shared.DialOutcome, error) { return m.Bootstrap(ctx, addresses) })
}

// Watch implements shared.Marketplace. It is not repeated: what happened between
// two engines would be missing without a word.
func (s *Session) Watch(ctx context.Context, query shared.WatchQuery, deliver func(shared.Event) error) error {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	return conn.client.Watch(ctx, query, deliver)
}

// watchUntilGone returns when ctx ends or the engine does.
func (s *Session) watchUntilGone(ctx context.Context) error {
	return s.Watch(ctx, shared.WatchQuery{Kinds: []shared.EventKind{"none"}}, func(shared.Event) error { return nil })
}
