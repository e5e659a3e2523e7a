package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/cache"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
	"ggen.dev/marketplace/shared/telemetry"
	"ggen.dev/marketplace/shared/tracing"
)

// serveWarm is the life of a background engine: lock, open, answer, serve until
// it is stopped or idle, close.
func serveWarm(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	spec, debugging, err := parseSpec(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintln(stderr, err)
		return 2
	}
	e := &warmEngine{spec: spec, stdout: stdout, up: func(state launch.State) error { return answer(stdout, launch.Answer{State: &state}) }}
	if debugging {
		e.up = func(state launch.State) error { return explain(stdout, state) }
	}
	log, closeLog, err := e.openLog(debugging, stderr)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	e.log = log
	err = e.run(ctx)
	if err != nil {
		log.Error("the engine ends", "error", err)
		if !e.answered && !debugging {
			_ = answer(stdout, launch.Answer{Error: launch.FailedFrom(err)}) // the log has it too
		}
	}
	if err = errors.Join(err, closeLog()); err != nil {
		if debugging {
			_, _ = fmt.Fprintln(stderr, err)
		}
		return 1
	}
	return 0
}

// warmEngine is an engine in the background, or, to be debugged, in somebody's
// terminal.
type warmEngine struct {
	spec     launch.Spec
	stdout   io.Writer
	log      *slog.Logger
	up       func(launch.State) error // says that the engine is up; then standard output is given up
	answered bool
}

func (e *warmEngine) openLog(debugging bool, stderr io.Writer) (*slog.Logger, func() error, error) {
	if debugging {
		return newLogger(stderr, slog.LevelDebug), func() error { return nil }, nil
	}
	path := launch.LogFile(e.spec.Home)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, err
	}
	file, err := openLog(path)
	if err != nil {
		return nil, nil, err
	}
	return newLogger(file, slog.LevelInfo), file.Close, nil
}

// newLogger writes text, or JSON if GGEN_LOG_FORMAT says so, with the IDs of traces.
func newLogger(to io.Writer, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if os.Getenv(launch.LogFormatVariable) == "json" {
		return slog.New(tracing.Logs(slog.NewJSONHandler(to, options)))
	}
	return slog.New(tracing.Logs(slog.NewTextHandler(to, options)))
}

// answer prints the one line that the host waits for, and gives up standard output
// and error.
func answer(stdout io.Writer, a launch.Answer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = stdout.Write(append(line, '\n'))
	return errors.Join(err, silence())
}

func (e *warmEngine) run(ctx context.Context) (err error) {
	lock, err := takeLock(ctx, e.spec)
	if err != nil {
		return err
	}
	// The lock is held until the process has ended, not only until this returns:
	// whoever sees it free may remove the home, or start another engine.
	defer runtime.KeepAlive(lock)

	if e.spec.Settings.Memory > 0 {
		if err := limitMemory(e.spec.Settings.Memory); err != nil {
			return shared.NewError(shared.ReasonEngineFailed, "limit the engine's memory to %d bytes: %w", e.spec.Settings.Memory, err)
		}
	}
	crashes, err := watchCrashes(e.spec.Home)
	if err != nil {
		return shared.NewError(shared.ReasonStorage, "prepare the crash report: %w", err)
	}
	defer func() { err = errors.Join(err, crashes.close()) }()
	traced, err := telemetry.Traces(ctx, serviceName, version)
	if err != nil {
		e.log.Warn("traces are not exported", "error", err)
	}
	defer traced()
	engine, err := open(ctx, e.spec, e.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	return e.serve(ctx, engine, crashes)
}

func takeLock(ctx context.Context, spec launch.Spec) (*flock.Flock, error) {
	lock := flock.New(launch.LockFile(spec.Run), flock.SetPermissions(0o600))
	waiting, cancel := context.WithTimeout(ctx, cmp.Or(spec.LockWait, launch.DefaultLockWait))
	defer cancel()
	if ok, err := lock.TryLockContext(waiting, 10*time.Millisecond); !ok || err != nil {
		return nil, shared.NewError(shared.ReasonEngineFailed, "another engine holds %s", launch.LockFile(spec.Run)).
			WithHint("stop it: `ggen marketplace p2p stop`")
	}
	return lock, nil
}

func open(ctx context.Context, spec launch.Spec, log *slog.Logger) (*p2p.Engine, error) {
	var location *p2p.Location
	if l := spec.Settings.Location; l != nil {
		location = &p2p.Location{Latitude: float64(l.Latitude), Longitude: float64(l.Longitude), Region: l.Region}
	}
	var readers []metric.Reader
	if telemetry.Wanted("METRICS") {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			log.Warn("metrics are not exported", "error", err) // what watches must not keep from working
		} else {
			readers = append(readers, reader)
		}
	}
	return p2p.Open(ctx, p2p.Config{
		MetricReaders: readers,
		Home:          spec.Home, Listen: spec.Settings.Listen, Bootstrap: spec.Settings.Bootstrap,
		DHTServer: spec.Settings.DHTServer, Network: spec.Settings.Network, Version: version, Logger: log,
		NetworkKey: spec.Settings.NetworkKey, AllowPeers: spec.Settings.AllowPeers, Local: !spec.Settings.NoMDNS,
		Location: location,
		Light:    spec.Settings.Light, SuperPeer: spec.Settings.SuperPeer,
		LookupFanout: spec.Settings.LookupFanout, LookupConcurrency: spec.Settings.LookupConcurrency,
		UploadLimit: spec.Settings.UploadLimit, Cache: cacheConfig(spec.Settings.Cache), MetricsAddr: spec.Settings.MetricsAddr,
	})
}

