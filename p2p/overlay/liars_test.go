package overlay_test

import (
	"context"
	"crypto/sha256"
	mathrand "math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio/pbio"

	"ggen.dev/marketplace/p2p/overlay"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

// lie makes a member answer every question of the DHT with a forged head, providers
// that do not exist, and its accomplices for closer peers. It confirms what is stored
// there, and forgets it.
func lie(t testing.TB, m *member, accomplices func() []*member) {
	t.Helper()
	var nobody []peer.AddrInfo
	for range 3 {
		id, err := peer.IDFromPrivateKey(p2ptest.Identity(t))
		if err != nil {
			t.Fatal(err)
		}
		nobody = append(nobody, peer.AddrInfo{ID: id, Addrs: m.Host().Addrs()})
	}
	m.Host().SetStreamHandler(m.DHTProtocol(), func(s network.Stream) {
		defer func() { _ = s.Close() }()
		in, out := pbio.NewDelimitedReader(s, network.MessageSizeMax), pbio.NewDelimitedWriter(s)
		for request := new(pb.Message); in.ReadMsg(request) == nil; request = new(pb.Message) {
			answer := &pb.Message{Type: request.GetType(), Key: request.GetKey(), Record: request.GetRecord()}
			var closer []peer.AddrInfo
			for _, other := range accomplices() {
				closer = append(closer, peer.AddrInfo{ID: other.PeerID(), Addrs: other.Host().Addrs()})
			}
			mathrand.Shuffle(len(closer), func(i, j int) { closer[i], closer[j] = closer[j], closer[i] })
			answer.CloserPeers = pb.RawPeerInfosToPBPeers(closer[:min(len(closer), 20)])
			switch request.GetType() {
			case pb.Message_GET_VALUE:
				answer.Record = nil
				if mathrand.IntN(2) == 0 {
					answer.Record = record.MakePutRecord(string(request.GetKey()), make([]byte, 32+8+64))
				}
			case pb.Message_GET_PROVIDERS:
				answer.ProviderPeers = pb.RawPeerInfosToPBPeers(nobody)
			case pb.Message_ADD_PROVIDER:
				continue
			}
			if out.WriteMsg(answer) != nil {
				return
			}
		}
	})
}

// around makes the key of a peer whose place is as close to a target as bits say.
func around(t testing.TB, target [32]byte, bits int) crypto.PrivKey {
	t.Helper()
	for {
		key := p2ptest.Identity(t)
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		place := sha256.Sum256([]byte(id))
		if leading(place, target) >= bits {
			return key
		}
	}
}

func leading(a, b [32]byte) (bits int) {
	for i := range a {
		for bit := 7; bit >= 0; bit-- {
			if (a[i]^b[i])>>bit&1 == 1 {
				return bits
			}
			bits++
		}
	}
	return bits
}

// TestLiarsHideNothing holds that honest heads are found though every fifth peer lies
// about everything. With GGEN_TEST_SYBILS=40 and GGEN_TEST_PEERS=60 (docs/benchmarks/
// lookups.md) there are also more identities of one attacker around one key than keep a
// record, each closer to it than any honest peer: in one network block, or each in one of
// its own; before the head was stored, or after.
func TestLiarsHideNothing(t *testing.T) {
	honest, sybils := setting(t, "GGEN_TEST_PEERS", 20), setting(t, "GGEN_TEST_SYBILS", 0)
	for name, tc := range map[string]struct {
		spread bool // the Sybils have a network block each
		before bool // they are there before the head is stored
	}{
		"of one block, before":   {false, true},
		"of many blocks, after":  {true, false},
		"of many blocks, before": {true, true},
	} {
		if sybils == 0 && name != "of one block, before" {
			continue // they differ in the Sybils
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := mathrand.New(mathrand.NewPCG(3, 3))
				net := p2ptest.NewNetwork(t, p2ptest.Links{Between: regions, Streams: true})
				var members, liars, attackers []*member
				enter := func(i int, cfg overlay.Config, listen []string) *member {
					var bootstrap []string
					for range min(len(members), 4) {
						bootstrap = append(bootstrap, members[random.IntN(len(members))].Addresses()...)
					}
					m := joinAt(t, net, i, cfg, listen, bootstrap...)
					members = append(members, m)
					t.Cleanup(func() { m.close(t) })
					return m
				}
				for i := range honest {
					m := enter(i, overlay.Config{Table: unbounded}, net.Listen(i))
					if i%5 == 4 {
						liars = append(liars, m)
						lie(t, m, func() []*member { return liars })
					}
				}
				victim := newAuthor(t)
				target := sha256.Sum256([]byte("/ggen-head/" + string(victim.id)))
				attack := func() {
					for k := range sybils {
						listen := net.Listen(honest + k)
						if !tc.spread {
							listen = net.ListenIn(honest, k)
						}
						key := around(t, target, 9) // 2^9 places for 60 honest peers: none is closer
						m := enter(honest+k, overlay.Config{Identity: key, Table: unbounded}, listen)
						attackers = append(attackers, m)
						lie(t, m, func() []*member { return attackers })
					}
					<-time.After(5 * time.Minute)
				}
				if sybils > 0 && tc.before {
					attack()
				}
				<-time.After(2 * time.Minute)
				authors := []author{victim}
				for range 20 {
					authors = append(authors, newAuthor(t))
				}
				for _, a := range authors {
					if _, err := members[0].Routing().PutHead(t.Context(), a.id, a.head(1)); err != nil {
						t.Fatal(err)
					}
				}
				digest := shared.DigestOf([]byte("content"))
				if _, err := members[1].Routing().Provide(t.Context(), digest); err != nil {
					t.Fatal(err)
				}
				if sybils > 0 && !tc.before {
					attack()
				}
				var attacked, others, providers took
				for i, asker := range members[:honest] {
					if i%5 == 4 || i < 2 {
						continue
					}
					head := func(a author) time.Duration {
						return timed(func(ctx context.Context) bool {
							head, err := asker.Routing().Head(ctx, a.id)
							return err == nil && string(head) == string(a.head(1))
						})
					}
					attacked = append(attacked, head(victim))
					others = append(others, head(authors[1+i%20]))
					providers = append(providers, timed(func(ctx context.Context) bool {
						for info := range asker.Routing().Providers(ctx, digest, 100) {
							if info.ID == members[1].PeerID() {
								return true
							}
						}
						return false
					}))
				}
				t.Logf("p50 / p95 / p99 with %d liars and %d Sybils:\n  the attacked head %s\n  other heads %s\n  the true provider %s", len(liars), sybils, attacked, others, providers)
				for what, times := range map[string]took{"the attacked head": attacked, "another head": others, "the true provider": providers} {
					for _, d := range times {
						if d == 0 {
							t.Errorf("%s was not found", what)
							break
						}
					}
				}
			})
		})
	}
}
