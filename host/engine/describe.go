package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc"
)

// description is what an engine binary says of itself, without network or disk.
type description struct {
	Version   string `json:"version"`
	Protocols []int  `json:"protocols"`
}

const (
	// describeTimeout bounds how long an engine may take to describe itself; it
	// takes 10 ms.
	describeTimeout = 10 * time.Second
	// maxDescription bounds what it may say, in bytes.
	maxDescription = 64 << 10
)

// describe asks an engine binary that was verified.
func describe(ctx context.Context, c plugins.Candidate) (d description, err error) {
	asking, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	cmd := exec.CommandContext(asking, c.Path, "describe")
	cmd.Env = environment()
	cmd.WaitDelay = time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return d, err
	}
	if err := cmd.Start(); err != nil {
		return d, notAnEngine(c, err)
	}
	text, err := io.ReadAll(io.LimitReader(stdout, maxDescription))
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(stdout, maxDescription)) // one that floods is cut off by Wait
	}
	_ = stdout.Close()
	if waited := cmd.Wait(); err == nil {
		err = waited
	}
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err == nil && len(d.Protocols) == 0 {
		err = fmt.Errorf("it names no protocol")
	}
	if ctx.Err() != nil {
		return d, shared.AsError(ctx.Err())
	}
	if err != nil {
		return d, notAnEngine(c, err)
	}
	return d, nil
}

func notAnEngine(c plugins.Candidate, err error) error {
	return shared.NewError(shared.ReasonEngineInvalid, "the engine %s does not describe itself: %w", c.Path, err).
		WithHint("it is no engine for this machine; install it again").With("path", c.Path)
}

// learn asks the engines whose newest protocol is beyond ours whether they speak
// an older one too, those that are verified and were not asked before: whoever
// lists engines must execute none.
func (cfg Config) learn(ctx context.Context) error {
	search := cfg.Search()
	found, err := plugins.Find(search)
	if err != nil {
		return err
	}
	known := cfg.described()
	for _, c := range found {
		if c.Protocol <= rpc.Newest || c.OS != runtime.GOOS || c.Arch != runtime.GOARCH || c.Digest == "" || known[c.Digest] != nil {
			continue
		}
		if plugins.Check(ctx, search, c) != nil {
			continue // whoever would use it is told
		}
		d, err := describe(ctx, c)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			continue
		}
		known[c.Digest] = d.Protocols
		data, err := json.Marshal(known)
		if err != nil {
			return shared.AsError(err)
		}
		// Only a cache: without it the next command asks again.
		_ = os.WriteFile(cfg.describedFile(), data, 0o600)
	}
	return nil
}

func (cfg Config) describedFile() string { return filepath.Join(cfg.run(), "described.json") }

// described are the protocols of engines that were asked, by digest.
func (cfg Config) described() map[shared.Digest][]int {
	known := map[shared.Digest][]int{}
	if json.Unmarshal(readHead(cfg.describedFile(), maxDescription), &known) != nil || known == nil {
		return map[shared.Digest][]int{} // a damaged cache is an empty one
	}
	return known
}

// facts are what [plugins.Search] may know of engines without executing them.
func (cfg Config) facts() plugins.Facts {
	known := cfg.described()
	return func(c plugins.Candidate) ([]int, bool) {
		protocols, ok := known[c.Digest]
		return protocols, ok
	}
}
