package engine

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// startForOneCommand starts an engine as an ordinary go-plugin child that ends
// with this command: where no engine can live in the background.
func startForOneCommand(ctx context.Context, cfg Config) (*connection, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	candidate, err := cfg.choose(ctx)
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(launch.Spec{Home: cfg.home(), Run: cfg.run(), Settings: cfg.Settings})
	if err != nil {
		return nil, shared.AsError(err)
	}
	// go-plugin starts without a context; this one ends with ctx until the engine is
	// up, and with the connection after that.
	living, kill := context.WithCancel(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, kill)
	cmd := exec.CommandContext(living, candidate.Path)
	cmd.Env = append(environment(), launch.SpecVariable+"="+string(spec))
	said := &lastWords{}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  rpc.Handshake(),
		VersionedPlugins: rpc.Plugins(nil, nil),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		GRPCDialOptions:  rpc.DialOptions(),
		Cmd:              cmd,
		AutoMTLS:         true,
		StartTimeout:     startTimeout,
		Stderr:           said,
		// Off, and not merely discarding: go-plugin 1.8.0 parses every line that the
		// engine writes to standard error, and panics on some, unless its logger is off.
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Off}),
	})
	c, err := dispense(client, candidate)
	if !detach() || err != nil {
		kill()
		client.Kill()
		if ctx.Err() != nil {
			return nil, shared.AsError(ctx.Err())
		}
		return nil, said.explain(err)
	}
	c.close = func() error {
		client.Kill()
		kill()
		return nil
	}
	return c, nil
}

// lastWords keeps the end of what an engine writes to standard error.
type lastWords struct {
	mu   sync.Mutex // guards text
	text []byte
}

// Write implements io.Writer.
func (l *lastWords) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p[max(0, len(p)-maxTail):]...)
	l.text = l.text[max(0, len(l.text)-maxTail):]
	return len(p), nil
}

func (l *lastWords) explain(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := shared.AsError(err)
	if last := lastLines(l.text); last != "" {
		return e.WithHint("it said:\n%s", last).With("log_tail", last)
	}
	return e.WithHint("is it a ggen engine at all?")
}

func dispense(client *plugin.Client, candidate plugins.Candidate) (*connection, error) {
	protocol, err := client.Client()
	if err != nil {
		// go-plugin's text goes on about file permissions.
		line, _, _ := strings.Cut(err.Error(), "\n")
		return nil, shared.NewError(shared.ReasonEngineFailed, "the engine %s did not come up: %s", candidate.Path, strings.TrimRight(line, ": "))
	}
	dispensed, err := protocol.Dispense(rpc.PluginName)
	if err != nil {
		return nil, shared.NewError(shared.ReasonEngineFailed, "the engine %s has no marketplace: %w", candidate.Path, err)
	}
	c, ok := dispensed.(*rpc.Client)
	if !ok {
		return nil, shared.NewError(shared.ReasonEngineProtocol, "the engine dispenses %T", dispensed)
	}
	state := launch.State{Version: candidate.Version}
	if attached := client.ReattachConfig(); attached != nil {
		state.PID = attached.Pid
	}
	return &connection{client: c, state: state}, nil
}

// runChild is [RunForeground] where no engine can live in the background.
func runChild(ctx context.Context, cfg Config, ready func(*Session)) error {
	if err := cfg.check(); err != nil {
		return err
	}
	c, err := startForOneCommand(ctx, cfg)
	if err != nil {
		return err
	}
	s := &Session{cfg: cfg, conn: c}
	ready(s)
	err = s.watchUntilGone(ctx)
	if ctx.Err() != nil {
		err = nil // it was told to end
	}
	return errors.Join(err, s.Close())
}
