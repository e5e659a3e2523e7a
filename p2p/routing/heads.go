package routing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	kb "github.com/libp2p/go-libp2p-kbucket"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"ggen.dev/marketplace/shared"
)

const (
	// HeadNamespace is the DHT namespace of head records.
	HeadNamespace = "ggen-head"

	// MaxHead bounds a head record in bytes: a signed head of a few hundred, and the
	// root documents that let a stranger verify it, about 700 for each change of keys.
	MaxHead = 64 << 10

	// Head asks up to headsAtOnce peers at a time (see the DHT's alpha) and gives
	// up on one after askTimeout.
	headsAtOnce = 10
	askTimeout  = 3 * time.Second

	// A head is taken headGrace after the first verified answer of another peer,
	// in case a newer one is on its way, or as soon as headAnswers peers have
	// given verified answers: one peer alone could be behind, or pretend to be.
	headGrace   = 200 * time.Millisecond
	headAnswers = 3

	// maxCandidates bounds the peers that one lookup may get to know, and
	// maxCloser those that it accepts from one answer (k).
	maxCandidates = 200
	maxCloser     = 20
	maxPeerAddrs  = 16
)

// HeadCodec verifies head records.
type HeadCodec interface {
	// Check returns an error unless value is a head that the publisher (64 hex
	// digits) signed. Of two heads the one with the greater order (as strings
	// compare) is to be believed. It must not keep or change value.
	Check(publisherHex string, value []byte) (order string, err error)
}

// HeadValidator makes the DHT store and pass on verified heads only, and prefer
// the newest one.
func HeadValidator(codec HeadCodec) record.Validator { return headValidator{codec} }

type headValidator struct{ codec HeadCodec }

// Validate implements record.Validator.
func (v headValidator) Validate(key string, value []byte) error {
	publisher, err := parseHeadKey(key)
	if err != nil {
		return err
	}
	_, err = checkHead(v.codec, publisher, value)
	return err
}

// Select implements record.Validator: the first of the newest.
func (v headValidator) Select(key string, values [][]byte) (int, error) {
	publisher, err := parseHeadKey(key)
	if err != nil {
		return 0, err
	}
	best, newest := -1, ""
	for i, value := range values {
		if order, err := checkHead(v.codec, publisher, value); err == nil && (best < 0 || order > newest) {
			best, newest = i, order
		}
	}
	if best < 0 {
		return 0, errors.New("no valid head")
	}
	return best, nil
}

func headKey(publisher shared.PublisherID) string {
	return "/" + HeadNamespace + "/" + string(publisher)
}

func parseHeadKey(key string) (shared.PublisherID, error) {
	id, ok := strings.CutPrefix(key, "/"+HeadNamespace+"/")
	if publisher := shared.PublisherID(id); ok && publisher.Complete() {
		return publisher, nil
	}
	return "", fmt.Errorf("%q is not the key of a head record", key)
}

func checkHead(codec HeadCodec, publisher shared.PublisherID, value []byte) (order string, err error) {
	if len(value) == 0 || len(value) > MaxHead {
		return "", fmt.Errorf("a head record of %d bytes; 1 to %d are allowed", len(value), MaxHead)
	}
	return codec.Check(string(publisher), value)
}

// PutHead stores the head record of a publisher here and at the 20 peers closest
// to its key, and returns how many of those have confirmed. A peer that knows a
// newer head does not. It takes at most 30 s.
//
// Errors: INVALID_ARGUMENT when the codec refuses value; NO_PEERS, TIMEOUT or
// PEERS_FAILED when no other peer has it; then it is tried again with everything
// else in Config.Keep.
func (r *Router) PutHead(ctx context.Context, publisher shared.PublisherID, value []byte) (stored int, err error) {
	stored, err = r.putHead(ctx, publisher, value)
	return stored, r.retryLater(err)
}

func (r *Router) putHead(ctx context.Context, publisher shared.PublisherID, value []byte) (stored int, err error) {
	if !publisher.Complete() {
		return 0, shared.NewError(shared.ReasonInvalidArgument, "put head: %q is no complete publisher ID", publisher)
	}
	if _, err := checkHead(r.heads, publisher, value); err != nil {
		return 0, shared.NewError(shared.ReasonInvalidArgument, "put head of %s: %w", publisher.Short(), err)
	}
	key := headKey(publisher)
	rec := record.MakePutRecord(key, value)
	// A newer one that is here already stays; others may still need this one.
	_ = r.values.Put(ctx, key, rec)
	stored, err = r.storeAtClosest(ctx, key, func(ctx context.Context, p peer.ID) error {
		request := pb.NewMessage(pb.Message_PUT_VALUE, []byte(key), 0)
		request.Record = rec
		answer, err := r.dht.MessageSender().SendRequest(ctx, p, request)
		if err != nil {
			return err
		}
		if !bytes.Equal(answer.GetRecord().GetValue(), value) {
			return errors.New("it did not confirm the record")
		}
		return nil
	})
	return stored, named(err, "put head of %s", publisher.Short())
}

