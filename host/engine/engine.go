// Package engine is the host's side of a marketplace engine: it finds the binary,
// verifies it, starts it once for all commands of a home, finds the running one
// again, and gives back a [Session] that implements shared.Marketplace.
//
// One engine runs for a home (and profile). Two locks see to that: the host's,
// held from looking for an engine until it is attached to, and the engine's, held
// for its whole life, with its state as the file's content. An engine is alive
// when its lock is held and it answers; its process ID says nothing.
//
// What the engine can do is package shared's business, how that travels is
// shared/rpc's. This package never sees a network.
package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// Settings are what a user may choose about an engine.
type Settings = launch.Settings

// Config says which engine is meant.
type Config struct {
	Home        string   // $GGEN_HOME, absolute; required
	Profile     string   // engines of different profiles run beside each other; default ""
	Project     string   // folder of the project, for its .ggen/plugins; may be empty
	PluginDirs  []string // further folders to look for engines in, first
	Settings    Settings // for an engine that has to be started
	PerCommand  bool     // start an engine for every session, as where none can run in the background
	HostVersion string
	Logger      *slog.Logger // default: discards
}

const (
	// startTimeout bounds how long an engine may take to come up; it takes 30 ms,
	// plus what an old one needs to shut down.
	startTimeout = 30 * time.Second
	// stateTimeout bounds how long a held lock may be without a readable state.
	stateTimeout = 15 * time.Second
	// lockPatience is how long a command waits for another one that starts or swaps
	// an engine; a swap lets running calls finish.
	lockPatience = swapGrace + startTimeout + 2*stateTimeout
	// poll is how often a lock or state is looked at again.
	poll = 5 * time.Millisecond
)

// background tells whether engines live in the background here.
func (cfg Config) background() bool { return warmSupported && !cfg.PerCommand }

// ErrNotRunning says that no engine runs for this home.
var ErrNotRunning = errors.New("no engine is running")

// home is where the engine of this profile keeps its things.
func (cfg Config) home() string {
	if cfg.Profile == "" {
		return cfg.Home
	}
	return filepath.Join(cfg.Home, "profiles", cfg.Profile)
}

// maxSocketDir is how long the folder of a Unix socket may be: its path is
// limited to about 100 bytes, and go-plugin adds a name of its own.
const maxSocketDir = 80

