package p2p_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

// TestANewcomerIsUsableBeforeItIsComplete measures how soon a peer with links of 20
// Mbit/s and 20 to 100 ms answers searches, and has everything, after it was started
// with the addresses of three: of a network whose catalogue has GGEN_TEST_ENTRIES
// entries, which the three have. It fails if something is missing in the end; times are
// for the report (docs/benchmarks/join.md).
func TestANewcomerIsUsableBeforeItIsComplete(t *testing.T) {
	entries := setting(t, "GGEN_TEST_ENTRIES", 500)
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.NewNetwork(t, p2ptest.Links{Mbps: 20, Between: func(from, to int) time.Duration {
			return time.Duration(20+(from*7919+to*7919)%81) * time.Millisecond
		}})
		home := t.TempDir()
		p2ptest.Seed(t, home, entries/10, 10)
		start := func(i int, home string, bootstrap ...string) *p2p.Engine {
			e, err := p2p.Open(t.Context(), p2p.Config{Home: home, Listen: net.Listen(i), Options: net.Options(), Bootstrap: bootstrap})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			})
			return e
		}
		releases := func(e *p2p.Engine) int {
			status, err := e.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return status.Releases
		}
		first := start(0, home)
		addresses := []string{address(t, first)}
		for i := 1; i < 3; i++ {
			e := start(i, t.TempDir(), addresses...)
			addresses = append(addresses, address(t, e))
			deadline := time.Now().Add(10 * time.Minute)
			for releases(e) < entries {
				if time.Now().After(deadline) {
					t.Fatalf("peer %d has %d of %d entries", i, releases(e), entries)
				}
				<-time.After(100 * time.Millisecond)
			}
		}
		began := time.Now()
		newcomer := start(3, t.TempDir(), addresses...)
		found, err := newcomer.Search(t.Context(), shared.SearchQuery{Text: "templates", Limit: 10})
		if err != nil || found.Total == 0 {
			t.Fatalf("the first search: %d packages, %v", found.Total, err)
		}
		usable, known := time.Since(began), found.Total
		deadline := time.Now().Add(10 * time.Minute)
		for releases(newcomer) < entries {
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d entries", releases(newcomer), entries)
			}
			<-time.After(10 * time.Millisecond)
		}
		t.Logf("the first search is answered after %s (among %d packages), all %d entries are there after %s",
			usable.Round(time.Millisecond), known, entries, time.Since(began).Round(time.Millisecond))
	})
}

// TestWhatWasSyncedIsPassedOn: a peer that has pulled many logs gives all of them to the
// next one, though whoever has signed them is gone.
func TestWhatWasSyncedIsPassedOn(t *testing.T) {
	const publishers, packages = 40, 3
	home := t.TempDir()
	p2ptest.Seed(t, home, publishers, packages)
	complete := func(e *p2p.Engine) func() bool {
		return func() bool {
			status, err := e.Status(t.Context())
			return err == nil && status.Releases == publishers*packages
		}
	}
	source := open(t, home)
	first := open(t, t.TempDir(), address(t, source))
	eventually(t, "the first to have everything", complete(first))
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, t.TempDir(), address(t, first))
	eventually(t, "the second to have everything from the first", complete(second))
	light := openLight(t, t.TempDir(), address(t, second))
	found, err := light.Search(t.Context(), shared.SearchQuery{Text: "templates", Limit: 100})
	if err != nil || len(found.Packages) != 100 {
		t.Errorf("%d packages are proven to a light peer, %v", len(found.Packages), err)
	}
}
