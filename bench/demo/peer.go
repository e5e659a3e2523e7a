package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// peer is one person's machine: a home, a project, and the engine that `ggen`
// keeps running for that home.
type peer struct {
	name    string
	ggen    string
	ctx     context.Context
	home    string
	project string
	address string // one dialable address, with the peer ID
	pids    []int  // every engine process that this peer has had
	stopped bool
}

// status is what the demo reads of `p2p status --json`.
type status struct {
	PeerID    string `json:"peer_id"`
	EnginePID int    `json:"engine_pid"`
}

// start makes a home and a project and runs `p2p start` for it.
func (s *story) start(name string, args ...string) (*peer, error) {
	p := &peer{name: name, ggen: s.ggen, ctx: s.ctx, home: filepath.Join(s.dir, name), project: filepath.Join(s.dir, name+"-project")}
	if err := os.MkdirAll(p.project, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(p.project, "ggen.toml"), []byte("[project]\nname = \"demo\"\n"), 0o644); err != nil {
		return nil, err
	}
	s.peers = append(s.peers, p)
	var started struct {
		PeerID          string   `json:"peer_id"`
		ListenAddresses []string `json:"listen_addresses"`
	}
	listen := []string{"p2p", "start", "--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"}
	took, err := p.json(&started, append(listen, args...)...)
	if err != nil {
		return nil, err
	}
	if len(started.ListenAddresses) == 0 {
		return nil, fmt.Errorf("peer %s listens nowhere", name)
	}
	p.address = started.ListenAddresses[0]
	st, err := p.status()
	if err != nil {
		return nil, err
	}
	p.pids = append(p.pids, st.EnginePID)
	fmt.Printf("    %s is peer %s, at %s\n", name, started.PeerID, p.address)
	s.note("start a peer", p, took)
	return p, nil
}

// stop ends the peer's engine as its user would.
func (s *story) stop(p *peer) error {
	out, err := p.ok("p2p", "stop")
	if err != nil {
		return err
	}
	p.stopped = true
	s.note("stop", p, out.took)
	return nil
}

// cleanUp ends whatever still runs, and fails if something had been left running
// by a story that thought itself finished.
func (s *story) cleanUp(ctx context.Context) error {
	// The story's context may be over (Ctrl-C); cleaning up has its own time.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var errs []error
	for _, p := range s.peers {
		if !p.stopped {
			p.run(ctx, "p2p", "stop")
		}
		for _, pid := range p.pids {
			if !waitGone(ctx, pid) {
				errs = append(errs, fmt.Errorf("peer %s left process %d behind", p.name, pid))
				errs = append(errs, signalProcess(pid, syscall.SIGKILL))
			}
		}
	}
	return errors.Join(errs...)
}

func (p *peer) status() (status, error) {
	var st status
	_, err := p.json(&st, "p2p", "status")
	return st, err
}

// output is what one command did.
type output struct {
	args           []string
	stdout, stderr string
	code           int
	took           time.Duration
}

func (o output) text() string {
	return fmt.Sprintf("$ ggen marketplace %s\n%s%s", strings.Join(o.args, " "), o.stdout, o.stderr)
}

// run starts `ggen marketplace args…` as this peer's user.
func (p *peer) run(ctx context.Context, args ...string) output {
	cmd := exec.CommandContext(ctx, p.ggen, append([]string{"marketplace"}, args...)...)
	cmd.Dir = p.project
	cmd.Env = append(os.Environ(), "GGEN_HOME="+p.home, "NO_COLOR=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	out := output{args: args, stdout: stdout.String(), stderr: stderr.String(), took: time.Since(begin), code: cmd.ProcessState.ExitCode()}
	if err != nil && cmd.ProcessState == nil {
		out.stderr, out.code = err.Error(), -1
	}
	return out
}

// ok runs a command that has to succeed.
func (p *peer) ok(args ...string) (output, error) {
	out := p.run(p.ctx, args...)
	if out.code != 0 {
		return out, fmt.Errorf("peer %s: exit code %d\n%s", p.name, out.code, out.text())
	}
	return out, nil
}

// json runs a command that has to succeed and reads its one document into v.
func (p *peer) json(v any, args ...string) (time.Duration, error) {
	out, err := p.ok(append(args, "--json")...)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal([]byte(out.stdout), v); err != nil {
		return 0, fmt.Errorf("peer %s: %w\n%s", p.name, err, out.text())
	}
	return out.took, nil
}

func digest(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

func signalProcess(pid int, sig syscall.Signal) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Signal(sig)
}

// waitGone waits until no process has this pid.
func waitGone(ctx context.Context, pid int) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for signalProcess(pid, syscall.Signal(0)) == nil {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
