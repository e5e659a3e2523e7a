//go:build ggen_next_protocol

// Command nexthost is a host that speaks the rehearsed next version of the
// protocol. It makes one call that every version has and the one that was added,
// and prints how they went.
package main

import (
	"context"
	"fmt"
	"os"

	"ggen.dev/marketplace/host/engine"
	"ggen.dev/marketplace/shared"
)

func main() {
	ctx := context.Background()
	s, err := engine.Connect(ctx, engine.Config{
		Home: os.Args[1], PluginDirs: os.Args[2:], Settings: engine.Settings{Listen: []string{"/ip4/127.0.0.1/tcp/0"}},
	})
	if err != nil {
		fmt.Println("connect:", string(shared.AsError(err).Reason), err)
		return
	}
	defer func() { _ = s.Close() }() // only detaches
	info, err := s.Info(ctx)
	fmt.Println("engine:", info.Version, info.Protocols, err)
	found, err := s.Search(ctx, shared.SearchQuery{})
	fmt.Println("search:", found.Total, err)
	greeting, err := s.Greet(ctx, "world")
	if err != nil {
		fmt.Println("greet:", string(shared.AsError(err).Reason), shared.AsError(err).Hint)
		return
	}
	fmt.Println("greet:", greeting)
}
