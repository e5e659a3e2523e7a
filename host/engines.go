package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

// engines is how commands reach an engine. All errors are [*shared.Error]s, except
// errNotRunning.
type engines interface {
	// Find lists engine files and executes none.
	Find(cfg engineConfig) ([]render.Plugin, error)
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
	Foreground(ctx context.Context, cfg engineConfig, ready func(session) error) error
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
	Project    string   // absolute; empty outside of a project
	PluginDirs []string // absolute; searched before all others
	Settings   project.Settings
	Logger     *slog.Logger
	Version    string // of this host
}

var errNotRunning = errors.New("no engine is running")