// serve answers calls until the engine is stopped, idle or unreachable.
func (e *warmEngine) serve(ctx context.Context, engine *p2p.Engine, crashes *crashes) error {
	info, err := engine.Info(ctx)
	if err != nil {
		return err
	}
	binary, _ := os.Executable() // only for people to read
	state := launch.State{
		PID: info.PID, Instance: info.InstanceID, Version: version, Protocols: rpc.Protocols(), Binary: binary,
		Crash: crashes.fatal, Settings: e.spec.Settings, Staying: e.spec.Stay, Started: info.StartedAt,
	}
	life := newLife(e.spec.Settings.IdleStop, e.spec.Stay, func(staying bool) error {
		state.Staying = staying
		return launch.WriteState(e.spec.Run, &state)
	})
	defer life.close()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	server, reattach, served := e.startServing(serving, &process{Marketplace: engine, life: life}, life, crashes, rpc.Observe(engine.MeterProvider()))
	select {
	case r := <-reattach:
		state.Network, state.Address = r.Addr.Network(), r.Addr.String()
	case <-served:
		return shared.NewError(shared.ReasonEngineFailed, "the engine cannot make its socket in %s", e.spec.Run).
			WithHint("look at the permissions of the folder, and at the log above").With(launch.NoSocket, e.spec.Run)
	}
	if err := launch.WriteState(e.spec.Run, &state); err != nil {
		return shared.NewError(shared.ReasonStorage, "write the engine's state: %w", err)
	}
	e.answered = true
	if err := e.up(state); err != nil {
		e.log.Warn("the host that started this engine is gone", "error", err)
	}
	cause := life.run(ctx, func() bool { return reachable(state.Address) })
	e.log.Info("stopping", "cause", cause)
	hangUp(server)
	stopServing()
	<-served
	if cause == unreachable && life.isStaying() { // nobody asked for that: the next command brings it back
		state.Staying, state.Ended = true, "its socket was deleted"
		return launch.WriteState(e.spec.Run, &state)
	}
	return launch.WriteState(e.spec.Run, nil) // nothing to bring back: it ended as it should
}

// flushTime is how long the last replies may take on their way to the hosts.
const flushTime = 2 * time.Second

// hangUp ends the connections when what was answered has arrived: a reply that is
// lost looks like a crash to the host, which would repeat the call.
func hangUp(server *grpc.Server) {
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		server.GracefulStop()
	}()
	timer := time.NewTimer(flushTime)
	defer timer.Stop()
	select {
	case <-flushed:
	case <-timer.C:
		// A handler that is stuck keeps GracefulStop for ever; the process ends without it.
		server.Stop()
	}
}

// reachable tells whether the engine's socket is where hosts look for it. Without
// it nobody could reach the engine, nor start another beside its lock.
func reachable(socket string) bool {
	_, err := os.Lstat(socket)
	return err == nil
}

