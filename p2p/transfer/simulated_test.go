package transfer_test

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

// simulated fetches data over simulated QUIC from a server for each uplink, given
// in Mbit/s, and returns the virtual time that it took. stall makes the last
// server stop after so many chunks.
func simulated(t *testing.T, data []byte, oneWay time.Duration, stall int, uplinks ...int) (took time.Duration, stats transfer.Stats) {
	synctest.Test(t, func(t *testing.T) {
		sim := &simnet.Simnet{LatencyFunc: simnet.StaticLatency(oneWay), Logger: slog.New(slog.DiscardHandler)}
		sim.Start()
		defer sim.Close()
		newHost := func(i, up, down int) host.Host {
			h, err := libp2p.New(
				libp2p.ListenAddrStrings("/ip4/"+simnet.IntToPublicIPv4(i).String()+"/udp/8000/quic-v1"),
				simlibp2p.QUICSimnet(sim, simnet.NodeBiDiLinkSettings{
					Uplink:   simnet.LinkSettings{BitsPerSecond: up * simlibp2p.OneMbps},
					Downlink: simnet.LinkSettings{BitsPerSecond: down * simlibp2p.OneMbps},
				}),
				libp2p.DisableIdentifyAddressDiscovery(), libp2p.ResourceManager(&network.NullResourceManager{}),
				libp2p.DisableRelay(), libp2p.DisableMetrics())
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		release := make(chan struct{})
		var peers []peer.AddrInfo
		var closing []func() error
		for i, up := range uplinks {
			h := newHost(i+1, up, 100)
			blob := memory{data: data}
			if stall > 0 && i == len(uplinks)-1 {
				served := make(chan struct{}, stall)
				blob.before = func(int64) error {
					select {
					case served <- struct{}{}:
					case <-release:
					}
					return nil
				}
			}
			server, err := transfer.Serve(h, func(shared.Digest) (transfer.Blob, error) { return blob, nil }, transfer.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			peers = append(peers, info(h))
			closing = append(closing, server.Close, h.Close)
		}
		h := newHost(0, 1000, 1000)
		c, err := transfer.NewClient(h, transfer.Config{})
		if err != nil {
			t.Fatal(err)
		}
		into := newTarget(t, t.TempDir(), data)
		started := time.Now()
		if stats, err = c.Fetch(t.Context(), into.want, into.open, candidates(peers...), nil); err != nil {
			t.Fatal(err)
		}
		took = time.Since(started)
		into.mustHold(t)
		close(release)
		for _, end := range append([]func() error{c.Close, h.Close}, closing...) {
			_ = end()
		}
		<-time.After(time.Minute) // virtual: lets the transports' timers run out
	})
	return took, stats
}

// TestSimulatedLinks fetches 6 MiB over links of 45 ms. It asserts what must hold
// on any schedule; the times are for people.
func TestSimulatedLinks(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates some seconds of packets")
	}
	data := content(6 << 20)
	for _, tc := range []struct {
		name    string
		stall   int
		uplinks []int
	}{
		{"one peer of 20 Mbit/s", 0, []int{20}},
		{"four peers of 20 Mbit/s", 0, []int{20, 20, 20, 20}},
		{"four peers of 50 Mbit/s", 0, []int{50, 50, 50, 50}},
		{"three of 20 and one of 1 Mbit/s", 0, []int{20, 20, 20, 1}},
		{"three of 20 and one that stalls", 3, []int{20, 20, 20, 20}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			took, stats := simulated(t, data, 45*time.Millisecond, tc.stall, tc.uplinks...)
			t.Logf("%s, %d peers, %.1f %% arrived twice", took.Round(time.Millisecond), len(stats.From), 100*float64(stats.Wasted)/float64(len(data)))
			if stats.Wasted > int64(len(data))/4 {
				t.Errorf("%d bytes arrived twice", stats.Wasted)
			}
		})
	}
}
