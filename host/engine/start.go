package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// choose gives the engine binary to run, verified.
func (cfg Config) choose(ctx context.Context) (plugins.Candidate, error) {
	if err := cfg.learn(ctx); err != nil {
		return plugins.Candidate{}, err
	}
	return plugins.Choose(ctx, cfg.Search())
}

// launchEngine starts a background engine and attaches to it, if the budget of
// restarts allows it. The caller holds the host's lock and knows that no engine
// runs.
func launchEngine(ctx context.Context, cfg Config, spec launch.Spec) (*connection, []shared.Diagnostic, error) {
	candidate, err := cfg.choose(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := cfg.afford(ctx, time.Now()); err != nil {
		return nil, nil, err
	}
	removeStaleSockets(cfg.run())
	s, err := spawn(cfg, candidate, spec)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.attach(ctx)
	return c, cfg.Search().Warnings(), err
}

// starting is an engine's process that has not said yet that it is up.
type starting struct {
	cfg       Config
	candidate plugins.Candidate
	cmd       *exec.Cmd
	stdout    io.ReadCloser
	patience  time.Duration
	logStart  int64 // where in the log its words begin
}

// spawn starts the process, in a session of its own so that neither Ctrl-C nor a
// closed terminal reaches it.
func spawn(cfg Config, candidate plugins.Candidate, spec launch.Spec) (*starting, error) {
	logFile, err := openLog(launch.LogFile(cfg.home()))
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "open the engine's log: %w", err)
	}
	defer func() { _ = logFile.Close() }() // the engine has its own copy
	info, err := logFile.Stat()
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "open the engine's log: %w", err)
	}
	// Not CommandContext: the engine outlives this command.
	cmd := exec.Command(candidate.Path, arguments(spec)...) //nolint:noctx // the engine has to outlive the context of the command that starts it
	cmd.Dir = filepath.Dir(candidate.Path)                  // and not the user's folder, which it would keep busy
	cmd.Env = environment()
	cmd.Stderr = logFile
	cmd.SysProcAttr = detached()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, shared.NewError(shared.ReasonEngineFailed, "start the engine: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, shared.NewError(shared.ReasonEngineInvalid, "start the engine %s: %w", candidate.Path, err).
			WithHint("it is not a program for this machine; install it again")
	}
	return &starting{cfg: cfg, candidate: candidate, cmd: cmd, stdout: stdout, patience: startTimeout + spec.LockWait, logStart: info.Size()}, nil
}

// attach waits until the engine is up and connects to it.
func (s *starting) attach(ctx context.Context) (*connection, error) {
	state, err := s.await(ctx)
	if err != nil {
		return nil, err
	}
	if err := negotiate(state); err != nil {
		s.kill()
		return nil, err
	}
	if state.Version != s.candidate.Version && !s.candidate.Development() {
		s.kill()
		return nil, shared.NewError(shared.ReasonEngineInvalid, "the engine %s says that it is version %s, and its name says %s", s.candidate.Path, state.Version, s.candidate.Version).
			WithHint("give the file the name of its version: `%s describe` tells it", s.candidate.Path)
	}
	c, err := dial(ctx, state)
	if err != nil {
		s.kill()
		return nil, s.failed("came up and does not answer", err)
	}
	if err := s.cfg.noteVerification(s.candidate, state); err != nil {
		s.kill()
		return nil, errors.Join(shared.NewError(shared.ReasonStorage, "note which engine runs: %w", err), c.close())
	}
	// Reaps the engine if it dies before this command ends; the command does not
	// wait for it, so the goroutine ends with either.
	go func() { _ = s.cmd.Wait() }()
	return c, nil
}

// kill ends a process that did not become an engine.
func (s *starting) kill() {
	_ = s.cmd.Process.Kill() // it may have ended by itself
	_ = s.cmd.Wait()         // reaps it; how it ended does not matter any more
}

// await waits for the engine's answer. One that gives none counts as crashed.
func (s *starting) await(ctx context.Context) (launch.State, error) {
	answer, err := s.answer(ctx)
	switch {
	case err == nil && answer.Error == nil:
		return *answer.State, nil
	case err == nil:
		_ = s.cmd.Wait() // it ends by itself, and has said why
		return launch.State{}, answer.Error.Err()
	}
	s.kill()
	if ctx.Err() != nil {
		return launch.State{}, shared.AsError(ctx.Err())
	}
	err = s.failed("did not come up", err)
	return launch.State{}, errors.Join(err, s.cfg.bury(fmt.Sprintf("process %d", s.cmd.Process.Pid), time.Now()))
}

