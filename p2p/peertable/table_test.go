package peertable_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/peertable"
)

// someone is a peer that makes records.
type someone struct {
	key crypto.PrivKey
	id  peer.ID
}

func newSomeone(t interface{ Fatal(...any) }) someone {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return someone{key, id}
}

func (s someone) record(t interface{ Fatal(...any) }, made time.Time, addrs ...string) []byte {
	rec := peertable.Record{Peer: s.id, Made: made}
	for _, text := range addrs {
		addr, err := ma.NewMultiaddr(text)
		if err != nil {
			t.Fatal(err)
		}
		rec.Addrs = append(rec.Addrs, addr)
	}
	sealed, err := peertable.Seal(s.key, rec)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestForgedRecordsAreRefused(t *testing.T) {
	s := newSomeone(t)
	table := peertable.New("self", peertable.Config{})
	good := s.record(t, time.Now(), "/ip4/8.8.8.8/tcp/4001")
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		if rec, err := table.Put(bad); err == nil {
			t.Fatalf("byte %d changed, and it is taken: %+v", i, rec)
		}
	}
	for name, tc := range map[string]struct {
		record []byte
		want   error
	}{
		"from yesterday": {s.record(t, time.Now().Add(-25*time.Hour), "/ip4/8.8.8.8/tcp/4001"), peertable.ErrOld},
		"from tomorrow":  {s.record(t, time.Now().Add(24*time.Hour), "/ip4/8.8.8.8/tcp/4001"), peertable.ErrEarly},
	} {
		if _, err := table.Put(tc.record); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := table.Put(good); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Put(good); !errors.Is(err, peertable.ErrOld) {
		t.Errorf("the same again: %v", err)
	}
}

func TestOneNetworkBlockDoesNotFillTheTable(t *testing.T) {
	for name, tc := range map[string]struct {
		address func(i int) string
		want    int
	}{
		"one address":             {func(i int) string { return fmt.Sprintf("/ip4/8.8.8.8/tcp/%d", 1000+i) }, 8},
		"one block of 256":        {func(i int) string { return fmt.Sprintf("/ip4/8.8.8.%d/tcp/4001", i) }, 8},
		"one network of 65,536":   {func(i int) string { return fmt.Sprintf("/ip4/8.8.%d.1/tcp/4001", i) }, 128},
		"one IPv6 block":          {func(i int) string { return fmt.Sprintf("/ip6/2a00:1:2:%x::1/tcp/4001", i) }, 8},
		"a private network":       {func(i int) string { return fmt.Sprintf("/ip4/10.0.0.%d/tcp/4001", i) }, 200},
		"networks of many owners": {func(i int) string { return fmt.Sprintf("/ip4/%d.7.7.7/udp/4001/quic-v1", 11+i/2) }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			table := peertable.New("self", peertable.Config{})
			for i := range 200 {
				if _, err := table.Put(newSomeone(t).record(t, time.Now(), tc.address(i))); err != nil && !errors.Is(err, peertable.ErrCrowded) {
					t.Fatal(err)
				}
			}
			if got := table.Size(); got != tc.want {
				t.Errorf("%d of 200 are in the table, want %d", got, tc.want)
			}
		})
	}
	t.Run("who moves into a full block stays where it was", func(t *testing.T) {
		table := peertable.New("self", peertable.Config{})
		s := newSomeone(t)
		_, _ = table.Put(s.record(t, time.Now().Add(-time.Minute), "/ip4/9.9.9.9/tcp/1"))
		for i := range 8 {
			_, _ = table.Put(newSomeone(t).record(t, time.Now(), fmt.Sprintf("/ip4/8.8.8.%d/tcp/4001", i)))
		}
		moved := s.record(t, time.Now(), "/ip4/8.8.8.200/tcp/1")
		if _, err := table.Put(moved); !errors.Is(err, peertable.ErrCrowded) {
			t.Fatalf("moved: %v", err)
		}
		if c, ok := table.Get(s.id); !ok || c.Addrs[0].String() != "/ip4/9.9.9.9/tcp/1" {
			t.Errorf("%+v, %v", c, ok)
		}
		for ref := range table.Refs() {
			if ref.Key == peertable.Key(s.id) {
				ref.Made = time.Now().Unix()
				if table.Wants(ref) {
					t.Error("what was refused is wanted again")
				}
			}
		}
	})
}

func TestWhoIsGoneForADayIsForgotten(t *testing.T) {
	clock := time.Now()
	table := peertable.New("self", peertable.Config{Now: func() time.Time { return clock }})
	s := newSomeone(t)
	_, _ = table.Put(s.record(t, clock, "/ip4/8.8.8.8/tcp/1"))
	clock = clock.Add(23 * time.Hour)
	if table.Expire(); table.Size() != 1 {
		t.Error("forgotten too early")
	}
	clock = clock.Add(2 * time.Hour)
	for range table.Refs() {
		t.Error("it is passed on though it is forgotten")
	}
	if table.Expire(); table.Size() != 0 {
		t.Error("remembered for ever")
	}
	if _, err := table.Put(newSomeone(t).record(t, clock, "/ip4/8.8.8.8/tcp/1")); err != nil {
		t.Errorf("its block: %v", err)
	}
}

