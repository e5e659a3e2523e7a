package routing_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio/pbio"
	"go.uber.org/goleak"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/p2p/routing"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// author signs heads the way a publisher does, in the shortest form that is
// still verified: public key, log size, signature.
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

func validators() map[string]record.Validator {
	return map[string]record.Validator{routing.HeadNamespace: routing.HeadValidator(codec{})}
}

// believer is a validator that takes anything, for nodes that lie.
type believer struct{}

func (believer) Validate(string, []byte) error        { return nil }
func (believer) Select(string, [][]byte) (int, error) { return 0, nil }

func router(t testing.TB, n *node.Node, keep routing.Kept) *routing.Router {
	t.Helper()
	r, err := routing.New(n.DHT(), routing.Config{Heads: codec{}, Values: n.Values(), Protocol: n.DHTProtocol(), Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func onLoopback(t *testing.T, cfg node.Config) *node.Node {
	t.Helper()
	cfg.Identity = p2ptest.Identity(t)
	cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	if cfg.Validators == nil {
		cfg.Validators = validators()
	}
	return p2ptest.Open(t, cfg)
}

func tables(nodes []*node.Node, each int) func() bool {
	return func() bool {
		return !slices.ContainsFunc(nodes, func(n *node.Node) bool { return n.RoutingTableSize() < each })
	}
}

// simulated runs test on a simulated network of count connected nodes.
func simulated(t *testing.T, count int, links p2ptest.Links, test func(t *testing.T, net *p2ptest.Network, nodes []*node.Node, routers []*routing.Router)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.NewNetwork(t, links)
		nodes := net.Nodes(t, count, func(int) node.Config { return node.Config{Validators: validators()} })
		p2ptest.Eventually(t, "full routing tables", tables(nodes, count-1))
		routers := make([]*routing.Router, count)
		for i, n := range nodes {
			routers[i] = router(t, n, nil)
		}
		test(t, net, nodes, routers)
	})
}

func TestHead(t *testing.T) {
	t.Run("all of 20 peers find the newest head", func(t *testing.T) {
		simulated(t, 20, p2ptest.Links{Streams: true}, func(t *testing.T, _ *p2ptest.Network, _ []*node.Node, routers []*routing.Router) {
			a := newAuthor(t)
			for _, size := range []int64{1, 7} {
				if stored, err := routers[3].PutHead(t.Context(), a.id, a.head(size)); err != nil || stored != 19 {
					t.Fatalf("stored at %d, %v", stored, err)
				}
			}
			for i, r := range routers {
				started := time.Now()
				if head, err := r.Head(t.Context(), a.id); err != nil || string(head) != string(a.head(7)) {
					t.Errorf("peer %d: %x, %v", i, head, err)
				}
				if i == 10 {
					t.Logf("virtual time of a lookup: %s", time.Since(started))
				}
			}
			if stored, err := routers[5].PutHead(t.Context(), a.id, a.head(6)); stored != 0 || !errors.Is(err, shared.ReasonPeersFailed) {
				t.Errorf("an older head was stored at %d peers, %v", stored, err)
			}
			if _, err := routers[0].Head(t.Context(), newAuthor(t).id); !errors.Is(err, shared.ReasonNotFound) {
				t.Errorf("a head that nobody has: %v", err)
			}
		})
	})
	t.Run("a newer head beats an older one that arrives first", func(t *testing.T) {
		// The peer with the older head is near, the one with the newer head far.
		links := p2ptest.Links{Between: func(from, to int) time.Duration {
			if from == 2 || to == 2 {
				return 30 * time.Millisecond
			}
			return 5 * time.Millisecond
		}}
		simulated(t, 4, links, func(t *testing.T, _ *p2ptest.Network, nodes []*node.Node, routers []*routing.Router) {
			a := newAuthor(t)
			put := func(n *node.Node, size int64) {
				if err := n.Values().Put(t.Context(), key(a), record.MakePutRecord(key(a), a.head(size))); err != nil {
					t.Fatal(err)
				}
			}
			put(nodes[0], 3) // the asker's own copy is the oldest
			put(nodes[1], 4)
			put(nodes[2], 5)
			var heads []string
			for head, err := range routers[0].Heads(t.Context(), a.id) {
				if err != nil {
					t.Fatal(err)
				}
				heads = append(heads, string(head))
			}
			if want := []string{string(a.head(4)), string(a.head(5))}; !slices.Equal(heads, want) {
				t.Errorf("heads %x, want %x", heads, want)
			}
			if head, err := routers[0].Head(t.Context(), a.id); err != nil || string(head) != string(a.head(4)) {
				t.Errorf("the first: %x, %v", head, err)
			}
		})
	})
	t.Run("an invalid record is never accepted", func(t *testing.T) {
		liar := onLoopback(t, node.Config{Validators: map[string]record.Validator{routing.HeadNamespace: believer{}}})
		honest := onLoopback(t, node.Config{Bootstrap: liar.Addresses()})
		asker := onLoopback(t, node.Config{Bootstrap: liar.Addresses()})
		p2ptest.Eventually(t, "full routing tables", tables([]*node.Node{liar, honest, asker}, 2))
		a, b := newAuthor(t), newAuthor(t)
		forged := a.head(1000)
		forged[39]++
		for name, lie := range map[string][]byte{"forged": forged, "another publisher's": b.head(99), "empty": {}, "huge": make([]byte, routing.MaxHead+1)} {
			if err := liar.Values().Put(t.Context(), key(a), record.MakePutRecord(key(a), lie)); err != nil {
				t.Fatal(err)
			}
			if head, err := router(t, asker, nil).Head(t.Context(), a.id); !errors.Is(err, shared.ReasonNotFound) {
				t.Errorf("%s: %x, %v", name, head, err)
			}
		}
		if stored, err := router(t, honest, nil).PutHead(t.Context(), a.id, a.head(2)); err != nil || stored == 0 {
			t.Fatalf("stored at %d, %v", stored, err)
		}
		if head, err := router(t, asker, nil).Head(t.Context(), a.id); err != nil || string(head) != string(a.head(2)) {
			t.Errorf("with a liar around: %x, %v", head, err)
		}
		if _, err := router(t, honest, nil).PutHead(t.Context(), a.id, forged); !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Errorf("put a forged head: %v", err)
		}
	})
	t.Run("a peer that answers without a record does no harm", func(t *testing.T) {
		hostile := onLoopback(t, node.Config{})
		hostile.Host().SetStreamHandler("/ggen/kad/1.0.0", func(s network.Stream) {
			defer func() { _ = s.Close() }()
			in, out := pbio.NewDelimitedReader(s, network.MessageSizeMax), pbio.NewDelimitedWriter(s)
			for request := new(pb.Message); in.ReadMsg(request) == nil; request = new(pb.Message) {
				if out.WriteMsg(&pb.Message{Type: request.GetType(), Key: request.GetKey()}) != nil {
					return
				}
			}
		})
		n := onLoopback(t, node.Config{Bootstrap: hostile.Addresses()})
		p2ptest.Eventually(t, "a routing table", tables([]*node.Node{n}, 1))
		a := newAuthor(t)
		r := router(t, n, nil)
		if stored, err := r.PutHead(t.Context(), a.id, a.head(1)); stored != 0 || !errors.Is(err, shared.ReasonPeersFailed) {
			t.Errorf("stored at %d, %v", stored, err)
		}
		if head, err := r.Head(t.Context(), a.id); err != nil || string(head) != string(a.head(1)) {
			t.Errorf("the own copy: %x, %v", head, err)
		}
		if _, err := r.Head(t.Context(), newAuthor(t).id); !errors.Is(err, shared.ReasonNotFound) {
			t.Errorf("an unknown head: %v", err)
		}
	})
	t.Run("two peers are enough", func(t *testing.T) {
		first := onLoopback(t, node.Config{})
		second := onLoopback(t, node.Config{Bootstrap: first.Addresses()})
		p2ptest.Eventually(t, "routing tables", tables([]*node.Node{first, second}, 1))
		a := newAuthor(t)
		if _, err := router(t, first, nil).PutHead(t.Context(), a.id, a.head(1)); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*node.Node{first, second} {
			if head, err := router(t, n, nil).Head(t.Context(), a.id); err != nil || string(head) != string(a.head(1)) {
				t.Errorf("%x, %v", head, err)
			}
		}
	})
	t.Run("failures have reasons", func(t *testing.T) {
		alone := onLoopback(t, node.Config{})
		r := router(t, alone, nil)
		a := newAuthor(t)
		if _, err := r.Head(t.Context(), a.id); !errors.Is(err, shared.ReasonNoPeers) {
			t.Errorf("alone: %v", err)
		}
		if _, err := r.Head(t.Context(), "abcdef12"); !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Errorf("abbreviated publisher: %v", err)
		}
		onLoopback(t, node.Config{Bootstrap: alone.Addresses()})
		p2ptest.Eventually(t, "a routing table", tables([]*node.Node{alone}, 1))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Head(ctx, a.id); !errors.Is(err, shared.ReasonCanceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func key(a author) string { return "/" + routing.HeadNamespace + "/" + string(a.id) }

func TestProviders(t *testing.T) {
	digest := shared.DigestOf([]byte("content"))
	find := func(ctx context.Context, r *routing.Router, most int) (ids []peer.ID) {
		for info := range r.Providers(ctx, digest, most) {
			ids = append(ids, info.ID)
		}
		return ids
	}
	t.Run("all of 20 peers find who provides", func(t *testing.T) {
		simulated(t, 20, p2ptest.Links{Streams: true}, func(t *testing.T, _ *p2ptest.Network, nodes []*node.Node, routers []*routing.Router) {
			for _, i := range []int{4, 9} {
				if told, err := routers[i].Provide(t.Context(), digest); err != nil || told != 19 {
					t.Fatalf("told %d, %v", told, err)
				}
			}
			for i, r := range routers {
				ids := find(t.Context(), r, 0)
				want := slices.DeleteFunc([]peer.ID{nodes[4].PeerID(), nodes[9].PeerID()}, func(p peer.ID) bool { return p == nodes[i].PeerID() })
				for _, p := range want {
					if !slices.Contains(ids, p) || len(ids) != len(want) {
						t.Errorf("peer %d found %v, want %v", i, ids, want)
					}
				}
			}
			if ids := find(t.Context(), routers[0], 1); len(ids) != 1 {
				t.Errorf("asked for one, found %d", len(ids))
			}
			for range routers[1].Providers(t.Context(), digest, 0) {
				break // leaving early is allowed
			}
		})
	})
	t.Run("an invalid digest and an empty network have none", func(t *testing.T) {
		r := router(t, onLoopback(t, node.Config{}), nil)
		if _, err := r.Provide(t.Context(), "sha256:x"); !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Errorf("provide: %v", err)
		}
		if _, err := r.Provide(t.Context(), digest); !errors.Is(err, shared.ReasonNoPeers) {
			t.Errorf("provide alone: %v", err)
		}
		for info := range r.Providers(t.Context(), "sha256:x", 0) {
			t.Errorf("found %v", info)
		}
		if ids := find(t.Context(), r, 0); len(ids) != 0 {
			t.Errorf("found %v", ids)
		}
	})
}

// kept is what one node keeps announced.
type kept struct {
	author  author
	digests []shared.Digest
}

func (k kept) Heads() iter.Seq2[shared.PublisherID, []byte] {
	return func(yield func(shared.PublisherID, []byte) bool) { yield(k.author.id, k.author.head(1)) }
}
func (k kept) Digests() iter.Seq[shared.Digest] { return slices.Values(k.digests) }

func TestKeep(t *testing.T) {
	t.Run("what is kept is announced when the first peer comes, and again when it joined late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			net := p2ptest.NewNetwork(t, p2ptest.Links{Streams: true})
			keep := kept{author: newAuthor(t)}
			for i := range 10 {
				keep.digests = append(keep.digests, shared.DigestOf(fmt.Append(nil, i)))
			}
			first := p2ptest.Open(t, net.Config(t, 0, node.Config{Validators: validators()}))
			router(t, first, keep)
			<-time.After(time.Hour) // alone
			second := p2ptest.Open(t, net.Config(t, 1, node.Config{Validators: validators(), Bootstrap: first.Addresses()}))
			r := router(t, second, nil)
			p2ptest.Eventually(t, "head and last blob at the second peer", func() bool {
				rec, err := second.Values().Get(t.Context(), key(keep.author))
				found := slices.Collect(r.Providers(t.Context(), keep.digests[9], 1))
				return err == nil && rec != nil && len(found) == 1
			})
			if err := second.Close(); err != nil {
				t.Fatal(err)
			}
			third := p2ptest.Open(t, net.Config(t, 2, node.Config{Validators: validators(), Bootstrap: first.Addresses()}))
			<-third.Joined()
			<-time.After(13 * time.Hour)
			if rec, err := third.Values().Get(t.Context(), key(keep.author)); err != nil || rec == nil {
				t.Errorf("the head was not announced again: %v", err)
			}
		})
	})
	t.Run("a failed announcement is made up for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			net := p2ptest.NewNetwork(t, p2ptest.Links{Streams: true})
			keep := kept{author: newAuthor(t)}
			first := p2ptest.Open(t, net.Config(t, 0, node.Config{Validators: validators()}))
			r := router(t, first, keep)
			if _, err := r.PutHead(t.Context(), keep.author.id, keep.author.head(1)); !errors.Is(err, shared.ReasonNoPeers) {
				t.Fatalf("put head alone: %v", err)
			}
			second := p2ptest.Open(t, net.Config(t, 1, node.Config{Validators: validators(), Bootstrap: first.Addresses()}))
			p2ptest.Eventually(t, "the head at the second peer", func() bool {
				rec, err := second.Values().Get(t.Context(), key(keep.author))
				return err == nil && rec != nil
			})
		})
	})
}

