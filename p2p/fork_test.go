package p2p_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ggen.dev/marketplace/shared"
)

// TestAPublisherWhoSignsTwoLogsIsQuarantinedAndNobodyElse: a key that is used from
// two copies of a home signs two logs. Whoever sees both accepts nothing more from
// it, and does not blame the honest peers that passed them on.
func TestAPublisherWhoSignsTwoLogsIsQuarantinedAndNobodyElse(t *testing.T) {
	first := t.TempDir()
	a := open(t, first)
	second := t.TempDir()
	if err := os.MkdirAll(filepath.Join(second, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(first, "keys", "publisher.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second, "keys", "publisher.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, second)
	publish(t, a, "one", "1.0.0")
	publish(t, b, "two", "1.0.0")

	witness := open(t, t.TempDir(), address(t, a))
	knows(t, witness, "one")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	accused := make(chan shared.PublisherID, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = witness.Watch(ctx, shared.WatchQuery{Kinds: []shared.EventKind{shared.EventQuarantined}}, func(ev shared.Event) error {
			accused <- ev.Package.Publisher
			return context.Canceled // seen
		})
	}()
	if _, err := witness.Bootstrap(t.Context(), []string{address(t, b)}); err != nil {
		t.Fatal(err)
	}
	status, err := a.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-accused:
		if id != status.Publisher {
			t.Fatalf("%s is accused, and not %s", id, status.Publisher)
		}
	case <-ctx.Done():
		t.Fatal("nobody noticed")
	}
	<-done
	t.Run("what was known before stays", func(t *testing.T) { knows(t, witness, "one") })
	t.Run("nobody is banned for passing it on", func(t *testing.T) {
		peers, err := witness.Peers(t.Context(), shared.PeerQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range peers.Peers {
			if p.Reputation == 0 {
				t.Errorf("%s is banned", p.ID)
			}
		}
	})
	t.Run("others verify the proof from the file alone", func(t *testing.T) {
		proof, err := witness.ForkProof(t.Context(), status.Publisher)
		if err != nil {
			t.Fatal(err)
		}
		stranger := open(t, t.TempDir()) // knows nobody
		verdict, err := stranger.CheckForkProof(t.Context(), proof)
		if err != nil || verdict.Publisher != status.Publisher || verdict.Size != 1 || verdict.First == verdict.Second || verdict.Quarantined {
			t.Fatalf("%+v, %v", verdict, err)
		}
		if verdict, err := witness.CheckForkProof(t.Context(), proof); err != nil || !verdict.Quarantined {
			t.Errorf("%+v, %v", verdict, err)
		}
		// The two sides of the proof are made the same: it proves nothing then.
		var parts map[string]json.RawMessage
		if err := json.Unmarshal(proof, &parts); err != nil {
			t.Fatal(err)
		}
		parts["second"], parts["second_tree"] = parts["first"], parts["first_tree"]
		harmless, err := json.Marshal(parts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stranger.CheckForkProof(t.Context(), harmless); !errors.Is(err, shared.ReasonIntegrity) {
			t.Errorf("got %v", err)
		}
	})
}
