package p2p_test

import (
	"testing"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// openServer starts an engine on loopback that serves the DHT, as few do unasked there.
func openServer(t *testing.T, home string, bootstrap ...string) *p2p.Engine {
	t.Helper()
	e, err := p2p.Open(t.Context(), p2p.Config{
		Home: home, Bootstrap: bootstrap, DHTServer: true,
		Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"},
	})
	if err != nil {
		t.Fatalf("open engine: %v", err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
	})
	return e
}

// recorded waits until a peer can find so many holders of a package in the DHT. It does
// not make it count them.
func recorded(t *testing.T, e *p2p.Engine, name string, holders int) {
	t.Helper()
	eventually(t, "the network names all holders of "+name, func() bool {
		report, err := e.Explain(t.Context(), name)
		return err == nil && len(report.Candidates) == 1 && report.Candidates[0].Holders == holders
	})
}

func install(t *testing.T, e *p2p.Engine, name string) {
	t.Helper()
	if _, err := e.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: name}}, Root: t.TempDir(), Trust: true}, nil); err != nil {
		t.Fatalf("install %s: %v", name, err)
	}
}

func holders(t *testing.T, e *p2p.Engine, name string) int {
	t.Helper()
	details, err := e.Describe(t.Context(), shared.Ref{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return details.Holders
}

// reputable is the first package that a search finds of which a holder of this
// reputation is known.
func reputable(t *testing.T, e *p2p.Engine, text string, least float64) string {
	t.Helper()
	result, err := e.Search(t.Context(), shared.SearchQuery{Text: text, MinReputation: least})
	if err != nil {
		t.Fatal(err)
	}
	if result.Total == 0 {
		return ""
	}
	return result.Packages[0].Name
}

func TestHolders(t *testing.T) {
	a := openServer(t, t.TempDir())
	publish(t, a, "common", "1.0.0")
	publish(t, a, "rare", "1.0.0")
	b, c := openServer(t, t.TempDir(), address(t, a)), openServer(t, t.TempDir(), address(t, a))
	for _, e := range []*p2p.Engine{b, c} {
		connected(t, e, 1)
		recorded(t, e, "rare", 1)
		install(t, e, "common")
	}
	home := t.TempDir()
	d := openServer(t, home, address(t, a), address(t, b), address(t, c))
	connected(t, d, 3)
	recorded(t, d, "common", 3)
	recorded(t, d, "rare", 1)

	if got := holders(t, d, "common"); got != -1 {
		t.Fatalf("about %d peers hold what nobody has looked up", got)
	}
	eventually(t, "it is known that three hold it", func() bool { return holders(t, d, "common") == 3 })

	// Nothing was fetched yet: all that is known of its holders is that they are strangers.
	for least, want := range map[float64]string{0.5: "common", 0.51: "", 1: ""} {
		if got := reputable(t, d, "common", least); got != want {
			t.Errorf("with a reputation of %v: found %q, want %q", least, got, want)
		}
	}
	if got := reputable(t, d, "rare", 0.1); got != "" {
		t.Errorf("of %s no holder is known", got)
	}
	result, err := d.Search(t.Context(), shared.SearchQuery{Text: "rare", MinReputation: 0.9})
	if err != nil || len(result.Diagnostics) != 1 || result.Diagnostics[0].Hint == "" {
		t.Errorf("a search that finds nothing for this reason does not say so: %+v, %v", result, err)
	}
	// That search had it looked up.
	eventually(t, "a holder of rare is known", func() bool { return reputable(t, d, "rare", 0.5) == "rare" })

	install(t, d, "rare")
	if got := reputable(t, d, "rare", 0.55); got != "rare" {
		t.Error("whoever has given it is no reputable holder")
	}
	// What two more hold is better, where all else is equal.
	all, err := d.Search(t.Context(), shared.SearchQuery{Text: "package"})
	if err != nil || all.Total != 2 || all.Packages[0].Name != "common" || all.Packages[0].Score <= all.Packages[1].Score {
		t.Errorf("found %+v, %v", all, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openServer(t, home)
	if got := holders(t, d, "common"); got != 3 {
		t.Errorf("about %d after a restart", got)
	}
	if got := reputable(t, d, "rare", 0.55); got != "rare" {
		t.Error("the reputable holder is forgotten after a restart")
	}
}

// TestWhoGaveAPackageIsAHolder: also where nobody can be asked who else is one.
func TestWhoGaveAPackageIsAHolder(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "given", "1.0.0")
	b := open(t, t.TempDir(), address(t, a))
	connected(t, b, 1)
	eventually(t, "it is found", func() bool {
		result, err := b.Search(t.Context(), shared.SearchQuery{})
		return err == nil && result.Total == 1
	})
	if got := reputable(t, b, "", 0.1); got != "" {
		t.Fatal("a holder is known before anything was given")
	}
	install(t, b, "given")
	if got := reputable(t, b, "", 0.55); got != "given" {
		t.Fatal("whoever has given it is no reputable holder")
	}
}