// Head finds the newest head record of a publisher. Only records that the codec
// verifies count. It returns 200 ms after the first of them that another peer
// gave, or when three peers have given one, or when all who should know have
// been asked; and after 10 s at the latest.
//
// Errors: NOT_FOUND when those who should know it have answered that they do
// not; NO_PEERS; TIMEOUT; CANCELED.
func (r *Router) Head(ctx context.Context, publisher shared.PublisherID) (value []byte, err error) {
	if !publisher.Complete() {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "find head: %q is no complete publisher ID", publisher)
	}
	search := headSearch{router: r, publisher: publisher, key: headKey(publisher)}
	if rec, err := r.values.Get(ctx, search.key); err == nil && rec != nil {
		search.take(rec.GetValue())
	}
	if err := r.usable(); err != nil {
		if search.best != nil {
			return search.best, nil
		}
		return nil, named(err, "find head of %s", publisher.Short())
	}
	bounded, cancel := r.bounded(ctx, lookupTimeout)
	defer cancel()
	search.run(bounded)
	switch {
	case search.best != nil && ctx.Err() == nil:
		return search.best, nil
	case search.answered == 0 || bounded.Err() != nil:
		return nil, named(r.failure(ctx, fmt.Errorf("%d peers answered: %w", search.answered, context.DeadlineExceeded)), "find head of %s", publisher.Short())
	}
	return nil, shared.NewError(shared.ReasonNotFound, "find head of %s: none of %d peers knows it", publisher.Short(), search.answered)
}

// headSearch is one iterative lookup: ask the closest known peers for the record
// and for peers that are closer still, until the closest 20 have been asked. It
// is not kad-dht's SearchValue because that waits for no one's grace, spends the
// library's long timeouts on dead peers, and afterwards corrects stale peers in
// a way that lets them crash this process (see node.Node.DHT).
type headSearch struct {
	router    *Router
	publisher shared.PublisherID
	key       string

	best     []byte // the newest verified head so far, and its order
	order    string
	verified int // verified answers, the own copy included
	answered int // peers that answered at all
}

// headAnswer is what one peer said.
type headAnswer struct {
	from   peer.ID
	value  []byte
	closer []*peer.AddrInfo
	err    error
}

// take notes a record if it is verified.
func (s *headSearch) take(value []byte) bool {
	order, err := checkHead(s.router.heads, s.publisher, value)
	if err != nil {
		return false
	}
	s.verified++
	if s.best == nil || order > s.order {
		s.best, s.order = value, order
	}
	return true
}

func (s *headSearch) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	target := kb.ConvertKey(s.key)
	known := s.router.dht.RoutingTable().NearestPeers(target, maxCloser)
	seen := map[peer.ID]bool{s.router.dht.PeerID(): true}
	for _, p := range known {
		seen[p] = true
	}
	asked, failed := map[peer.ID]bool{}, map[peer.ID]bool{}
	answers := make(chan headAnswer, headsAtOnce)
	waiting := 0
	defer func() { // leave no goroutine behind
		cancel()
		for ; waiting > 0; waiting-- {
			<-answers
		}
	}()
	var grace <-chan time.Time
	for {
		closest := slices.DeleteFunc(slices.Clone(known), func(p peer.ID) bool { return failed[p] })
		closest = closest[:min(len(closest), maxCloser)]
		for _, p := range closest {
			if waiting >= headsAtOnce {
				break
			}
			if !asked[p] {
				asked[p] = true
				waiting++
				go func() { answers <- s.ask(ctx, p) }()
			}
		}
		if waiting == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-grace:
			return
		case a := <-answers:
			waiting--
			if a.err != nil {
				failed[a.from] = true
				continue
			}
			s.answered++
			if a.value != nil && s.take(a.value) {
				if s.verified >= headAnswers {
					return
				}
				if grace == nil {
					grace = time.After(headGrace)
				}
			}
			for _, info := range a.closer {
				if len(known) < maxCandidates && !seen[info.ID] {
					seen[info.ID] = true
					known = append(known, info.ID)
					s.router.learn(info)
				}
			}
			known = kb.SortClosestPeers(known, target)
		}
	}
}

// ask sends GET_VALUE to one peer.
func (s *headSearch) ask(ctx context.Context, p peer.ID) headAnswer {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := s.router.dht.MessageSender().SendRequest(ctx, p, pb.NewMessage(pb.Message_GET_VALUE, []byte(s.key), 0))
	if err != nil {
		return headAnswer{from: p, err: err}
	}
	closer := pb.PBPeersToPeerInfos(answer.GetCloserPeers())
	a := headAnswer{from: p, closer: closer[:min(len(closer), maxCloser)]}
	if rec := answer.GetRecord(); string(rec.GetKey()) == s.key {
		a.value = rec.GetValue()
	}
	return a
}

// learn remembers for a while where a peer that was named can be dialled.
func (r *Router) learn(info *peer.AddrInfo) {
	if addrs := info.Addrs[:min(len(info.Addrs), maxPeerAddrs)]; len(addrs) > 0 {
		r.dht.Host().Peerstore().AddAddrs(info.ID, addrs, peerstore.TempAddrTTL)
	}
}
