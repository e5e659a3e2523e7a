package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// maxLog is the size at which the engine's log is put aside when an engine starts.
const maxLog = 4 << 20

// launchEngine starts a background engine and attaches to it. The caller holds
// the host's lock and knows that no engine runs.
func launchEngine(ctx context.Context, cfg Config, spec launch.Spec) (*connection, []shared.Diagnostic, error) {
	candidate, err := choose(cfg)
	if err != nil {
		return nil, nil, err
	}
	var notices []shared.Diagnostic
	if candidate.Source == DevVariable {
		notices = append(notices, shared.Diagnostic{
			Severity: shared.SeverityWarning, Message: "the engine is " + candidate.Path + ", unverified, because " + DevVariable + " is set",
			Hint: "unset " + DevVariable + " to use the installed engine",
		})
	}
	removeStaleSockets(cfg.run())
	state, err := spawn(ctx, cfg, candidate, spec)
	if err != nil {
		return nil, nil, err
	}
	c, err := dial(ctx, state)
	if err != nil {
		return nil, nil, failed(cfg, "the engine "+candidate.Path+" came up and does not answer", err)
	}
	return c, notices, nil
}

// spawn starts the process, in a session of its own so that neither Ctrl-C nor a
// closed terminal reaches it, and waits for its answer.
func spawn(ctx context.Context, cfg Config, candidate Candidate, spec launch.Spec) (launch.State, error) {
	logFile, err := openLog(launch.LogFile(cfg.home()))
	if err != nil {
		return launch.State{}, shared.NewError(shared.ReasonStorage, "open the engine's log: %w", err)
	}
	defer func() { _ = logFile.Close() }() // the engine has its own copy
	// Not CommandContext: the engine outlives this command.
	cmd := exec.Command(candidate.Path, arguments(spec)...) //nolint:noctx // the engine has to outlive the context of the command that starts it
	cmd.Dir = filepath.Dir(candidate.Path)                  // and not the user's folder, which it would keep busy
	cmd.Env = environment()
	cmd.Stderr = logFile
	cmd.SysProcAttr = detached()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return launch.State{}, shared.NewError(shared.ReasonEngineFailed, "start the engine: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return launch.State{}, shared.NewError(shared.ReasonEngineInvalid, "start the engine %s: %w", candidate.Path, err).
			WithHint("it is not a program for this machine; install it again")
	}
	answer, err := awaitAnswer(ctx, stdout)
	if err != nil {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // reap it; how it ended does not matter any more
		if ctx.Err() != nil {
			return launch.State{}, shared.AsError(ctx.Err())
		}
		return launch.State{}, failed(cfg, "the engine "+candidate.Path+" did not come up", err)
	}
	if answer.Error != nil {
		_ = cmd.Wait() // it ends by itself, and has said why
		return launch.State{}, answer.Error.Err()
	}
	if answer.State.Protocol != rpc.Protocol {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return launch.State{}, shared.NewError(shared.ReasonEngineProtocol, "the engine %s speaks protocol %d, and this ggen speaks %d", candidate.Path, answer.State.Protocol, rpc.Protocol)
	}
	// Reaps the engine if it dies before this command ends; the command does not
	// wait for it, so the goroutine ends with either.
	go func() { _ = cmd.Wait() }()
	return *answer.State, nil
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
	if spec.Settings.IdleStop > 0 {
		args = append(args, "-idle", spec.Settings.IdleStop.String())
	}
	if spec.Stay {
		args = append(args, "-stay")
	}
	return args
}

// environment is ours without what would make the engine take itself for a
// go-plugin child.
func environment() []string {
	cookie := rpc.Handshake().MagicCookieKey + "="
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, cookie) && !strings.HasPrefix(pair, "PLUGIN_") {
			env = append(env, pair)
		}
	}
	return env
}

// awaitAnswer reads the one line that an engine prints, bounded in size and time.
func awaitAnswer(ctx context.Context, stdout io.ReadCloser) (launch.Answer, error) {
	type result struct {
		line []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(stdout, launch.MaxAnswer)).ReadBytes('\n')
		read <- result{line, err}
	}()
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	defer func() { _ = stdout.Close() }() // also ends the reader
	select {
	case r := <-read:
		if r.err != nil && !(errors.Is(r.err, io.EOF) && len(r.line) > 0) {
			return launch.Answer{}, errors.New("it ended without an answer")
		}
		return launch.ParseAnswer(r.line)
	case <-timer.C:
		return launch.Answer{}, fmt.Errorf("it did not answer within %s", startTimeout)
	case <-ctx.Done():
		return launch.Answer{}, ctx.Err()
	}
}

func failed(cfg Config, what string, cause error) error {
	e := shared.NewError(shared.ReasonEngineFailed, "%s: %w", what, cause).With("log", launch.LogFile(cfg.home()))
	if last := tail(launch.LogFile(cfg.home())); last != "" {
		return e.WithHint("its log, %s, ends with:\n%s", launch.LogFile(cfg.home()), last)
	}
	return e.WithHint("is it a ggen engine at all? its log is %s", launch.LogFile(cfg.home()))
}

// openLog opens the log for appending; a large one is put aside once.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func specVariable(spec launch.Spec) (string, error) {
	data, err := json.Marshal(spec)
	return launch.SpecVariable + "=" + string(data), err
}
