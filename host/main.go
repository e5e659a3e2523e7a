// Command ggen shares packages of the ggen code generator between peers, without
// a registry: `ggen marketplace search`, `install`, `publish` and so on.
//
// This program parses, calls and prints. What it calls is an engine, a separate
// process that package host/engine finds and starts and that package shared
// describes; what a project's folder holds is the business of package
// host/project, and how results look of package host/render.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/telemetry"
)

// version is set by the linker when a release is built.
var version = "0.1.0"

func main() {
	os.Exit(int(realMain(installedEngines{})))
}

// realMain runs the program with the process's surroundings.
func realMain(with engines) exitCode {
	dir, err := os.Getwd()
	p := &program{
		args: os.Args, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, dir: dir, dirErr: err, version: version, engines: with,
		stdinTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		stdoutTerminal: term.IsTerminal(int(os.Stdout.Fd())), stderrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	p.password = func(ctx context.Context) (string, error) { return readPassword(ctx, int(os.Stdin.Fd())) }
	if p.stdoutTerminal {
		if columns, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
			p.width = columns
		}
	}
	ctx, stop := untilSignal(context.Background())
	defer stop()
	traced, err := telemetry.Traces(ctx, "ggen", version)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "warning: traces are not exported:", err)
	}
	defer traced()
	return p.run(telemetry.FromEnvironment(ctx))
}

// readPassword reads a line from a terminal that does not show it. When ctx ends first,
// the terminal is as it was.
func readPassword(ctx context.Context, fd int) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", shared.NewError(shared.ReasonInvalidArgument, "the terminal cannot be read without echo: %w", err)
	}
	type result struct {
		line []byte
		err  error
	}
	read := make(chan result, 1)
	go func() { // ends with the process, if nobody ever answers
		line, err := term.ReadPassword(fd)
		read <- result{line, err}
	}()
	select {
	case r := <-read:
		if r.err != nil {
			return "", shared.NewError(shared.ReasonInvalidArgument, "read the passphrase: %w", r.err)
		}
		return string(r.line), nil
	case <-ctx.Done():
		_ = term.Restore(fd, before) // nothing else can be done about it
		return "", context.Cause(ctx)
	}
}

// untilSignal ends the context at the first SIGINT or SIGTERM, with the signal as
// its cause. The second one ends the process as if nobody had asked for signals.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(signalled{s})
		case <-ctx.Done():
			signal.Stop(signals)
		}
	}()
	return ctx, func() {
		cancel(context.Canceled)
		<-done
	}
}