func arguments(spec launch.Spec) []string {
	args := []string{"serve", "-home", spec.Home, "-run", spec.Run}
	for _, addr := range spec.Settings.Listen {
		args = append(args, "-listen", addr)
	}
	for _, addr := range spec.Settings.Bootstrap {
		args = append(args, "-bootstrap", addr)
	}
	if spec.Settings.DHTServer {
		args = append(args, "-dht-server")
	}
	if spec.Settings.Network != "" {
		args = append(args, "-network", spec.Settings.Network)
	}
	if spec.Settings.NetworkKey != "" {
		args = append(args, "-network-key", spec.Settings.NetworkKey)
	}
	for flag, on := range map[string]bool{"-no-mdns": spec.Settings.NoMDNS, "-light": spec.Settings.Light, "-super-peer": spec.Settings.SuperPeer} {
		if on {
			args = append(args, flag)
		}
	}
	for _, id := range spec.Settings.AllowPeers {
		args = append(args, "-allow-peer", id)
	}
	for flag, n := range map[string]int64{
		"-lookup-fanout": int64(spec.Settings.LookupFanout), "-lookup-concurrency": int64(spec.Settings.LookupConcurrency),
		"-upload-limit": spec.Settings.UploadLimit, "-memory": spec.Settings.Memory,
	} {
		if n > 0 {
			args = append(args, flag, strconv.FormatInt(n, 10))
		}
	}
	if spec.Settings.Cache != (launch.Cache{}) {
		args = append(args, "-cache", spec.Settings.Cache.String())
	}
	if spec.Settings.MetricsAddr != "" {
		args = append(args, "-metrics-addr", spec.Settings.MetricsAddr)
	}
	if spec.Settings.Location != nil {
		args = append(args, "-location", spec.Settings.Location.String())
	}
	if spec.Settings.IdleStop > 0 {
		args = append(args, "-idle", spec.Settings.IdleStop.String())
	}
	if spec.Stay {
		args = append(args, "-stay")
	}
	if spec.LockWait > 0 {
		args = append(args, "-lock-wait", spec.LockWait.String())
	}
	return args
}

// environment is ours without what would make the engine take itself for a
// go-plugin child, and without a secret that it needs no longer than a call.
func environment() []string {
	cookie, passphrase := rpc.Handshake().MagicCookieKey+"=", launch.PassphraseVariable+"="
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, cookie) && !strings.HasPrefix(pair, passphrase) && !strings.HasPrefix(pair, "PLUGIN_") {
			env = append(env, pair)
		}
	}
	return env
}

// answer reads the one line that an engine prints, bounded in size and time.
func (s *starting) answer(ctx context.Context) (launch.Answer, error) {
	type result struct {
		line []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(s.stdout, launch.MaxAnswer)).ReadBytes('\n')
		read <- result{line, err}
	}()
	defer func() { _ = s.stdout.Close() }() // also ends the reader
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case r := <-read:
			if r.err != nil && !(errors.Is(r.err, io.EOF) && len(r.line) > 0) {
				return launch.Answer{}, errors.New("it ended without an answer")
			}
			return launch.ParseAnswer(r.line)
		case <-tick.C:
			if err := boundLog(launch.LogFile(s.cfg.home())); err != nil {
				return launch.Answer{}, err
			}
		case <-timer.C:
			return launch.Answer{}, fmt.Errorf("it did not answer within %s", s.patience)
		case <-ctx.Done():
			return launch.Answer{}, ctx.Err()
		}
	}
}

// maxStartLog is how much an engine may write before it is up, in bytes.
const maxStartLog = 16 * launch.MaxLog

// boundLog refuses an engine that floods its log, of which only the beginning is
// kept.
func boundLog(path string) error {
	if info, err := os.Stat(path); err == nil && info.Size() > maxStartLog {
		return errors.Join(fmt.Errorf("it wrote over %d MiB of log", maxStartLog>>20), os.Truncate(path, launch.MaxLog))
	}
	return nil
}

// failed is about an engine that did not become one. What it wrote, and nobody
// before it, says more: the runtime's last words if there are any.
func (s *starting) failed(what string, cause error) error {
	path := launch.LogFile(s.cfg.home())
	words := wordsSince(path, s.logStart)
	if last := fatalLine(words); last != "" {
		cause = fmt.Errorf("%w: %s", cause, last)
	}
	e := s.cfg.withLog(shared.NewError(shared.ReasonEngineFailed, "the engine %s %s: %w", s.candidate.Path, what, cause))
	if len(words) > 0 {
		return e.WithHint("its log, %s, ends with:\n%s", path, lastLines(words))
	}
	return e.WithHint("is it a ggen engine at all? its log is %s", path)
}

// openLog opens the log for appending; a large one is put aside once.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > launch.MaxLog {
		// An engine that came to nothing may have written much more.
		if err := errors.Join(os.Truncate(path, launch.MaxLog), os.Rename(path, path+".old")); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}
