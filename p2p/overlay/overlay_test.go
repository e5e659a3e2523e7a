package overlay_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/overlay"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/p2p/peertable"
	"ggen.dev/marketplace/p2p/routing"
	"ggen.dev/marketplace/shared"
)

// author signs heads: the public key, the size as 8 bytes, a signature.
type author struct {
	key ed25519.PrivateKey
	id  shared.PublisherID
}

func newAuthor(t testing.TB) author {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(public)
	return author{key, shared.PublisherID(hex.EncodeToString(sum[:]))}
}

func (a author) head(size int64) []byte {
	body := binary.BigEndian.AppendUint64(slices.Clone(a.key.Public().(ed25519.PublicKey)), uint64(size))
	return append(body, ed25519.Sign(a.key, body)...)
}

type codec struct{}

func (codec) Check(publisher string, value []byte) (string, error) {
	if len(value) != 32+8+64 {
		return "", errors.New("wrong length")
	}
	body, signature := value[:40], value[40:]
	if sum := sha256.Sum256(value[:32]); hex.EncodeToString(sum[:]) != publisher || !ed25519.Verify(value[:32], body, signature) {
		return "", errors.New("not signed by the publisher")
	}
	return string(value[32:40]), nil
}

// member is one peer of a simulated network.
type member struct {
	*node.Node
	*overlay.Overlay
	number int
	key    crypto.PrivKey
}

func (m *member) close(t testing.TB) {
	t.Helper()
	if err := errors.Join(m.Overlay.Close(), m.Node.Close()); err != nil {
		t.Error(err)
	}
}

// join opens peer number i, which knows a few of those who are there.
func join(t testing.TB, net *p2ptest.Network, i int, cfg overlay.Config, bootstrap ...string) *member {
	t.Helper()
	return joinAt(t, net, i, cfg, net.Listen(i), bootstrap...)
}

// joinAt is join from an address of one's choice.
func joinAt(t testing.TB, net *p2ptest.Network, i int, cfg overlay.Config, listen []string, bootstrap ...string) *member {
	t.Helper()
	key := p2ptest.Identity(t)
	if cfg.Identity != nil {
		key = cfg.Identity
	}
	nodeCfg := net.Config(t, i, node.Config{
		Identity: key, DHTServer: true, Bootstrap: bootstrap,
		Validators: map[string]record.Validator{routing.HeadNamespace: routing.HeadValidator(codec{})},
		DHTOptions: []dht.Option{dht.DisableAutoRefresh()},
	})
	nodeCfg.Listen = listen
	n, err := node.Open(t.Context(), nodeCfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Identity, cfg.Heads = key, codec{}
	o, err := overlay.Open(n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	return &member{n, o, i, key}
}

// unbounded is a peer table for networks of which a /16 has 256 peers.
var unbounded = peertable.Config{PerNetwork: -1}

// simulated runs test on a network of count peers, each of which knows three others.
func simulated(t *testing.T, count int, links p2ptest.Links, test func(t *testing.T, net *p2ptest.Network, members []*member)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.NewNetwork(t, links)
		random := mathrand.New(mathrand.NewPCG(1, 1))
		members := make([]*member, count)
		for i := range members {
			var bootstrap []string
			for range min(i, 3) {
				bootstrap = append(bootstrap, members[random.IntN(i)].Addresses()...)
			}
			m := join(t, net, i, overlay.Config{Table: unbounded}, bootstrap...)
			members[i] = m
			t.Cleanup(func() { m.close(t) })
		}
		test(t, net, members)
	})
}

func complete(members []*member, size int) func() bool {
	return func() bool {
		return !slices.ContainsFunc(members, func(m *member) bool { return m.Table().Size() < size })
	}
}

func TestEverybodyLearnsEverybody(t *testing.T) {
	const peers = 16
	simulated(t, peers, p2ptest.Links{Streams: true}, func(t *testing.T, net *p2ptest.Network, members []*member) {
		<-time.After(70 * time.Second) // a peer is news after a minute
		p2ptest.Eventually(t, "complete tables", complete(members, peers))
		{ // a peer that comes later has the table at once, and is known to all after a minute
			late := join(t, net, peers, overlay.Config{Table: unbounded}, members[3].Addresses()...)
			p2ptest.Eventually(t, "the table", complete([]*member{late}, peers))
			if _, known := members[9].Table().Get(late.PeerID()); known {
				t.Error("a peer is announced before it has settled")
			}
			<-time.After(70 * time.Second)
			p2ptest.Eventually(t, "it in all tables", complete(members, peers+1))
			c, _ := members[9].Table().Get(late.PeerID())
			if !c.At.Known() || len(c.Addrs) == 0 {
				t.Errorf("its record says neither where it is nor how to dial it: %+v", c)
			}
			late.close(t)
		}
		{ // what gossip missed is repaired
			key := p2ptest.Identity(t)
			id, _ := peer.IDFromPrivateKey(key)
			sealed, err := peertable.Seal(key, peertable.Record{Peer: id, Made: time.Now(), Addrs: members[0].Host().Addrs()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := members[7].Table().Put(sealed); err != nil {
				t.Fatal(err)
			}
			<-time.After(15 * time.Minute)
			p2ptest.Eventually(t, "the record in all tables", func() bool {
				return !slices.ContainsFunc(members, func(m *member) bool { _, ok := m.Table().Get(id); return !ok })
			})
		}
		{ // a restart finds the network in the snapshot
			snapshot := members[5].Snapshot()
			alone := join(t, net, peers+1, overlay.Config{Table: unbounded, Snapshot: snapshot})
			p2ptest.Eventually(t, "the table", complete([]*member{alone}, peers))
			a := newAuthor(t)
			if stored, err := members[2].Routing().PutHead(t.Context(), a.id, a.head(3)); err != nil || stored < 15 {
				t.Fatalf("stored at %d peers, %v", stored, err)
			}
			if head, err := alone.Routing().Head(t.Context(), a.id); err != nil || string(head) != string(a.head(3)) {
				t.Errorf("a peer that has met nobody: %x, %v", head, err)
			}
			alone.close(t)
		}
	})
}

func TestDeadPeersDoNotHoldUpALookup(t *testing.T) {
	const peers = 24
	simulated(t, peers, p2ptest.Links{Streams: true}, func(t *testing.T, _ *p2ptest.Network, members []*member) {
		<-time.After(70 * time.Second)
		p2ptest.Eventually(t, "complete tables", complete(members, peers))
		a := newAuthor(t)
		if _, err := members[1].Routing().PutHead(t.Context(), a.id, a.head(1)); err != nil {
			t.Fatal(err)
		}
		digest := shared.DigestOf([]byte("content"))
		if _, err := members[1].Routing().Provide(t.Context(), digest); err != nil {
			t.Fatal(err)
		}
		for _, m := range members[2:9] { // 30 % die without a word
			_ = m.Host().Network().Close()
		}
		for _, asker := range members[16:] {
			began := time.Now()
			if _, err := asker.Routing().Head(t.Context(), a.id); err != nil {
				t.Errorf("head: %v", err)
			}
			found := false
			for info := range asker.Routing().Providers(t.Context(), digest, 1) {
				found = info.ID == members[1].PeerID()
			}
			if !found {
				t.Error("the provider was not found")
			}
			t.Logf("head and provider after %s of virtual time", time.Since(began))
		}
	})
}
