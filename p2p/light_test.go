package p2p_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/ask"
	"ggen.dev/marketplace/shared"
)

// openLight starts an engine that keeps no catalogue.
func openLight(t *testing.T, home string, bootstrap ...string) *p2p.Engine {
	t.Helper()
	return openWith(t, p2p.Config{Home: home, Bootstrap: bootstrap, Light: true})
}

func openWith(t *testing.T, cfg p2p.Config) *p2p.Engine {
	t.Helper()
	cfg.Version, cfg.Listen = "0.1.0", []string{"/ip4/127.0.0.1/tcp/0"}
	e, err := p2p.Open(t.Context(), cfg)
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

func TestALightPeerAsksAndVerifies(t *testing.T) {
	author := open(t, t.TempDir())
	publish(t, author, "base", "1.0.0")
	publish(t, author, "web-service", "1.0.0", "base")
	publish(t, author, "web-service", "1.1.0", "base")
	full := open(t, t.TempDir(), address(t, author))
	eventually(t, "the full peer to know all of it", func() bool {
		d, err := full.Describe(t.Context(), shared.Ref{Name: "web-service"})
		return err == nil && d.Version == "1.1.0"
	})

	light := openLight(t, t.TempDir(), address(t, full))
	found, err := light.Search(t.Context(), shared.SearchQuery{Text: "web"})
	if err != nil || found.Total != 1 || len(found.Packages) != 1 || found.Packages[0].Version != "1.1.0" {
		t.Fatalf("search: %+v, %v", found, err)
	}
	details, err := light.Describe(t.Context(), shared.Ref{Name: "web-service"})
	if err != nil || len(details.Versions) != 2 {
		t.Fatalf("info: %d versions, %v", len(details.Versions), err)
	}
	root := t.TempDir()
	receipt, err := light.Install(t.Context(), shared.InstallRequest{Root: root, Packages: []shared.Ref{{Name: "web-service", Constraint: "^1"}}, Trust: true}, nil)
	if err != nil || len(receipt.Packages) != 2 {
		t.Fatalf("install: %+v, %v", receipt, err)
	}
	content, err := os.ReadFile(filepath.Join(root, "web-service", "templates", "web-service.tmpl"))
	if err != nil || string(content) != "content of web-service 1.1.0" {
		t.Errorf("installed %q, %v", content, err)
	}
	status, err := light.Status(t.Context())
	if err != nil || status.Mode != "light" || status.Releases != 0 || status.DHTMode != "client" {
		t.Errorf("status: %+v, %v", status, err)
	}
	if _, err := light.Describe(t.Context(), shared.Ref{Name: "nobody-has-this"}); !errors.Is(err, shared.ReasonNotFound) {
		t.Errorf("a package that nobody has: %v", err)
	}
	t.Run("what it publishes reaches the others", func(t *testing.T) {
		publish(t, light, "from-light", "1.0.0")
		knows(t, author, "from-light")
		if _, err := light.Describe(t.Context(), shared.Ref{Name: "from-light"}); err != nil {
			t.Errorf("its own package: %v", err)
		}
	})
	t.Run("a yank is heard of", func(t *testing.T) {
		if _, err := author.Declare(t.Context(), shared.Statement{Kind: shared.StatementYank, Package: "web-service", Version: "1.1.0", Why: "broken"}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the full peer to know of the yank", func() bool {
			d, err := full.Describe(t.Context(), shared.Ref{Name: "web-service"})
			return err == nil && d.Version == "1.0.0"
		})
		other := openLight(t, t.TempDir(), address(t, full))
		if d, err := other.Describe(t.Context(), shared.Ref{Name: "web-service"}); err != nil || d.Version != "1.0.0" {
			t.Errorf("%s, %v", d.Version, err)
		}
	})
}

