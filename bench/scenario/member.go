package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/multiformats/go-multihash"
	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/overlay"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/p2p/peertable"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/p2p/routing"
	"ggen.dev/marketplace/shared"
)

const (
	// acquaintances is how many random peers a peer knows when it begins: a random graph
	// in which nobody knows all.
	acquaintances = 6

	// learning is how long a network is left alone before lookups are measured: its
	// peers measure round trips meanwhile, and fit their coordinates.
	learning = 3 * time.Minute
)

// member is a peer without an engine: all that finds things in the network.
type member struct {
	*node.Node
	number  int
	net     *p2ptest.Network
	routing *routing.Router
	overlay *overlay.Overlay // nil: it was given its peer table
}

// members builds a network of peers that know each other: because they have told each other
// until every peer table was complete, or in large networks because they are given that.
func (r *Run) members(count int) (members []*member, given *atlas) {
	random := r.random()
	keys := make([]crypto.PrivKey, count)
	for i := range keys { // before anything runs that draws from the same source of keys
		keys[i] = p2ptest.Identity(r)
	}
	net := p2ptest.NewNetwork(r, r.Links.Network())
	if r.Scenario.Given {
		given = &atlas{links: r.Links}
	}
	members = make([]*member, count)
	for i := range members {
		var bootstrap []string
		for range min(i, acquaintances) {
			bootstrap = append(bootstrap, members[random.IntN(i)].Addresses()...)
		}
		members[i] = r.member(net, i, keys[i], bootstrap, given)
	}
	<-time.After(10 * time.Second)
	if given != nil {
		given.complete(random)
		return members, given
	}
	r.each(members, func(m *member) { // the light join of the library: one look at one's own place
		_, _ = m.DHT().GetClosestPeers(r.Context(), string(m.PeerID()))
	})
	<-time.After(learning)
	p2ptest.Eventually(r, "complete peer tables", func() bool {
		return !slices.ContainsFunc(members, func(m *member) bool { return m.overlay.Table().Size() < count })
	})
	return members, nil
}

// member opens host number i, with a peer table of its own unless it is given one.
func (r *Run) member(net *p2ptest.Network, i int, key crypto.PrivKey, bootstrap []string, given *atlas) *member {
	n, err := node.Open(r.Context(), net.Config(r, i, node.Config{
		Identity: key, DHTServer: true, Bootstrap: bootstrap,
		Validators: map[string]record.Validator{routing.HeadNamespace: routing.HeadValidator(heads{})},
		DHTOptions: []dht.Option{dht.DisableAutoRefresh()}, // which did not end in 22 core-minutes at 1,000 peers
	}))
	if err != nil {
		r.Fatal(err)
	}
	m := &member{Node: n, number: i, net: net}
	var above io.Closer
	if given == nil {
		m.overlay, err = overlay.Open(n, overlay.Config{
			Identity: key, Heads: heads{},
			// Simulated hosts have addresses one after the other: no network block of theirs has an owner.
			Table: peertable.Config{PerNetwork: -1},
		})
		if err == nil {
			m.routing, above = m.overlay.Routing(), m.overlay
		}
	} else {
		m.routing, err = routing.New(n.DHT(), routing.Config{
			Heads: heads{}, Values: n.Values(), Protocol: n.DHTProtocol(), Directory: given.add(m),
		})
		above = m.routing
	}
	if err != nil {
		r.Fatal(errors.Join(err, n.Close()))
	}
	n.Start()
	r.Cleanup(func() {
		if err := errors.Join(above.Close(), n.Close()); err != nil {
			r.Errorf("close peer %d: %v", i, err)
		}
	})
	return m
}

// random is the source of this run's choices.
func (r *Run) random() *rand.Rand { return rand.New(rand.NewPCG(r.Seed, 1)) }

// each calls work for every member, some at once.
func (r *Run) each(members []*member, work func(m *member)) {
	const atOnce = 16
	queue := make(chan *member)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for m := range queue {
				work(m)
			}
		})
	}
	for _, m := range members {
		queue <- m
	}
	close(queue)
	workers.Wait()
}

// heads verifies head records as the engine does: an update without entries.
type heads struct{}

// Check implements routing.HeadCodec.
func (heads) Check(publisherHex string, value []byte) (order string, err error) {
	u, err := publisher.ParseUpdate(value)
	if err != nil {
		return "", err
	}
	v, err := u.Verify(time.Now())
	if err != nil {
		return "", err
	}
	if string(v.Chain.ID) != publisherHex || len(u.Entries) > 0 {
		return "", errors.New("the record is another publisher's, or no head")
	}
	return fmt.Sprintf("%s/%012d/%012d", v.Chain.Order(), v.Head.Size, v.Head.Time.Unix()), nil
}

// author is a publisher with the record of its head.
type author struct {
	id   shared.PublisherID
	head []byte
}

func (r *Run) author() author {
	key, err := publisher.GenerateKey()
	if err != nil {
		r.Fatal(err)
	}
	ring, err := publisher.NewKeyring(key)
	if err != nil {
		r.Fatal(err)
	}
	head, err := publisher.SignHead(ring.ID(), 1, tlog.RecordHash([]byte(ring.ID())), time.Now(), key)
	if err != nil {
		r.Fatal(err)
	}
	return author{ring.ID(), publisher.Update{Roots: ring.Chain().Signed(), Head: head.Signed, From: 1}.Marshal()}
}

// key is the DHT's for the author's head.
func (a author) key() string { return "/" + routing.HeadNamespace + "/" + string(a.id) }

// cidOf is the DHT's key for a blob.
func cidOf(digest shared.Digest) cid.Cid {
	sum := digest.Sum()
	hash, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		return cid.Undef // not reached: the length is right
	}
	return cid.NewCidV1(cid.Raw, hash)
}

// lookupTimeout is when a lookup has found nothing.
const lookupTimeout = 30 * time.Second

// timed measures a lookup, and reports how long it took and whether it found what it looked for.
func (r *Run) timed(series string, find func(ctx context.Context) bool) (took time.Duration, found bool) {
	ctx, cancel := context.WithTimeout(r.Context(), lookupTimeout)
	defer cancel()
	began := time.Now()
	if !find(ctx) {
		return 0, false
	}
	took = time.Since(began)
	r.Took(series, took)
	return took, true
}
