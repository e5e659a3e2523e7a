package p2p_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// plan asks what an install would do, and fails the test if it would do nothing.
func plan(t *testing.T, e *p2p.Engine, req shared.InstallRequest, name string) shared.InstallReceipt {
	t.Helper()
	req.Packages, req.Root, req.DryRun = []shared.Ref{{Name: name}}, t.TempDir(), true
	receipt, err := e.Install(t.Context(), req, nil)
	if err != nil {
		t.Fatalf("plan %s: %v", name, err)
	}
	return receipt
}

// TestFirstUse: nobody's name becomes somebody's without the user's word.
func TestFirstUse(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "base", "1.0.0")
	publish(t, a, "tool", "1.0.0", "base")
	b := open(t, t.TempDir(), address(t, a))
	knows(t, b, "tool", "base")
	install := func(req shared.InstallRequest) (shared.InstallReceipt, error) {
		req.Packages, req.Root = []shared.Ref{{Name: "tool"}}, t.TempDir()
		return b.Install(t.Context(), req, nil)
	}
	pinned := func() int {
		pins, err := b.Pins(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(pins)
	}
	receipt := plan(t, b, shared.InstallRequest{}, "tool")
	if len(receipt.Packages) != 2 || !receipt.Packages[0].FirstUse || !receipt.Packages[1].FirstUse {
		t.Fatalf("plan %+v", receipt)
	}
	if _, err := install(shared.InstallRequest{}); !errors.Is(err, shared.ReasonUntrusted) || !strings.Contains(err.Error(), "base of publisher") || !strings.Contains(err.Error(), "tool of publisher") {
		t.Fatalf("without a word: %v", err)
	}
	if _, err := install(shared.InstallRequest{Trust: true, Policy: shared.PolicyAllowList}); !errors.Is(err, shared.ReasonUntrusted) || !strings.Contains(err.Error(), "allow-list") {
		t.Fatalf("under allow-list: %v", err)
	}
	if n := pinned(); n != 0 {
		t.Fatalf("%d names are pinned, and nobody has agreed", n)
	}
	var locked []shared.LockedPackage
	for _, pkg := range receipt.Packages {
		locked = append(locked, pkg.LockedPackage)
	}
	t.Run("a lockfile vouches for itself and binds nobody else", func(t *testing.T) {
		if _, err := install(shared.InstallRequest{Locked: locked}); err != nil {
			t.Fatal(err)
		}
		if n := pinned(); n != 0 {
			t.Fatalf("a file of somebody's project has pinned %d names", n)
		}
	})
	t.Run("what was accepted is what happens", func(t *testing.T) {
		other := append([]shared.LockedPackage(nil), locked...)
		other[0].Version = "0.9.0"
		if _, err := install(shared.InstallRequest{Accepted: other}); !errors.Is(err, shared.ReasonUntrusted) || !strings.Contains(err.Error(), "has changed") {
			t.Fatalf("another version was shown: %v", err)
		}
		if _, err := install(shared.InstallRequest{Accepted: locked}); err != nil {
			t.Fatal(err)
		}
		if n := pinned(); n != 2 {
			t.Fatalf("%d names are pinned", n)
		}
	})
	t.Run("pinned names are admitted by the strict policy", func(t *testing.T) {
		if _, err := install(shared.InstallRequest{Policy: shared.PolicyAllowList}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLookAlikes: a name that looks like one that is in use is not installed
// without a warning.
func TestLookAlikes(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "http-client", "1.0.0")
	mallory := open(t, t.TempDir(), address(t, a))
	for _, name := range []string{"http-c1ient", "http_client", "client-http", "htp-client", "database"} {
		publish(t, mallory, name, "1.0.0")
	}
	b := open(t, t.TempDir(), address(t, a))
	knows(t, b, "http-client", "http-c1ient", "http_client", "client-http", "htp-client", "database")
	warnings := func(name string) (said []string) {
		for _, d := range plan(t, b, shared.InstallRequest{}, name).Diagnostics {
			if d.Severity == shared.SeverityWarning {
				said = append(said, d.Message)
			}
		}
		return said
	}
	if said := warnings("http-c1ient"); len(said) != 0 {
		t.Errorf("nothing is well-known yet: %v", said)
	}
	if _, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "http-client"}}, Root: t.TempDir(), Trust: true}, nil); err != nil {
		t.Fatal(err)
	}
	for name, why := range map[string]string{
		"http-c1ient": "looks nearly the same", "http_client": "only the separators differ",
		"client-http": "another order", "htp-client": "one letter differs",
	} {
		if said := warnings(name); len(said) != 1 || !strings.Contains(said[0], "http-client: ") || !strings.Contains(said[0], why) || !strings.Contains(said[0], "pinned") {
			t.Errorf("%s: %v", name, said)
		}
	}
	if said := warnings("database"); len(said) != 0 {
		t.Errorf("an honest name: %v", said)
	}
	report, err := b.Explain(t.Context(), "http-c1ient")
	if err != nil || len(report.LookAlikes) != 1 || report.Rule != shared.RuleOnly {
		t.Errorf("explained: %+v, %v", report, err)
	}
}

