package p2p_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

// longestRound is the longest time between two anti-entropy rounds of a peer, and the
// time that the last one may take, in virtual time.
const longestRound = 72*time.Second + 10*time.Second

// setting is a number from the environment, for longer runs than the usual one.
func setting(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestPartitionsHeal: whatever was published where, and whoever left, came back or was
// cut off meanwhile, all peers have the same catalogue soon after the network is whole
// again. Engines, stores and protocols are the real ones; links and time are simulated.
//
// GGEN_TEST_SEEDS runs more histories, GGEN_TEST_PEERS larger ones, GGEN_TEST_SEED one
// of them again.
func TestPartitionsHeal(t *testing.T) {
	peers, seeds, first := setting(t, "GGEN_TEST_PEERS", 8), setting(t, "GGEN_TEST_SEEDS", 2), setting(t, "GGEN_TEST_SEED", 1)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			if testing.Short() {
				t.Skip("takes seconds")
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed, peers)
				for range 12 {
					w.step()
				}
				w.heal()
			})
		})
	}
}

// world is a simulated network of engines.
type world struct {
	t       *testing.T
	random  *rand.Rand
	net     *p2ptest.Network
	side    []atomic.Bool // which part of the network each host is on
	engines []*p2p.Engine
	homes   []string
	told    int // packages published so far
	host    int // next one
}

// newWorld starts peers that know the first one.
func newWorld(t *testing.T, seed, peers int) *world {
	t.Helper()
	w := &world{t: t, random: rand.New(rand.NewPCG(uint64(seed), 0)), side: make([]atomic.Bool, 1<<10)}
	w.net = p2ptest.NewNetwork(t, p2ptest.Links{Between: func(from, to int) time.Duration {
		if from < 0 || to < 0 || w.side[from].Load() != w.side[to].Load() {
			return time.Hour // when it arrives, nobody remembers the connection
		}
		return time.Duration(10+(from*7+to*7)%40) * time.Millisecond
	}})
	for range peers {
		w.homes = append(w.homes, t.TempDir())
		w.engines = append(w.engines, nil)
		w.start(len(w.engines) - 1)
	}
	return w
}

// start opens a peer, under an address of its own as after a restart elsewhere.
func (w *world) start(i int) {
	w.t.Helper()
	var bootstrap []string
	for j, e := range w.engines {
		if j != i && e != nil {
			bootstrap = append(bootstrap, address(w.t, e))
			break
		}
	}
	e, err := p2p.Open(w.t.Context(), p2p.Config{
		Home: w.homes[i], Bootstrap: bootstrap, Version: "0.1.0", Listen: w.net.Listen(w.host), Options: w.net.Options(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.host++
	w.engines[i] = e
	w.t.Cleanup(func() { w.stop(i) })
}

func (w *world) stop(i int) {
	if w.engines[i] == nil {
		return
	}
	if err := w.engines[i].Close(); err != nil {
		w.t.Errorf("close peer %d: %v", i, err)
	}
	w.engines[i] = nil
}

// step is one thing that happens, and some time.
func (w *world) step() {
	w.t.Helper()
	i := w.random.IntN(len(w.engines))
	switch action := w.random.IntN(10); {
	case action < 5:
		if w.engines[i] != nil {
			w.told++
			publish(w.t, w.engines[i], fmt.Sprintf("package-%d", w.told), "1.0.0")
		}
	case action < 7:
		for host := range w.side {
			w.side[host].Store(w.random.IntN(2) == 1)
		}
	case action < 8:
		w.whole()
	case w.engines[i] == nil:
		w.start(i)
	case i > 0: // the first one stays, so that there is somebody to join
		w.stop(i)
	}
	<-time.After(time.Duration(w.random.IntN(90)) * time.Second)
}

// whole ends every partition.
func (w *world) whole() {
	for host := range w.side {
		w.side[host].Store(false)
	}
}

// heal ends the partition, wakes everybody up and waits until all have everything.
func (w *world) heal() {
	w.t.Helper()
	w.whole()
	for i, e := range w.engines {
		if e == nil {
			w.start(i)
		}
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(w.t.Context(), longestRound)
	defer cancel()
	for {
		missing := ""
		for i, e := range w.engines {
			result, err := e.Search(w.t.Context(), shared.SearchQuery{Limit: 1})
			if err != nil || result.Total != w.told {
				missing += fmt.Sprintf(" peer %d has %d;", i, result.Total)
			}
		}
		if missing == "" {
			w.t.Logf("%d peers have %d packages %s after the network was whole", len(w.engines), w.told, time.Since(begun).Round(time.Second))
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("of %d packages%s", w.told, missing)
		case <-time.After(time.Second):
		}
	}
}