func TestHeadValidator(t *testing.T) {
	a := newAuthor(t)
	v := routing.HeadValidator(codec{})
	if err := v.Validate(key(a), a.head(1)); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]struct {
		key   string
		value []byte
	}{
		"other namespace": {"/pk/" + string(a.id), a.head(1)},
		"short publisher": {key(a)[:40], a.head(1)},
		"upper case":      {"/ggen-head/" + fmt.Sprintf("%064X", 10), a.head(1)},
		"no signature":    {key(a), []byte("x")},
	} {
		if err := v.Validate(bad.key, bad.value); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if i, err := v.Select(key(a), [][]byte{[]byte("x"), a.head(2), a.head(9), a.head(9), newAuthor(t).head(50)}); err != nil || i != 2 {
		t.Errorf("Select = %d, %v", i, err)
	}
	if _, err := v.Select(key(a), [][]byte{[]byte("x")}); err == nil {
		t.Error("Select picks among invalid heads")
	}
}

func TestNewRefuses(t *testing.T) {
	n := onLoopback(t, node.Config{})
	for _, tc := range []struct {
		d   *dht.IpfsDHT
		cfg routing.Config
	}{
		{nil, routing.Config{Heads: codec{}, Values: n.Values()}},
		{n.DHT(), routing.Config{Values: n.Values(), Protocol: "/p"}},
		{n.DHT(), routing.Config{Heads: codec{}, Protocol: "/p"}},
		{n.DHT(), routing.Config{Heads: codec{}, Values: n.Values()}},
		{n.DHT(), routing.Config{Heads: codec{}, Values: n.Values(), Protocol: "/p", Fanout: -1}},
	} {
		if _, err := routing.New(tc.d, tc.cfg); err == nil {
			t.Errorf("New(%v, %+v) succeeds", tc.d, tc.cfg)
		}
	}
}

// FuzzHeadValidator holds that no record crashes the validator and that none
// passes under a key that names no publisher.
func FuzzHeadValidator(f *testing.F) {
	a := newAuthor(f)
	f.Add(key(a), a.head(3))
	f.Add("/ggen-head/", []byte("x"))
	f.Add("", []byte{})
	v := routing.HeadValidator(codec{})
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if v.Validate(key, value) == nil && len(key) != len("/ggen-head/")+64 {
			t.Fatalf("%q is accepted", key)
		}
		if i, err := v.Select(key, [][]byte{value, value}); err == nil && i != 0 {
			t.Fatalf("Select prefers the second of two equals: %d", i)
		}
	})
}