// startServing serves the contract by go-plugin's server, on a Unix socket in the
// run folder.
func (e *warmEngine) startServing(ctx context.Context, impl shared.Marketplace, life *life, crashes *crashes, more ...grpc.ServerOption) (server *grpc.Server, reattach <-chan *plugin.ReattachConfig, served <-chan struct{}) {
	reattachCh, servedCh := make(chan *plugin.ReattachConfig, 1), make(chan struct{})
	// go-plugin takes the folder of its socket from the environment only.
	_ = os.Setenv(plugin.EnvUnixSocketDir, e.spec.Run) // cannot fail: the name is valid
	//nolint:contextcheck // each call brings its own
	options := append(rpc.ServerOptions(panicked(e.log, crashes)), rpc.Failures(failed(e.log))...)
	options = append(options, life.serverOptions()...)
	options = append(append(append(options, peerCredentials()...), faultOptions()...), more...)
	server = grpc.NewServer(options...)
	go func() {
		defer close(servedCh)
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig:  rpc.Handshake(),
			VersionedPlugins: rpc.Plugins(impl, life),
			Logger:           hclog.NewNullLogger(),
			GRPCServer: func([]grpc.ServerOption) *grpc.Server { // its options are for TLS, which is not used here
				return server
			},
			Test: &plugin.ServeTestConfig{Context: ctx, ReattachConfigCh: reattachCh},
		})
	}()
	return server, reattachCh, servedCh
}

// serviceName is what traces call this process.
const serviceName = "ggen-engine"

// panicked writes down that a call's handler panicked.
func panicked(log *slog.Logger, crashes *crashes) func(method string, value any, stack []byte) {
	return func(method string, value any, stack []byte) {
		log.Error("a handler panicked", "method", method, "panic", fmt.Sprint(value), "stack", string(stack))
		if err := crashes.handlerPanicked(method, value, stack); err != nil {
			log.Error("the crash report cannot be written", "error", err)
		}
	}
}

// failed writes down that a call has failed, which only its caller was told. Callers that
// have left need no line.
func failed(log *slog.Logger) func(ctx context.Context, method string, err error) {
	return func(ctx context.Context, method string, err error) {
		if !errors.Is(err, shared.ReasonCanceled) {
			log.InfoContext(ctx, "a call failed", "method", path.Base(method), "reason", string(shared.AsError(err).Reason), "error", err)
		}
	}
}

// process adds to an engine what only its process knows.
type process struct {
	shared.Marketplace
	life *life
}

// Info implements shared.Marketplace.
func (p *process) Info(ctx context.Context) (shared.EngineInfo, error) {
	info, err := p.Marketplace.Info(ctx)
	info.Protocols = rpc.Protocols()
	return info, err
}

// Status implements shared.Marketplace.
func (p *process) Status(ctx context.Context) (shared.NodeStatus, error) {
	status, err := p.Marketplace.Status(ctx)
	status.Staying = p.life.isStaying()
	return status, err
}

// serveOneCommand is the life of an engine that go-plugin starts for one command,
// when no background engine can be had: the host owns it and ends it.
func serveOneCommand(ctx context.Context, stderr io.Writer) int {
	var spec launch.Spec
	if err := json.Unmarshal([]byte(os.Getenv(launch.SpecVariable)), &spec); err != nil || !filepath.IsAbs(spec.Home) {
		_, _ = fmt.Fprintf(stderr, "%s holds no specification: %v\n", launch.SpecVariable, err)
		return 2
	}
	if err := runOneCommand(ctx, spec); err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func runOneCommand(ctx context.Context, spec launch.Spec) (err error) {
	if spec.Settings.Memory > 0 {
		if err := limitMemory(spec.Settings.Memory); err != nil {
			return err
		}
	}
	crashes, err := watchCrashes(spec.Home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, crashes.close()) }()
	log := slog.New(slog.DiscardHandler)
	traced, _ := telemetry.Traces(ctx, serviceName, version) // the host tells the same of its own
	defer traced()
	engine, err := open(ctx, spec, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	life := newLife(0, true, func(bool) error { return nil })
	defer life.close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig:  rpc.Handshake(),
			VersionedPlugins: rpc.Plugins(&process{Marketplace: engine, life: life}, life),
			Logger:           hclog.NewNullLogger(),
			GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
				options = append(append(options, rpc.ServerOptions(panicked(log, crashes))...), rpc.Observe(engine.MeterProvider()))
				return grpc.NewServer(append(options, faultOptions()...)...)
			},
		})
	}()
	waitForHost(ctx, served)
	return nil
}

// waitForHost returns when the server has ended, on a signal, or when the host
// is gone: a killed host cannot end its engine, which would keep the home locked.
func waitForHost(ctx context.Context, served <-chan struct{}) {
	host := os.Getppid()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for os.Getppid() == host {
		select {
		case <-served:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func cacheConfig(c launch.Cache) p2p.CacheConfig {
	return p2p.CacheConfig{
		Hot:  cache.Limits{Entries: c.HotEntries, Lifetime: c.HotLifetime},
		Warm: cache.Limits{Entries: c.WarmEntries, Lifetime: c.WarmLifetime},
		Size: c.Size, Lifetime: c.Lifetime,
	}
}