func TestFullTableForgetsWhoWasSeenLongestAgo(t *testing.T) {
	now := time.Now()
	table := peertable.New("self", peertable.Config{Most: 10})
	var first someone
	for i := range 11 {
		s := newSomeone(t)
		if i == 0 {
			first = s
		}
		if _, err := table.Put(s.record(t, now.Add(time.Duration(i-20)*time.Minute), fmt.Sprintf("/ip4/%d.1.1.1/tcp/1", 20+i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, there := table.Get(first.id); there || table.Size() != 10 {
		t.Errorf("%d peers, the first among them: %v", table.Size(), there)
	}
}

// TestClosest holds that the closest are those of a full sort by XOR, without the
// dead, for any table.
func TestClosest(t *testing.T) {
	var everybody []someone
	for range 60 {
		everybody = append(everybody, newSomeone(t))
	}
	rapid.Check(t, func(t *rapid.T) {
		clock := time.Now()
		table := peertable.New(everybody[0].id, peertable.Config{Now: func() time.Time { return clock }})
		var want []peer.ID
		for i, s := range everybody[:rapid.IntRange(0, len(everybody)).Draw(t, "peers")] {
			if _, err := table.Put(s.record(t, clock, fmt.Sprintf("/ip4/%d.1.1.1/tcp/1", 20+i))); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 4).Draw(t, "dead") == 0 {
				table.Unreachable(s.id)
			} else if i > 0 {
				want = append(want, s.id)
			}
		}
		target := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "target"))
		slices.SortFunc(want, func(a, b peer.ID) int {
			ka, kb := peertable.Key(a), peertable.Key(b)
			for i := range target {
				ka[i] ^= target[i]
				kb[i] ^= target[i]
			}
			return bytes.Compare(ka[:], kb[:])
		})
		count := rapid.IntRange(0, 30).Draw(t, "count")
		want = want[:min(count, len(want))]
		var got []peer.ID
		for _, c := range table.Closest(target, count) {
			got = append(got, c.Peer)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		clock = clock.Add(time.Minute)
		if len(table.Closest(target, 100)) != max(0, table.Size()-1) && table.Size() > 0 {
			t.Fatal("the dead are not welcome back after a minute")
		}
	})
}

func TestSnapshot(t *testing.T) {
	table := peertable.New("self", peertable.Config{})
	s, old := newSomeone(t), newSomeone(t)
	_, _ = table.Put(s.record(t, time.Now(), "/ip4/8.8.8.8/tcp/1"))
	_, _ = table.Put(old.record(t, time.Now().Add(-23*time.Hour), "/ip4/9.9.9.9/tcp/1"))
	table.Measured(s.id, 42*time.Millisecond)
	snapshot := table.Snapshot()
	later := peertable.New("self", peertable.Config{Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	if err := later.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if c, ok := later.Get(s.id); !ok || c.Measured != 42*time.Millisecond || later.Size() != 1 {
		t.Errorf("%+v, %v; %d peers", c, ok, later.Size())
	}
	for cut := range snapshot {
		_ = peertable.New("self", peertable.Config{}).Restore(snapshot[:cut]) // must not panic
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(newSomeone(f).record(f, time.Now(), "/ip4/8.8.8.8/tcp/4001", "/ip6/2a00::1/udp/4001/quic-v1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if rec, err := peertable.Open(sealed); err == nil && (rec.Peer == "" || len(rec.Addrs) == 0) {
			t.Fatalf("%+v", rec)
		}
	})
}

func FuzzRestore(f *testing.F) {
	table := peertable.New("self", peertable.Config{})
	_, _ = table.Put(newSomeone(f).record(f, time.Now(), "/ip4/8.8.8.8/tcp/1"))
	f.Add(table.Snapshot())
	f.Fuzz(func(t *testing.T, snapshot []byte) {
		_ = peertable.New("self", peertable.Config{}).Restore(snapshot) // must not panic
	})
}

// BenchmarkClosest is a lookup's first step with 10,000 known peers: 20 for a walk to
// begin with, and the 60 that a lookup takes.
func BenchmarkClosest(b *testing.B) {
	table := peertable.New("self", peertable.Config{})
	for i := range 10_000 {
		if _, err := table.Put(newSomeone(b).record(b, time.Now(), fmt.Sprintf("/ip4/%d.%d.%d.1/tcp/1", 11+i%200, i/200, i%200))); err != nil {
			b.Fatal(err)
		}
	}
	for _, count := range []int{20, 60} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			i := 0
			for b.Loop() {
				if i++; len(table.Closest(peertable.Key(peer.ID(fmt.Sprint(i))), count)) != count {
					b.Fatal("not found")
				}
			}
		})
	}
}

// BenchmarkPut is what a peer's record costs that comes by gossip: one that is news, and
// one that is here already.
func BenchmarkPut(b *testing.B) {
	s, now := newSomeone(b), time.Now()
	addrs := []string{"/ip4/8.8.8.8/tcp/4001", "/ip4/8.8.8.8/udp/4001/quic-v1", "/ip6/2a00::1/udp/4001/quic-v1"}
	b.Run("news", func(b *testing.B) {
		records := make([][]byte, 3600)
		for i := range records {
			records[i] = s.record(b, now.Add(time.Duration(i-len(records))*time.Second), addrs...)
		}
		table, i := peertable.New("self", peertable.Config{}), 0
		for b.Loop() {
			if i%len(records) == 0 {
				table = peertable.New("self", peertable.Config{})
			}
			if _, err := table.Put(records[i%len(records)]); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
	b.Run("known", func(b *testing.B) {
		table, sealed := peertable.New("self", peertable.Config{}), s.record(b, now, addrs...)
		for b.Loop() {
			if _, err := table.Put(sealed); err != nil && !errors.Is(err, peertable.ErrOld) {
				b.Fatal(err)
			}
		}
	})
}
