package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// lockPatience is how long a new engine waits for the lock of an old one that is
// still shutting down.
const lockPatience = 15 * time.Second

// serveWarm is the life of a background engine: lock, open, answer, serve until
// it is stopped or idle, close.
func serveWarm(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	spec, err := parseSpec(args, stderr)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 2
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	answered := false
	err = warm(ctx, spec, log, func(state launch.State) error {
		answered = true
		return answer(stdout, launch.Answer{State: &state})
	})
	if err == nil {
		return 0
	}
	log.Error("the engine ends", "error", err)
	if !answered {
		_ = answer(stdout, launch.Answer{Error: launch.FailedFrom(err)}) // the log has it too
	}
	return 1
}

// answer prints one line and gives standard output up: whoever read the line may
// be gone, and a write to a pipe that nobody reads ends a process.
func answer(stdout io.Writer, a launch.Answer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = stdout.Write(append(line, '\n'))
	if file, ok := stdout.(*os.File); ok {
		null, nullErr := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if nullErr == nil {
			os.Stdout = null
			err = errors.Join(err, file.Close())
		}
	}
	return err
}

func warm(ctx context.Context, spec launch.Spec, log *slog.Logger, up func(launch.State) error) (err error) {
	lock := flock.New(launch.LockFile(spec.Run), flock.SetPermissions(0o600))
	waiting, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	if ok, err := lock.TryLockContext(waiting, 10*time.Millisecond); !ok || err != nil {
		return shared.NewError(shared.ReasonEngineFailed, "another engine holds %s", launch.LockFile(spec.Run)).
			WithHint("stop it: `ggen marketplace p2p stop`")
	}
	// The lock is held until the process has ended, not only until this returns:
	// whoever sees it free may remove the home, or start another engine.
	defer runtime.KeepAlive(lock)

	engine, err := p2p.Open(ctx, p2p.Config{
		Home: spec.Home, Listen: spec.Settings.Listen, Bootstrap: spec.Settings.Bootstrap,
		DHTServer: spec.Settings.DHTServer, Network: spec.Settings.Network, Version: version, Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	info, err := engine.Info(ctx)
	if err != nil {
		return err
	}
	state := launch.State{
		PID: info.PID, Instance: info.InstanceID, Version: version, Protocol: rpc.Protocol,
		Settings: spec.Settings, Staying: spec.Stay, Started: info.StartedAt,
	}
	life := newLife(spec.Settings.IdleStop, spec.Stay, func(staying bool) error {
		state.Staying = staying
		return launch.WriteState(spec.Run, &state)
	})
	defer life.close()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	reattach, served := startServing(serving, spec.Run, &staying{engine, life}, life, log)
	select {
	case r := <-reattach:
		state.Network, state.Address = r.Addr.Network(), r.Addr.String()
	case <-served:
		return shared.NewError(shared.ReasonEngineFailed, "the engine cannot make its socket in %s", spec.Run).
			WithHint("look at the permissions of the folder, and at the log above").With(launch.NoSocket, spec.Run)
	}
	if err := launch.WriteState(spec.Run, &state); err != nil {
		return shared.NewError(shared.ReasonStorage, "write the engine's state: %w", err)
	}
	if err := up(state); err != nil {
		log.Warn("the host that started this engine is gone", "error", err)
	}
	life.run(ctx)
	log.Info("stopping")
	stopServing()
	<-served
	return launch.WriteState(spec.Run, nil) // nothing to bring back: it ended as it should
}

// startServing serves the contract by go-plugin's server, on a Unix socket in run.
func startServing(ctx context.Context, run string, impl shared.Marketplace, life *life, log *slog.Logger) (reattach <-chan *plugin.ReattachConfig, served <-chan struct{}) {
	reattachCh, servedCh := make(chan *plugin.ReattachConfig, 1), make(chan struct{})
	// go-plugin takes the folder of its socket from the environment only.
	_ = os.Setenv(plugin.EnvUnixSocketDir, run) // cannot fail: the name is valid
	go func() {
		defer close(servedCh)
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig:  rpc.Handshake(),
			VersionedPlugins: rpc.Plugins(impl, life),
			Logger:           hclog.NewNullLogger(),
			GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
				options = append(options, rpc.ServerOptions(log)...)
				options = append(options, life.serverOptions()...)
				options = append(options, peerCredentials()...)
				return grpc.NewServer(options...)
			},
			Test: &plugin.ServeTestConfig{Context: ctx, ReattachConfigCh: reattachCh},
		})
	}()
	return reattachCh, servedCh
}

// staying adds to a node's status what only the process knows.
type staying struct {
	*p2p.Engine
	life *life
}

// Status implements shared.Marketplace.
func (s *staying) Status(ctx context.Context) (shared.NodeStatus, error) {
	status, err := s.Engine.Status(ctx)
	status.Staying = s.life.isStaying()
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
	log := slog.New(slog.DiscardHandler)
	engine, err := p2p.Open(ctx, p2p.Config{
		Home: spec.Home, Listen: spec.Settings.Listen, Bootstrap: spec.Settings.Bootstrap,
		DHTServer: spec.Settings.DHTServer, Network: spec.Settings.Network, Version: version, Logger: log,
	})
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	life := newLife(0, true, func(bool) error { return nil })
	defer life.close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig:  rpc.Handshake(),
			VersionedPlugins: rpc.Plugins(&staying{engine, life}, life),
			Logger:           hclog.NewNullLogger(),
			GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
				return grpc.NewServer(append(options, rpc.ServerOptions(log)...)...)
			},
		})
	}()
	waitForHost(ctx, served)
	if err := engine.Close(); err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
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
