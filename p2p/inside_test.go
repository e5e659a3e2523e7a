package p2p

import (
	"context"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"

	"ggen.dev/marketplace/p2p/ask"
	"ggen.dev/marketplace/p2p/reputation"
)

// HostOf is an engine's host, for tests in which it does what no engine does.
func HostOf(e *Engine) host.Host { return e.node.Host() }

// Banned tells whether a ban is on the disk of an engine, which runs.
func Banned(t *testing.T, e *Engine, id string) bool {
	t.Helper()
	book, err := reputation.Open(e.db)
	if err != nil {
		t.Fatal(err)
	}
	return book.Banned(id)
}

// LendOf is how an engine answers light ones.
func LendOf(e *Engine) func(context.Context, ask.Request) (ask.Answer, error) { return e.lend }
