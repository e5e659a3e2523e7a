//go:build !ggen_next_protocol

package rpc

import (
	"google.golang.org/grpc"

	"ggen.dev/marketplace/shared"
)

// Newest is the newest version of the contract that this build speaks.
const Newest = 1

// extend serves what versions after the first have added: nothing yet.
func extend(_ grpc.ServiceRegistrar, impl shared.Marketplace) shared.Marketplace { return impl }
