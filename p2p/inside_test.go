package p2p

import "github.com/libp2p/go-libp2p/core/host"

// HostOf is an engine's host, for tests in which it does what no engine does.
func HostOf(e *Engine) host.Host { return e.node.Host() }
