package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// life decides when the engine's process ends: when somebody stops it, on a
// signal, or when it was not used for a while and nobody asked it to stay. It
// goes through three modes: serving → draining (running calls finish, new ones
// are refused with ENGINE_DRAINING) → over.
type life struct {
	idle  time.Duration
	wrote func(staying bool) error // makes a change of staying durable

	stop chan time.Duration // asks run to drain for so long; holds one request
	used chan struct{}      // holds a token when something was used

	mu          sync.Mutex // guards the fields below
	staying     bool
	draining    bool
	connections int
	calls       int
	quiet       chan struct{} // closed when draining and no call is left

	over    context.Context // of calls that never end by themselves; ends when draining begins
	endOver context.CancelFunc
}

var _ rpc.Control = (*life)(nil)

func newLife(idle time.Duration, staying bool, wrote func(bool) error) *life {
	if idle <= 0 {
		idle = launch.DefaultIdleStop
	}
	l := &life{
		idle: idle, wrote: wrote, staying: staying,
		stop: make(chan time.Duration, 1), used: make(chan struct{}, 1), quiet: make(chan struct{}),
	}
	l.over, l.endOver = context.WithCancel(context.Background())
	return l
}

// close ends a life that never ran.
func (l *life) close() { l.begin() }

// Stay implements rpc.Control.
func (l *life) Stay(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.staying {
		return nil
	}
	if err := l.wrote(true); err != nil {
		return shared.NewError(shared.ReasonStorage, "note that the engine stays: %w", err)
	}
	l.staying = true
	return nil
}

// Stop implements rpc.Control. It returns before the engine is gone.
func (l *life) Stop(_ context.Context, grace time.Duration) error {
	select {
	case l.stop <- grace:
	default: // it is stopping already
	}
	return nil
}

func (l *life) isStaying() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.staying
}

// lookAround is how often an engine looks whether it can still be reached.
const lookAround = time.Second

// ending is why an engine ends.
type ending string

const (
	signalled   ending = "a signal"
	stopped     ending = "somebody stopped it"
	unreachable ending = "nobody can reach it"
	idle        ending = "nobody used it"
)

// run returns when the process has to end: drained, or out of patience with what
// still runs.
func (l *life) run(ctx context.Context, reachable func() bool) ending {
	timer := time.NewTimer(l.idle)
	defer timer.Stop()
	tick := time.NewTicker(lookAround)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.drain(drainTime)
			return signalled
		case grace := <-l.stop:
			l.drain(grace)
			return stopped
		case <-l.used:
			timer.Reset(l.idle)
		case <-tick.C:
			if !reachable() {
				l.drain(drainTime)
				return unreachable
			}
		case <-timer.C:
			if l.inUse() {
				timer.Reset(l.idle)
				continue
			}
			l.drain(drainTime)
			return idle
		}
	}
}

func (l *life) inUse() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.staying || l.connections > 0 || l.calls > 0
}

// drain waits until the running calls have ended, for at most grace.
func (l *life) drain(grace time.Duration) {
	quiet := l.begin()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-quiet:
	case <-timer.C:
	}
}

func (l *life) begin() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.draining {
		l.draining = true
		l.endOver()
		if l.calls == 0 {
			close(l.quiet)
		}
	}
	return l.quiet
}

// enter counts a call in, or refuses it.
func (l *life) enter() error {
	l.touch()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.draining {
		return errDraining()
	}
	l.calls++
	return nil
}

// errDraining asks the host to come back, to the next engine.
func errDraining() error {
	return shared.NewError(shared.ReasonEngineDraining, "the engine is stopping").With("retry_after_ms", "50")
}

func (l *life) leave() {
	l.touch()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls--; l.draining && l.calls == 0 {
		close(l.quiet)
	}
}

func (l *life) touch() {
	select {
	case l.used <- struct{}{}:
	default:
	}
}

// counted tells whether a call counts as use: go-plugin keeps streams of its own
// open on every connection, and stopping must be possible while it stops.
func counted(method string) bool {
	return strings.HasPrefix(method, "/ggen.marketplace.") && !strings.Contains(method, ".ControlService/")
}

// serverOptions make the server count connections and calls.
func (l *life) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.StatsHandler(l),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if !counted(info.FullMethod) {
				return handler(ctx, req)
			}
			if err := l.enter(); err != nil {
				return nil, rpc.Status(err)
			}
			defer l.leave()
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if !counted(info.FullMethod) {
				return handler(srv, stream)
			}
			if err := l.enter(); err != nil {
				return rpc.Status(err)
			}
			defer l.leave()
			if strings.HasSuffix(info.FullMethod, "/Watch") {
				return l.watch(srv, stream, handler)
			}
			return handler(srv, stream)
		}),
	}
}

// watch runs a call that only ends when its caller or the engine does: whoever
// watches comes back to the next engine.
func (l *life) watch(srv any, stream grpc.ServerStream, handler grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(l.over, cancel)()
	err := handler(srv, endingStream{stream, ctx})
	if l.over.Err() != nil && stream.Context().Err() == nil {
		return rpc.Status(errDraining())
	}
	return err
}

// endingStream is a stream whose call ends earlier than its caller wants.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // the interface of gRPC asks for it
}

// Context implements grpc.ServerStream.
func (s endingStream) Context() context.Context { return s.ctx }

// TagRPC implements stats.Handler.
func (l *life) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (l *life) HandleRPC(context.Context, stats.RPCStats) {}

// TagConn implements stats.Handler.
func (l *life) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (l *life) HandleConn(_ context.Context, s stats.ConnStats) {
	l.mu.Lock()
	switch s.(type) {
	case *stats.ConnBegin:
		l.connections++
	case *stats.ConnEnd:
		l.connections--
	}
	l.mu.Unlock()
	l.touch()
}
