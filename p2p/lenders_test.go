package p2p_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/ask"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// twist makes a full peer answer light ones otherwise than it would.
func twist(t *testing.T, e *p2p.Engine, limits ask.Limits, change func(ask.Answer) ask.Answer) {
	t.Helper()
	lend := p2p.LendOf(e)
	s := ask.Serve(p2p.HostOf(e), func(ctx context.Context, q ask.Request) (ask.Answer, error) {
		a, err := lend(ctx, q)
		return change(a), err
	}, limits, nil)
	t.Cleanup(func() { _ = s.Close() }) // it always succeeds
}

// first keeps the oldest entry of every part: what a peer gives that hides the others.
func first(t *testing.T) func(ask.Answer) ask.Answer {
	return func(a ask.Answer) ask.Answer {
		for i, part := range a.Parts {
			p, err := publisher.ParseProven(part)
			if err != nil {
				t.Error(err)
				continue
			}
			p.Entries = p.Entries[:1]
			a.Parts[i] = p.Append(nil)
		}
		return a
	}
}

// TestWhatOneKeepsToItselfAnotherOneTells has one of two peers hide the newest releases
// and a yank, under a head that is genuine.
func TestWhatOneKeepsToItselfAnotherOneTells(t *testing.T) {
	honest := open(t, t.TempDir())
	publish(t, honest, "goal", "1.0.0")
	publish(t, honest, "goal", "1.1.0")
	publish(t, honest, "goal", "1.2.0")
	if _, err := honest.Declare(t.Context(), shared.Statement{Kind: shared.StatementYank, Package: "goal", Version: "1.0.0"}); err != nil {
		t.Fatal(err)
	}
	crook := open(t, t.TempDir(), address(t, honest))
	eventually(t, "it knows all", func() bool {
		d, err := crook.Describe(t.Context(), shared.Ref{Name: "goal"})
		return err == nil && d.Version == "1.2.0" && d.Versions[2].Yanked
	})
	twist(t, crook, ask.Limits{}, first(t))
	for range 8 { // whose answer comes last is chance
		light := openLight(t, t.TempDir(), address(t, honest), address(t, crook))
		connected(t, light, 2)
		d, err := light.Describe(t.Context(), shared.Ref{Name: "goal"})
		if err != nil || d.Version != "1.2.0" || len(d.Versions) != 3 || !d.Versions[2].Yanked {
			t.Fatalf("%s of %+v, %v", d.Version, d.Versions, err)
		}
		found, err := light.Search(t.Context(), shared.SearchQuery{Text: "goal"})
		if err != nil || len(found.Packages) != 1 || found.Packages[0].Version != "1.2.0" {
			t.Fatalf("search: %+v, %v", found, err)
		}
	}
}

