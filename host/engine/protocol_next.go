//go:build ggen_next_protocol

package engine

import (
	"context"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc"
)

// Greet is the call that the rehearsed next version of the protocol adds; see
// shared/rpc.
func (s *Session) Greet(ctx context.Context, name string) (string, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (string, error) {
		return m.(*rpc.Client).Greet(ctx, name)
	})
}
