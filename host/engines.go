package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"ggen.dev/marketplace/host/engine"
	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/shared"
)

// engines is how commands reach an engine. All errors are [*shared.Error]s, except
// errNotRunning.
type engines interface {
	// Search is for package plugins, which lists, verifies and chooses engine files.
	Search(cfg engineConfig) plugins.Search
	// Swap replaces the running engine, if there is one, by the one that plugins.lock
	// now asks for. If that does not come up healthy, former is put back by
	// [plugins.Restore] and the engine of before runs on, or again.
	Swap(ctx context.Context, cfg engineConfig, former plugins.Choice) (swapResult, error)
	// Connect attaches to the running engine or starts one.
	Connect(ctx context.Context, cfg engineConfig) (session, error)
	// Attach returns errNotRunning when there is no engine to attach to.
	Attach(ctx context.Context, cfg engineConfig) (session, error)
	// Start makes an engine run with these settings until it is stopped. It
	// returns when that is up; started says that it was not before.
	Start(ctx context.Context, cfg engineConfig) (s session, started bool, err error)
	// Stop lets running calls finish for at most grace. It returns when the
	// engine is gone; stopped says that there was one.
	Stop(ctx context.Context, cfg engineConfig, grace time.Duration) (stopped bool, err error)
	// Foreground runs an engine until ctx ends, which is no error then. It calls
	// ready once the engine is up.
	Foreground(ctx context.Context, cfg engineConfig, ready func(session)) error
}

// session is a connection to an engine. Close detaches and leaves the engine alone.
type session interface {
	shared.Marketplace
	Notices() []shared.Diagnostic
	Close() error
}

// engineConfig says which engine, for whom.
type engineConfig struct {
	Home       string   // absolute
	Profile    string   // empty: the usual one
	PerCommand bool     // an engine for each command
	Project    string   // absolute; empty outside of a project
	PluginDirs []string // absolute; searched before all others
	Settings   project.Settings
	Logger     *slog.Logger
	Version    string // of this host
}

var errNotRunning = errors.New("no engine is running")

// swapResult is what became of the running engine.
type swapResult struct {
	Swapped bool // one was running, and another one runs now
}

// installedEngines are the engines on this machine.
type installedEngines struct{}

func (installedEngines) Search(cfg engineConfig) plugins.Search { return cfg.real().Search() }

func (installedEngines) Swap(ctx context.Context, cfg engineConfig, former plugins.Choice) (swapResult, error) {
	swapped, err := engine.Swap(ctx, cfg.real(), former)
	return swapResult{Swapped: swapped}, err
}

func (installedEngines) Connect(ctx context.Context, cfg engineConfig) (session, error) {
	return asSession(engine.Connect(ctx, cfg.real()))
}

func (installedEngines) Attach(ctx context.Context, cfg engineConfig) (session, error) {
	s, err := engine.Attach(ctx, cfg.real())
	if errors.Is(err, engine.ErrNotRunning) {
		return nil, errNotRunning
	}
	return asSession(s, err)
}

func (installedEngines) Start(ctx context.Context, cfg engineConfig) (session, bool, error) {
	running, started, err := engine.Start(ctx, cfg.real())
	s, err := asSession(running, err)
	return s, started, err
}

func (installedEngines) Stop(ctx context.Context, cfg engineConfig, grace time.Duration) (bool, error) {
	return engine.Stop(ctx, cfg.real(), grace)
}

func (installedEngines) Foreground(ctx context.Context, cfg engineConfig, ready func(session)) error {
	return engine.RunForeground(ctx, cfg.real(), func(s *engine.Session) { ready(s) })
}

func (c engineConfig) real() engine.Config {
	return engine.Config{
		Home: c.Home, Profile: c.Profile, PerCommand: c.PerCommand, Project: c.Project, PluginDirs: c.PluginDirs, HostVersion: c.Version, Logger: c.Logger,
		Settings: engine.Settings{
			Listen: c.Settings.Listen, Bootstrap: c.Settings.Bootstrap, DHTServer: c.Settings.DHTServer, IdleStop: c.Settings.IdleStop,
			Memory: c.Settings.Memory, NetworkKey: c.Settings.NetworkKey, AllowPeers: c.Settings.AllowPeers, NoMDNS: c.Settings.NoMDNS,
			Light: c.Settings.Light, SuperPeer: c.Settings.SuperPeer,
			Location:     c.Settings.Location,
			LookupFanout: c.Settings.LookupFanout, LookupConcurrency: c.Settings.LookupConcurrency,
			UploadLimit: c.Settings.UploadLimit, Cache: c.Settings.Cache, MetricsAddr: c.Settings.MetricsAddr,
		},
	}
}

// asSession keeps a nil pointer from becoming an interface that is not nil.
func asSession(s *engine.Session, err error) (session, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