// TestASearchTellsWhatWasSaidSince has a light peer that has asked for nothing else see
// that a package is deprecated.
func TestASearchTellsWhatWasSaidSince(t *testing.T) {
	author := open(t, t.TempDir())
	publish(t, author, "goal", "1.0.0")
	if _, err := author.Declare(t.Context(), shared.Statement{Kind: shared.StatementDeprecate, Package: "goal"}); err != nil {
		t.Fatal(err)
	}
	light := openLight(t, t.TempDir(), address(t, author))
	found, err := light.Search(t.Context(), shared.SearchQuery{Text: "goal"})
	if err != nil || len(found.Packages) != 1 || !found.Packages[0].Deprecated {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestAnAnswerIsAboutWhatWasAsked has a peer slip statements about another package into
// an answer: genuine ones, but not all.
func TestAnAnswerIsAboutWhatWasAsked(t *testing.T) {
	crook := open(t, t.TempDir())
	publish(t, crook, "other", "1.0.0")
	publish(t, crook, "goal", "1.0.0")
	lend := p2p.LendOf(crook)
	other, err := lend(t.Context(), ask.Request{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	twist(t, crook, ask.Limits{}, func(a ask.Answer) ask.Answer {
		a.Parts = append(a.Parts, other.Parts...)
		return a
	})
	light := openLight(t, t.TempDir(), address(t, crook))
	connected(t, light, 1)
	if d, err := light.Describe(t.Context(), shared.Ref{Name: "goal"}); err == nil {
		t.Errorf("it was believed: %+v", d)
	}
}

// TestNobodyAnswering is not nobody having it.
func TestNobodyAnswering(t *testing.T) {
	busy := open(t, t.TempDir())
	publish(t, busy, "goal", "1.0.0")
	twist(t, busy, ask.Limits{PerPeer: 0.001}, func(a ask.Answer) ask.Answer { return a })
	light := openLight(t, t.TempDir(), address(t, busy))
	connected(t, light, 1)
	if _, err := light.Describe(t.Context(), shared.Ref{Name: "goal"}); err != nil {
		t.Fatal(err) // the only question that it may put
	}
	for range 2 { // refused, and left alone
		if _, err := light.Describe(t.Context(), shared.Ref{Name: "another"}); !errors.Is(err, shared.ReasonUnavailable) {
			t.Errorf("info: %v", err)
		}
		found, err := light.Search(t.Context(), shared.SearchQuery{Text: "unheard"})
		if err != nil || len(found.Diagnostics) == 0 {
			t.Errorf("search: %+v, %v", found, err)
		}
	}
}

// TestAnIgnorantPeerDoesNotSpeakForAll has the first answer come from a peer that knows
// nothing.
func TestAnIgnorantPeerDoesNotSpeakForAll(t *testing.T) {
	knowing := open(t, t.TempDir())
	publish(t, knowing, "goal", "1.0.0")
	ignorant := open(t, t.TempDir(), address(t, knowing))
	knows(t, ignorant, "goal")
	answered := make(chan struct{}, 16)
	twist(t, ignorant, ask.Limits{}, func(ask.Answer) ask.Answer {
		answered <- struct{}{}
		return ask.Answer{}
	})
	twist(t, knowing, ask.Limits{}, func(a ask.Answer) ask.Answer {
		<-answered
		select { // and later by more than answers are usually waited for
		case <-t.Context().Done():
		case <-time.After(300 * time.Millisecond):
		}
		return a
	})
	light := openLight(t, t.TempDir(), address(t, knowing), address(t, ignorant))
	connected(t, light, 2)
	if _, err := light.Describe(t.Context(), shared.Ref{Name: "goal"}); err != nil {
		t.Error(err)
	}
}

// TestAFullHomeOpenedAsALightOne has what it knew before not stand for what is.
func TestAFullHomeOpenedAsALightOne(t *testing.T) {
	author := open(t, t.TempDir())
	publish(t, author, "goal", "1.0.0")
	home := t.TempDir()
	e := openWith(t, p2p.Config{Home: home, Bootstrap: []string{address(t, author)}})
	eventually(t, "it holds the log", func() bool {
		status, err := e.Status(t.Context())
		return err == nil && status.Releases == 1
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, author, "goal", "1.1.0")
	light := openLight(t, home, address(t, author))
	if d, err := light.Describe(t.Context(), shared.Ref{Name: "goal"}); err != nil || d.Version != "1.1.0" {
		t.Errorf("version %s, %v", d.Version, err)
	}
	status, err := light.Status(t.Context())
	if err != nil || status.Publishers != 0 {
		t.Errorf("a light peer holds %d logs, %v", status.Publishers, err)
	}
	if err := errors.Join(light.Close(), author.Close()); err != nil {
		t.Fatal(err)
	}
	again := open(t, home)
	if d, err := again.Describe(t.Context(), shared.Ref{Name: "goal"}); err != nil || d.Version != "1.0.0" {
		t.Errorf("as a full peer again it knows %s, %v", d.Version, err)
	}
}

// TestOfflineAsksNobody installs with --offline what is not known here.
func TestOfflineAsksNobody(t *testing.T) {
	author := open(t, t.TempDir())
	publish(t, author, "goal", "1.0.0")
	light := openLight(t, t.TempDir(), address(t, author))
	connected(t, light, 1)
	asked := false
	twist(t, author, ask.Limits{}, func(a ask.Answer) ask.Answer {
		asked = true
		return a
	})
	_, err := light.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "goal"}}, Root: t.TempDir(), Trust: true, Offline: true}, nil)
	if !errors.Is(err, shared.ReasonOffline) || asked {
		t.Errorf("asked: %v, %v", asked, err)
	}
}
