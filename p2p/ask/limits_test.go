package ask

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

func TestMissingTakesFromAllOrNone(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	rich, poor := rate.NewLimiter(10, 10), rate.NewLimiter(2, 1)
	if wait := missing(now, 1, rich, poor); wait != 0 {
		t.Fatalf("there is one of each, and it says to wait for %s", wait)
	}
	for range 3 { // who is refused pays nothing
		if wait := missing(now, 1, rich, poor); wait != 500*time.Millisecond {
			t.Fatalf("wait for %s", wait)
		}
	}
	if left := rich.TokensAt(now); left != 9 {
		t.Errorf("%v of 10 are left", left)
	}
	if wait := missing(now.Add(500*time.Millisecond), 1, rich, poor); wait != 0 {
		t.Errorf("who came when told has to wait for %s", wait)
	}
}

func TestOnePeerCannotTakeAllBytes(t *testing.T) {
	asker, other := newHost(t), newHost(t)
	h := newHost(t)
	large := func(context.Context, Request) (Answer, error) {
		return Answer{Parts: [][]byte{make([]byte, MaxAnswer-1000)}}, nil
	}
	s := Serve(h, large, Limits{BytesPerPeer: 1}, nil) // one answer, and then no more for days
	t.Cleanup(func() { _ = s.Close() })
	to := []peer.AddrInfo{{ID: h.ID(), Addrs: h.Addrs()}}
	one := func() error {
		_, err := Peers(t.Context(), asker, to, Request{Name: "x"}, func(peer.ID, Answer) error { return nil }, func(peer.ID, error) {})
		return err
	}
	if err := one(); err != nil {
		t.Fatal(err)
	}
	var busy BusyError
	if err := one(); !errors.As(err, &busy) || time.Duration(busy) != mostBusy {
		t.Fatalf("the second: %v", err)
	}
	asker = other
	if err := one(); err != nil {
		t.Errorf("another peer: %v", err)
	}
	s.SetLimits(Limits{PerPeer: 5})
	if err := one(); !errors.As(err, &busy) {
		t.Errorf("new limits have forgotten who took how much: %v", err)
	}
}
