package p2p

import (
	"context"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"

	"ggen.dev/marketplace/p2p/ask"
	"ggen.dev/marketplace/p2p/reputation"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

// HostOf is an engine's host, for tests in which it does what no engine does.
func HostOf(e *Engine) host.Host { return e.node.Host() }

// ServeUnverified has an engine send whatever its files have become, as a liar would.
func ServeUnverified(t *testing.T, e *Engine) {
	t.Helper()
	server, err := transfer.Serve(e.node.Host(), func(digest shared.Digest) (transfer.Blob, error) { return e.store.Open(digest) }, transfer.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
}

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
