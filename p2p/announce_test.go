package p2p_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

// TestReleasesReachEverybodyAtOnce: an announcement that is too large for its entry is passed
// on by peers that have not fetched the entry yet; those who hear of it from them have it
// soon all the same, and not only after the next comparison of catalogues.
func TestReleasesReachEverybodyAtOnce(t *testing.T) {
	const peers, soon = 12, 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.NewNetwork(t, p2ptest.Links{Between: func(from, to int) time.Duration {
			return time.Duration(5+(from*7919+to*7919)%95) * time.Millisecond
		}})
		engines := make([]*p2p.Engine, peers)
		for i := range engines {
			cfg := p2p.Config{Home: t.TempDir(), Listen: net.Listen(i), Options: net.Options()}
			for j := max(0, i-2); j < i; j++ { // a chain in which few know each other at first
				cfg.Bootstrap = append(cfg.Bootstrap, address(t, engines[j]))
			}
			e, err := p2p.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			})
			engines[i] = e
		}
		<-time.After(5 * time.Second)
		for round, name := range []string{"first", "second", "third", "fourth"} {
			text := manifest(name, "1.0.0") + "keywords = [\"" + strings.Repeat("long-", 10) + "\"]\n"
			if _, err := engines[round*peers/4].Publish(t.Context(), shared.PublishRequest{}, files(t, "package.toml", text,
				"README.md", strings.Repeat("What it does, in many words. ", 60)), nil); err != nil {
				t.Fatal(err)
			}
			<-time.After(soon)
			for i, e := range engines {
				if _, err := e.Describe(t.Context(), shared.Ref{Name: name}); err != nil {
					t.Errorf("peer %d does not know %s after %s: %v", i, name, soon, err)
				}
			}
		}
	})
}