// run is the folder of locks and socket: below the home, or, where that path is
// too long for a socket, below the system's temporary folder.
func (cfg Config) run() string {
	dir := filepath.Join(cfg.home(), "run")
	if len(dir) <= maxSocketDir || runtime.GOOS == "windows" {
		return dir
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" || len(base) > maxSocketDir-30 {
		base = "/tmp"
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(base, fmt.Sprintf("ggen-%d-%s", os.Getuid(), hex.EncodeToString(sum[:6])))
}

// Search is where the engines of this configuration are looked for, and which of
// them can be used.
func (cfg Config) Search() plugins.Search {
	return plugins.Search{
		Home: cfg.Home, Project: cfg.Project, Dirs: cfg.PluginDirs, RunDir: cfg.run(),
		Oldest: rpc.Oldest, Newest: rpc.Newest, Facts: cfg.facts(),
	}
}

func (cfg *Config) check() error {
	if !filepath.IsAbs(cfg.Home) {
		return shared.NewError(shared.ReasonInvalidArgument, "the home %q is not an absolute folder", cfg.Home).
			WithHint("set GGEN_HOME to an absolute path")
	}
	if cfg.Profile != "" {
		if err := shared.CheckName(cfg.Profile); err != nil {
			return shared.NewError(shared.ReasonInvalidArgument, "the profile %q is not allowed", cfg.Profile).WithHint("name it like a package")
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// prepare makes the folders, and refuses a run folder that somebody else could
// have prepared: whoever owns it could put a socket of their own there.
func (cfg Config) prepare() error {
	for _, dir := range []string{cfg.home(), filepath.Dir(launch.LogFile(cfg.home())), cfg.run()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return shared.NewError(shared.ReasonStorage, "make %s: %w", dir, err).
				WithHint("is GGEN_HOME (%s) a folder that you may write to?", cfg.Home)
		}
	}
	info, err := os.Lstat(cfg.run())
	if err != nil {
		return shared.NewError(shared.ReasonStorage, "look at %s: %w", cfg.run(), err)
	}
	if !info.IsDir() || !ownedByUs(info) {
		return shared.NewError(shared.ReasonStorage, "%s belongs to somebody else", cfg.run()).
			WithHint("run ggen as the user whose home %s is, or set GGEN_HOME to a home of your own", cfg.Home)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return shared.NewError(shared.ReasonStorage, "%s is open to others (mode %04o)", cfg.run(), info.Mode().Perm()).
			WithHint("run chmod 700 %s", cfg.run())
	}
	return nil
}

// locked runs work while this process holds the host's lock of the home.
func (cfg Config) locked(ctx context.Context, work func() error) (err error) {
	lock := flock.New(launch.HostLockFile(cfg.run()), flock.SetPermissions(0o600))
	waiting, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	ok, err := lock.TryLockContext(waiting, poll)
	if ctx.Err() != nil {
		return shared.AsError(ctx.Err())
	}
	if !ok || err != nil {
		return shared.NewError(shared.ReasonEngineTimeout, "another ggen has been starting an engine for too long (%s)", launch.HostLockFile(cfg.run())).
			WithHint("look for a hanging ggen process and end it")
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	return work()
}

// alive tells whether an engine holds its lock. The caller holds the host's lock.
func (cfg Config) alive() (bool, error) {
	lock := flock.New(launch.LockFile(cfg.run()), flock.SetPermissions(0o600))
	free, err := lock.TryLock()
	if err != nil {
		return false, shared.NewError(shared.ReasonStorage, "look at the engine's lock: %w", err)
	}
	if free {
		return false, lock.Unlock()
	}
	return true, nil
}

// Connect attaches to the running engine, or starts one. An engine that was asked
// to stay and died is started again as it was, and the session's notices say so.
//
// Errors: ENGINE_NOT_FOUND, ENGINE_INVALID, ENGINE_PROTOCOL, ENGINE_FAILED,
// ENGINE_TIMEOUT, STORAGE, and what the engine says when it cannot start
// (ADDRESS_IN_USE, …).
func Connect(ctx context.Context, cfg Config) (*Session, error) {
	return connect(ctx, cfg, true)
}

// Attach connects to the running engine; the error matches [ErrNotRunning] when
// there is none.
func Attach(ctx context.Context, cfg Config) (*Session, error) {
	return connect(ctx, cfg, false)
}

func connect(ctx context.Context, cfg Config, start bool) (*Session, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Session{cfg: cfg, mayStart: start}
	if err := s.reconnect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// attachOrStart gives a connection to the one engine of this home.
func attachOrStart(ctx context.Context, cfg Config, start bool) (c *connection, notices []shared.Diagnostic, err error) {
	if socket := os.Getenv(launch.AttachVariable); socket != "" {
		return attachByHand(ctx, socket)
	}
	if !cfg.background() {
		if !start {
			return nil, nil, ErrNotRunning
		}
		c, err := startForOneCommand(ctx, cfg)
		return c, cfg.Search().Warnings(), err
	}
	if err := cfg.prepare(); err != nil {
		return nil, nil, err
	}
	err = cfg.locked(ctx, func() error {
		running, err := cfg.alive()
		if err != nil {
			return err
		}
		if running {
			c, notices, err = attach(ctx, cfg, start)
			if err == nil && start {
				var more []shared.Diagnostic
				c, more, err = cfg.fit(ctx, c)
				notices = append(notices, more...)
			}
			if !errors.Is(err, ErrNotRunning) {
				return err
			}
		}
		if !start {
			return ErrNotRunning
		}
		var more []shared.Diagnostic
		c, more, err = cfg.startAgain(ctx, len(notices) > 0)
		notices = append(notices, more...)
		return err
	})
	if err != nil && shared.AsError(err).Metadata[launch.NoSocket] != "" && ctx.Err() == nil {
		notices = append(notices, shared.Diagnostic{
			Severity: shared.SeverityWarning, Reason: shared.ReasonEngineFailed,
			Message: "no engine can run in the background here (" + err.Error() + "), so this command starts one for itself",
			Hint:    "put GGEN_HOME on a file system that can hold sockets",
		})
		c, err = startForOneCommand(ctx, cfg)
	}
	return c, notices, err
}

// startAgain starts an engine; one that was asked to stay and died comes back as
// it was. told says that the user knows how it ended. The caller holds the host's
// lock and knows that no engine runs.
func (cfg Config) startAgain(ctx context.Context, told bool) (*connection, []shared.Diagnostic, error) {
	spec := launch.Spec{Home: cfg.home(), Run: cfg.run(), Settings: cfg.Settings}
	var notices []shared.Diagnostic
	if last, died := launch.ReadState(cfg.run()); died {
		if last.Ended == "" {
			if err := cfg.bury(last.Instance, time.Now()); err != nil {
				return nil, nil, err
			}
		}
		notice := shared.Diagnostic{
			Severity: shared.SeverityWarning, Reason: shared.ReasonEngineFailed,
			Message: obituary(last) + "; it was started again",
			Hint:    "its log is " + launch.LogFile(cfg.home()),
		}
		if last.Staying {
			spec.Settings, spec.Stay = last.Settings, true
			notice.Message += " with the same settings"
		}
		if !told {
			notices = append(notices, notice)
		}
	}
	c, more, err := launchEngine(ctx, cfg, spec)
	return c, append(notices, more...), err
}

// Start makes the engine a peer that stays until it is stopped, with
// cfg.Settings. One that runs with the same settings is asked to stay; one with
// others is stopped and started anew. started tells whether a process was started.
func Start(ctx context.Context, cfg Config) (s *Session, started bool, err error) {
	if err := cfg.check(); err != nil {
		return nil, false, err
	}
	if !cfg.background() {
		return nil, false, shared.NewError(shared.ReasonUnimplemented, "no peer can run in the background here").
			WithHint("use `p2p start --foreground`")
	}
	if err := cfg.prepare(); err != nil {
		return nil, false, err
	}
	s = &Session{cfg: cfg, mayStart: true}
	if os.Getenv(launch.AttachVariable) != "" {
		return s, false, s.reconnect(ctx)
	}
	err = cfg.locked(ctx, func() error {
		running, err := cfg.alive()
		if err != nil {
			return err
		}
		spec := launch.Spec{Home: cfg.home(), Run: cfg.run(), Settings: cfg.Settings, Stay: true}
		before := launch.State{}
		if running {
			kept, former, err := keepRunning(ctx, cfg)
			if err != nil && !errors.Is(err, ErrNotRunning) {
				return err
			}
			if kept != nil {
				s.adopt(kept, nil)
				return nil
			}
			before = former
		}
		started = true
		c, notices, err := launchEngine(ctx, cfg, spec)
		if err != nil && before.Instance != "" {
			return cfg.bringBack(ctx, before, err)
		}
		if err != nil {
			return err
		}
		s.adopt(c, notices)
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return s, started, nil
}

// keepRunning asks the running engine to stay if it has the wanted settings, and
// stops it otherwise; then it returns no connection, and the state of before.
func keepRunning(ctx context.Context, cfg Config) (*connection, launch.State, error) {
	c, _, err := attach(ctx, cfg, true)
	if err == nil {
		c, _, err = cfg.fit(ctx, c)
	}
	if err != nil {
		return nil, launch.State{}, err
	}
	if c.state.Settings.Equal(cfg.Settings) {
		return c, c.state, c.client.Stay(ctx)
	}
	return nil, c.state, errors.Join(stop(ctx, cfg, c, 10*time.Second), c.close())
}

// bringBack starts the engine of before again, since one with other settings does not
// come up for a cause.
func (cfg Config) bringBack(ctx context.Context, before launch.State, cause error) error {
	spec := launch.Spec{Home: cfg.home(), Run: cfg.run(), Settings: before.Settings, Stay: before.Staying}
	c, _, err := launchEngine(context.WithoutCancel(ctx), cfg, spec)
	e := *shared.AsError(cause)
	if err != nil {
		e.Message = fmt.Sprintf("%s; and the peer of before does not start again: %v", e.Message, err)
		return &e
	}
	e.Message += "; the peer runs on with the settings of before"
	return errors.Join(&e, c.close())
}

// Stop ends the running engine: running calls may go on for at most grace. It
// returns when the process is gone; stopped is false when none was running. An
// engine that does not answer, or does not end, is killed. Crashes before are
// forgotten: the next command may start an engine at once.
func Stop(ctx context.Context, cfg Config, grace time.Duration) (stopped bool, err error) {
	if err := cfg.check(); err != nil {
		return false, err
	}
	if os.Getenv(launch.AttachVariable) != "" {
		return false, shared.NewError(shared.ReasonInvalidArgument, "%s names an engine that runs in somebody's terminal", launch.AttachVariable).
			WithHint("end it there, with Ctrl-C, or unset the variable")
	}
	if _, err := os.Stat(cfg.run()); errors.Is(err, os.ErrNotExist) || !warmSupported {
		return false, nil
	}
	if err := cfg.prepare(); err != nil {
		return false, err
	}
	err = cfg.locked(ctx, func() error {
		if err := cfg.forget(); err != nil {
			return err
		}
		running, err := cfg.alive()
		if err != nil {
			return err
		}
		if running {
			c, notices, err := reach(ctx, cfg, true)
			stopped = err == nil || len(notices) > 0
			if err == nil {
				return errors.Join(stop(ctx, cfg, c, grace), c.close())
			}
			if !errors.Is(err, ErrNotRunning) {
				return err
			}
		}
		// One that died while it was to stay is not brought back any more.
		return launch.WriteState(cfg.run(), nil)
	})
	return stopped, err
}

// stop asks an engine to end and waits until its lock is free. One that does not
// end in time is killed.
func stop(ctx context.Context, cfg Config, c *connection, grace time.Duration) error {
	if err := c.client.Stop(ctx, grace); err != nil && !errors.Is(err, shared.ReasonEngineFailed) {
		return err
	}
	err := cfg.awaitEnd(ctx, grace+closeTime)
	if !errors.Is(err, errStillRunning) {
		return err
	}
	_, err = cfg.endSilent(ctx, c.state)
	return err
}

// closeTime is what an engine needs to close its store and connections, and more.
const closeTime = 10 * time.Second

// RunForeground runs an engine that stays until ctx ends, or somebody stops it, or
// it dies. ready is called when it is up.
func RunForeground(ctx context.Context, cfg Config, ready func(*Session)) error {
	if !cfg.background() {
		return runChild(ctx, cfg, ready)
	}
	s, _, err := Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // only detaches
	ready(s)
	s.mayStart = false
	for ctx.Err() == nil {
		err := s.watchUntilGone(ctx)
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, shared.ReasonEngineDraining) {
			return err
		}
		if err := s.reconnect(ctx); errors.Is(err, ErrNotRunning) {
			return nil // it was stopped, and not swapped for another version
		} else if err != nil {
			return err
		}
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	_, err = Stop(stopping, cfg, 10*time.Second)
	return err
}
