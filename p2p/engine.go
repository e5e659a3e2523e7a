// Package p2p is the marketplace engine: a peer that publishes, finds and
// installs packages without a server. [Engine] implements shared.Marketplace by
// composing the small packages below this folder, which do not know each other;
// here is the only place where they meet. It does not know gRPC, go-plugin or
// the command line: package plugin serves it, package host calls it.
package p2p

import (
	"context"
	"log/slog"

	"ggen.dev/marketplace/shared"
)

// Config describes an engine. Home is required; every other zero value has the
// documented default.
type Config struct {
	Home      string       // absolute folder for keys, database and content; made 0700 if missing
	Listen    []string     // multiaddrs; default: loopback-free wildcard TCP and QUIC on a free port
	Bootstrap []string     // multiaddrs that end in /p2p/<peer ID>
	DHTServer bool         // serve the DHT even when reachability is unknown
	Network   string       // name of the network; peers of another name are strangers; default "ggen"
	Version   string       // semver of this build, for Info; default "0.0.0-dev"
	Logger    *slog.Logger // default: discards
}

// Engine is a running peer.
type Engine struct {
	shared.Marketplace
}

// Open starts a peer. ctx bounds opening only; Close ends what was opened.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	return nil, shared.NewError(shared.ReasonUnimplemented, "engine is being built")
}

// Close stops the peer and waits for it. It is idempotent.
func (e *Engine) Close() error { return nil }
