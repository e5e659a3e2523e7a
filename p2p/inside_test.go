package p2p

import (
	"context"

	"github.com/libp2p/go-libp2p/core/host"

	"ggen.dev/marketplace/p2p/ask"
)

// HostOf is an engine's host, for tests in which it does what no engine does.
func HostOf(e *Engine) host.Host { return e.node.Host() }

// LendOf is how an engine answers light ones.
func LendOf(e *Engine) func(context.Context, ask.Request) (ask.Answer, error) { return e.lend }
