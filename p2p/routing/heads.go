package routing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"

	"ggen.dev/marketplace/shared"
)

const (
	// HeadNamespace is the DHT namespace of head records.
	HeadNamespace = "ggen-head"

	// MaxHead bounds a head record in bytes: a signed head of a few hundred, and the
	// root documents that let a stranger verify it, about 700 for each change of keys.
	MaxHead = 64 << 10

	// Heads waits for a newer head for headGrace after the first, or until headAnswers
	// peers have given verified ones: one peer alone could be behind, or pretend to be.
	headGrace   = time.Second
	headAnswers = 3
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
	stored, err = r.storeAtClosest(ctx, key, func(ctx context.Context, p Known) error {
		request := pb.NewMessage(pb.Message_PUT_VALUE, []byte(key), 0)
		request.Record = rec
		answer, err := r.ask(ctx, p, request)
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

// Head finds a head record of a publisher: the first that a peer gives and the codec
// verifies, or the one that this node stores itself if that is newer. A newer one may
// exist; [Router.Heads] goes on. It takes at most 10 s.
//
// Errors: NOT_FOUND when those who should know it have answered that they do
// not; NO_PEERS; TIMEOUT; CANCELED.
func (r *Router) Head(ctx context.Context, publisher shared.PublisherID) (value []byte, err error) {
	for head, err := range r.Heads(ctx, publisher) {
		return head, err
	}
	return nil, shared.AsError(ctx.Err()) // not reached: Heads yields a head or an error
}

// Heads yields verified head records of a publisher, each newer than the one before:
// the first as soon as a peer has given it, and then newer ones, until three peers have
// given verified records, a second has passed since the first one, or the loop is left.
// It takes at most 10 s. Without any it yields one error, those of [Router.Head].
func (r *Router) Heads(ctx context.Context, publisher shared.PublisherID) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		what := "find head of " + publisher.Short()
		if !publisher.Complete() {
			yield(nil, shared.NewError(shared.ReasonInvalidArgument, "%s: it is no complete publisher ID", what))
			return
		}
		search := headSearch{codec: r.heads, publisher: publisher}
		if rec, err := r.values.Get(ctx, headKey(publisher)); err == nil && rec != nil {
			search.take(rec.GetValue())
		}
		if err := r.usable(); err != nil {
			if search.best != nil {
				yield(search.best, nil)
			} else {
				yield(nil, named(err, "%s", what))
			}
			return
		}
		bounded, cancel := r.bounded(ctx, lookupTimeout)
		defer cancel()
		if search.run(bounded, r, yield) || search.given {
			return
		}
		switch {
		case search.best != nil && ctx.Err() == nil: // nobody but this node has one
			yield(search.best, nil)
		case search.answered == 0 || bounded.Err() != nil:
			yield(nil, named(r.failure(ctx, fmt.Errorf("%d peers answered: %w", search.answered, context.DeadlineExceeded)), "%s", what))
		default:
			yield(nil, shared.NewError(shared.ReasonNotFound, "%s: none of %d peers knows it", what, search.answered))
		}
	}
}

// headSearch is the state of one search for heads.
type headSearch struct {
	codec     HeadCodec
	publisher shared.PublisherID

	best     []byte // the newest verified head so far, and its order
	order    string
	given    bool // a head has been yielded
	verified int  // verified answers of others
	answered int  // peers that answered at all
}

// take notes a record if it is verified, and tells whether it is news.
func (s *headSearch) take(value []byte) (verified, news bool) {
	order, err := checkHead(s.codec, s.publisher, value)
	if err != nil {
		return false, false
	}
	if s.best != nil && order <= s.order {
		return true, false
	}
	s.best, s.order = value, order
	return true, true
}

// run asks until there is enough, and tells whether the loop was left.
func (s *headSearch) run(ctx context.Context, r *Router, yield func([]byte, error) bool) (left bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := headKey(s.publisher)
	var grace *time.Timer
	for a := range r.newLookup(pb.Message_GET_VALUE, []byte(key)).answers(ctx, func() bool { return s.verified > 0 }) {
		s.answered++
		rec := a.message.GetRecord()
		if rec == nil || string(rec.GetKey()) != key {
			continue
		}
		verified, news := s.take(rec.GetValue())
		if !verified {
			continue
		}
		s.verified++
		if news || !s.given {
			s.given = true
			if !yield(s.best, nil) {
				return true
			}
		}
		if s.verified >= headAnswers {
			return false
		}
		if grace == nil {
			grace = time.AfterFunc(headGrace, cancel)
			defer grace.Stop()
		}
	}
	return false
}