// TestALightPeerIsNotLiedTo: of two full peers one lies about everything. What the light
// one gets to see is always what was published, and the liar is known for what it is.
func TestALightPeerIsNotLiedTo(t *testing.T) {
	author := open(t, t.TempDir())
	publish(t, author, "base", "1.0.0")
	publish(t, author, "base", "2.0.0")
	for name, lie := range map[string]func(honest ask.Answer) ask.Answer{
		"a changed byte": func(a ask.Answer) ask.Answer {
			a.Parts[0][len(a.Parts[0])/2] ^= 1
			return a
		},
		"nonsense":        func(ask.Answer) ask.Answer { return ask.Answer{Total: 5, Parts: [][]byte{[]byte("gP1nonsense")}} },
		"it has nothing":  func(ask.Answer) ask.Answer { return ask.Answer{} },
		"a cut-off proof": func(a ask.Answer) ask.Answer { a.Parts[0] = a.Parts[0][:len(a.Parts[0])-32]; return a },
	} {
		t.Run(name, func(t *testing.T) {
			liar := openWith(t, p2p.Config{Home: t.TempDir(), Bootstrap: []string{address(t, author)}})
			knows(t, liar, "base")
			between, err := libp2p.New(libp2p.NoListenAddrs)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = between.Close() }()
			honest := askFor(t, between, author, "base")
			deceive(t, liar, func() ask.Answer {
				return lie(ask.Answer{Total: honest.Total, Parts: [][]byte{append([]byte(nil), honest.Parts[0]...)}})
			})
			light := openLight(t, t.TempDir(), address(t, liar), address(t, author))
			eventually(t, "both peers", func() bool {
				status, err := light.Status(t.Context())
				return err == nil && status.ConnectedPeers == 2
			})
			for range 3 { // whoever is asked first
				details, err := light.Describe(t.Context(), shared.Ref{Name: "base"})
				if err != nil || details.Version != "2.0.0" || len(details.Versions) != 2 {
					t.Fatalf("%+v, %v", details, err)
				}
			}
		})
	}
}

// TestLosingAllSuperPeersIsNoFailure: a light peer that knows super-peers only goes on
// with ordinary ones when they are gone, and a busy one is not in the way.
func TestLosingAllSuperPeersIsNoFailure(t *testing.T) {
	author := open(t, t.TempDir())
	publish(t, author, "base", "1.0.0")
	super := openWith(t, p2p.Config{Home: t.TempDir(), Bootstrap: []string{address(t, author)}, SuperPeer: true})
	knows(t, super, "base")
	if status, err := super.Status(t.Context()); err != nil || status.Mode != "super" {
		t.Fatalf("%+v, %v", status, err)
	}
	light := openLight(t, t.TempDir(), address(t, super))
	if _, err := light.Describe(t.Context(), shared.Ref{Name: "base"}); err != nil {
		t.Fatal(err)
	}
	publish(t, author, "later", "1.0.0")
	knows(t, super, "later")
	if err := super.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an ordinary peer to answer", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, _ = light.Bootstrap(ctx, []string{address(t, author)})
		_, err := light.Describe(ctx, shared.Ref{Name: "later"})
		return err == nil
	})
}

// askFor gets the honest answer about a package.
func askFor(t *testing.T, h host.Host, e *p2p.Engine, name string) (answer ask.Answer) {
	t.Helper()
	_, err := ask.Peers(t.Context(), h, []peer.AddrInfo{{ID: p2p.HostOf(e).ID(), Addrs: p2p.HostOf(e).Addrs()}}, ask.Request{Name: name}, func(_ peer.ID, a ask.Answer) error {
		answer = a
		return nil
	}, func(_ peer.ID, err error) { t.Error(err) })
	if err != nil || len(answer.Parts) == 0 {
		t.Fatalf("%+v, %v", answer, err)
	}
	return answer
}

// deceive makes an engine answer light peers with something else.
func deceive(t *testing.T, e *p2p.Engine, answer func() ask.Answer) {
	t.Helper()
	h := p2p.HostOf(e)
	h.RemoveStreamHandler(ask.Protocol)
	server := ask.Serve(h, func(context.Context, ask.Request) (ask.Answer, error) { return answer(), nil }, ask.Limits{}, nil)
	t.Cleanup(func() { _ = server.Close() })
}