// TestAmbiguousNamesAreExplained: who chooses sees between whom.
func TestAmbiguousNamesAreExplained(t *testing.T) {
	a := open(t, t.TempDir())
	first := publish(t, a, "tool", "1.0.0")
	publish(t, a, "tool", "1.1.0")
	c := open(t, t.TempDir(), address(t, a))
	second := publish(t, c, "tool", "9.0.0")
	b := open(t, t.TempDir(), address(t, a), address(t, c))
	var report shared.TrustReport
	eventually(t, "B knows both", func() (ok bool) {
		var err error
		report, err = b.Explain(t.Context(), "tool")
		return err == nil && len(report.Candidates) == 2 && report.Candidates[0].Releases+report.Candidates[1].Releases == 3
	})
	if report.Rule != shared.RuleNone || report.Publisher != "" {
		t.Errorf("it means somebody: %+v", report)
	}
	for _, candidate := range report.Candidates {
		want, newest := 2, "1.1.0"
		if candidate.Publisher == second.Publisher {
			want, newest = 1, "9.0.0"
		} else if candidate.Publisher != first.Publisher {
			t.Errorf("publisher %s", candidate.Publisher)
		}
		if candidate.Releases != want || candidate.Newest != newest || candidate.FirstSeen.IsZero() || candidate.Holders < 0 {
			t.Errorf("candidate %+v", candidate)
		}
	}
	t.Run("a trust catalogue decides", func(t *testing.T) {
		signed, err := a.SignTrustCatalogue(t.Context(), shared.TrustCatalogue{Title: "Team", Serial: 1, Names: []shared.CatalogueName{{Name: "tool", Publisher: first.Publisher}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.AddTrustCatalogue(t.Context(), signed); err != nil {
			t.Fatal(err)
		}
		receipt, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "tool"}}, Root: t.TempDir()}, nil)
		if err != nil || receipt.Packages[0].Publisher != first.Publisher || receipt.Packages[0].FirstUse {
			t.Fatalf("%+v, %v", receipt, err)
		}
		_, err = b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "tool", Publisher: second.Publisher}}, Root: t.TempDir(), Trust: true}, nil)
		if !errors.Is(err, shared.ReasonUntrusted) || !strings.Contains(err.Error(), "Team") {
			t.Fatalf("the other one: %v", err)
		}
	})
	t.Run("catalogues that disagree decide nothing", func(t *testing.T) {
		signed, err := c.SignTrustCatalogue(t.Context(), shared.TrustCatalogue{Title: "Others", Serial: 1, Names: []shared.CatalogueName{{Name: "tool", Publisher: second.Publisher}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.AddTrustCatalogue(t.Context(), signed); err != nil {
			t.Fatal(err)
		}
		_, err = b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "tool"}}, Root: t.TempDir(), Trust: true}, nil)
		if !errors.Is(err, shared.ReasonAmbiguous) || !strings.Contains(err.Error(), "disagree") {
			t.Fatalf("got %v", err)
		}
	})
}

// TestMinAge: what this peer has not known for long enough is left out, but not what
// is locked, and not one's own.
func TestMinAge(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "tool", "1.0.0")
	b := open(t, t.TempDir(), address(t, a))
	knows(t, b, "tool")
	young := shared.InstallRequest{Packages: []shared.Ref{{Name: "tool"}}, Root: t.TempDir(), Trust: true, MinAge: time.Hour}
	if _, err := b.Install(t.Context(), young, nil); !errors.Is(err, shared.ReasonUntrusted) || !strings.Contains(err.Error(), "less than 1h") {
		t.Fatalf("got %v", err)
	}
	receipt := plan(t, b, shared.InstallRequest{}, "tool")
	young.Locked = []shared.LockedPackage{receipt.Packages[0].LockedPackage}
	if _, err := b.Install(t.Context(), young, nil); err != nil {
		t.Errorf("locked: %v", err)
	}
	if receipt := plan(t, a, shared.InstallRequest{MinAge: time.Hour}, "tool"); receipt.Packages[0].Version != "1.0.0" {
		t.Errorf("an own release: %+v", receipt)
	}
}
