// Package gossip is the network's announcements: what one peer announces
// reaches all others within a few hundred milliseconds, each message once, and
// nothing is passed on before it was found valid.
//
// It carries opaque bytes of about 1 KB. What they mean and when they are valid
// is the caller's business ([Config.Validate]); what gossip missed, package
// replicate repairs. Delivery is neither ordered nor guaranteed. In particular,
// two peers pass each other's messages on only from the first heartbeat after
// they met, up to a second later: what a peer itself announces reaches its
// neighbours before that, what it hears from others in that second does not.
//
// There is one topic for each kind of message in a network: /ggen/<network>/announce/1
// and so on. A message's ID is the hash of topic and content, so the same announcement
// from two peers is one.
package gossip

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"ggen.dev/marketplace/shared"
)

const (
	// MaxMessage bounds an announcement in bytes.
	MaxMessage = 64 << 10

	// GoodMessage is the size that an announcement should stay below: over 100
	// peers 64 KiB take six times as long as the network needs, 1 KiB about as
	// long. Let others fetch what is larger.
	GoodMessage = 1 << 10

	// validatorsAtOnce bounds validations that run in parallel; further messages
	// are dropped, and come again from other peers' gossip. A validation is a
	// signature or two (100 µs), so this is a burst of 10,000 a second.
	validatorsAtOnce = 64

	// validateTimeout bounds one validation.
	validateTimeout = 2 * time.Second

	// deliverQueue is how many valid messages may wait for Deliver before more are
	// dropped: 16 MiB of the largest, 256 KiB of good ones.
	deliverQueue = 256

	// deliverers is how many calls of Deliver run at once.
	deliverers = 2

	// A neighbour may hand over uselessRate messages a second that are of no use, with
	// uselessBurst at once. Honest peers pass nothing on that is of no use to themselves, so
	// they hardly ever send one.
	uselessRate, uselessBurst = 10, 200

	// floodAt is after how many messages beyond that a neighbour is reported, and each
	// further one costs its score as lies do: somebody who publishes hundreds of packages, while this
	// node gets them in another way, makes its neighbours hand over hundreds of old heads
	// without any fault of theirs. (The router does not even read what a neighbour sends after
	// four lies, so whoever is to be counted up to a thousand must not lose score before.)
	floodAt = 1000

	// maxNeighbours bounds the memory for who sent how much of that.
	maxNeighbours = 1024

	// messageIDLen is how much of the hash identifies a message. IDs of the last
	// seconds are sent to neighbours every second, so short is good; 160 bits
	// cannot be collided.
	messageIDLen = 20
)

// Verdict is what a message is worth.
type Verdict int

// The verdicts.
const (
	Accept Verdict = iota // valid and new: delivered and passed on
	Ignore                // of no use, but no fault of the sender (old, unknown version): dropped; a flood of it is one
	Reject                // invalid: dropped, and the peer that sent it loses score
)

// Config describes a [Topic]. Validate is required.
type Config struct {
	// Kind names the messages, by the rules of a package name. Default: "announce".
	Kind string
	// Validate judges a message before it is passed on. from is the neighbour that
	// sent it, not its author. It is called concurrently, at most 64 at once, with
	// 2 s each; it must not keep or change data. It is also asked about the node's
	// own announcements, of which only Reject stops one.
	Validate func(ctx context.Context, from peer.ID, data []byte) Verdict
	// Deliver takes an accepted message of another peer. It is called from two
	// goroutines and may take its time; while 256 messages wait, more are lost.
	// ctx ends when the topic closes. nil: the node announces and does not listen.
	Deliver func(ctx context.Context, from peer.ID, data []byte)
	// Flooding is told of a neighbour that has sent 1,000 messages more of no use than are
	// tolerated. It is called concurrently and must return soon. Default: nobody is told.
	Flooding func(from peer.ID)
	// Logger is told what happens. Default: discards.
	Logger *slog.Logger
}

// Topic is a joined topic. Its methods may be called concurrently.
type Topic struct {
	cfg      Config
	name     string
	pubsub   *pubsub.PubSub
	topic    *pubsub.Topic
	sub      *pubsub.Subscription
	guarded  bool // our validator is registered
	self     peer.ID
	queue    chan *pubsub.Message
	lost     atomic.Int64
	useless  useless
	lifetime context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	once     sync.Once
	closeErr error
}

// Join subscribes to the announcements of a network, unless Config.Deliver is nil. self is the node's own ID.
// A node can join a kind once at a time.
func Join(ps *pubsub.PubSub, self peer.ID, network string, cfg Config) (_ *Topic, err error) {
	if cfg.Validate == nil {
		return nil, errors.New("gossip: Config.Validate is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Kind == "" {
		cfg.Kind = "announce"
	}
	t := &Topic{
		cfg: cfg, name: "/ggen/" + network + "/" + cfg.Kind + "/1", pubsub: ps, self: self,
		queue: make(chan *pubsub.Message, deliverQueue),
	}
	t.lifetime, t.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("join %s: %w", t.name, err), t.Close())
		}
	}()
	if err := ps.RegisterTopicValidator(t.name, t.validate,
		pubsub.WithValidatorConcurrency(validatorsAtOnce), pubsub.WithValidatorTimeout(validateTimeout)); err != nil {
		return nil, err
	}
	t.guarded = true
	if t.topic, err = ps.Join(t.name, pubsub.WithTopicMessageIdFn(messageID)); err != nil {
		return nil, err
	}
	if err := t.topic.SetScoreParams(scoreParams()); err != nil {
		return nil, err
	}
	if cfg.Deliver == nil {
		return t, nil
	}
	if t.sub, err = t.topic.Subscribe(pubsub.WithBufferSize(deliverQueue)); err != nil {
		return nil, err
	}
	t.running.Go(t.receive)
	for range deliverers {
		t.running.Go(t.deliver)
	}
	return t, nil
}

// Close leaves the topic and waits for calls of Deliver to return. It is
// idempotent.
func (t *Topic) Close() error {
	t.once.Do(func() {
		t.cancel()
		if t.sub != nil {
			t.sub.Cancel()
		}
		t.running.Wait()
		if t.topic != nil {
			t.closeErr = t.closeTopic()
		}
		if t.guarded {
			if err := t.pubsub.UnregisterTopicValidator(t.name); err != nil && !errors.Is(err, context.Canceled) {
				t.closeErr = errors.Join(t.closeErr, err)
			}
		}
	})
	return t.closeErr
}

// closeTopic gives the topic back to the router. The router forgets a cancelled
// subscription a moment later, and refuses until then. When it is closing itself
// there is nothing to give back.
func (t *Topic) closeTopic() error {
	deadline := time.After(time.Second)
	for {
		err := t.topic.Close()
		if err == nil || errors.Is(err, context.Canceled) {
			return nil
		}
		select {
		case <-deadline:
			return fmt.Errorf("leave %s: %w", t.name, err)
		case <-time.After(time.Millisecond):
		}
	}
}

// Announce hands data to all peers that listen to the topic and returns how many
// there were. 0 is no error: nobody is connected yet. Announcing the same data
// again within two minutes does nothing.
//
// Errors: LIMIT_EXCEEDED over [MaxMessage]; INVALID_ARGUMENT when the own
// validator rejects it; CANCELED.
func (t *Topic) Announce(ctx context.Context, data []byte) (peers int, err error) {
	switch {
	case len(data) == 0:
		return 0, shared.NewError(shared.ReasonInvalidArgument, "announce: nothing to announce")
	case len(data) > MaxMessage:
		return 0, shared.NewError(shared.ReasonLimitExceeded, "announce: %d bytes; %d are allowed", len(data), MaxMessage).
			With("limit", fmt.Sprint(MaxMessage)).With("value", fmt.Sprint(len(data)))
	case t.lifetime.Err() != nil:
		return 0, shared.NewError(shared.ReasonCanceled, "announce: the topic is closed")
	}
	peers = len(t.topic.ListPeers())
	err = t.topic.Publish(ctx, data)
	var refused pubsub.ValidationError
	switch {
	case err == nil:
		return peers, nil
	case errors.As(err, &refused):
		return 0, shared.NewError(shared.ReasonInvalidArgument, "announce: the own validator rejects it")
	case ctx.Err() != nil:
		return 0, shared.AsError(ctx.Err())
	case errors.Is(err, context.Canceled), errors.Is(err, pubsub.ErrTopicClosed):
		return 0, shared.NewError(shared.ReasonCanceled, "announce: the topic is closed")
	}
	return 0, shared.NewError(shared.ReasonInternal, "announce: %w", err)
}

// Peers are the connected peers that listen to the topic.
func (t *Topic) Peers() []peer.ID { return t.topic.ListPeers() }

// Lost counts valid messages that were dropped because Deliver was too slow.
func (t *Topic) Lost() int64 { return t.lost.Load() }

// validate is the topic's validator.
func (t *Topic) validate(ctx context.Context, from peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
	data := msg.GetData()
	if len(data) == 0 || len(data) > MaxMessage {
		return pubsub.ValidationReject
	}
	switch verdict := t.cfg.Validate(ctx, from, data); {
	case verdict == Accept, verdict == Ignore && from == t.self:
		return pubsub.ValidationAccept
	case verdict == Reject:
		return pubsub.ValidationReject
	}
	tolerable, flood := t.useless.count(from)
	if flood && t.cfg.Flooding != nil {
		t.cfg.Flooding(from)
	}
	if !tolerable {
		return pubsub.ValidationReject
	}
	return pubsub.ValidationIgnore
}

// useless counts the messages of each neighbour that were of no use.
type useless struct {
	mu   sync.Mutex // guards from
	from map[peer.ID]*tally
}

// tally is what one neighbour has sent.
type tally struct {
	limiter *rate.Limiter
	beyond  int // what it did not let through, since it let all through
}

// count counts one more. It tells whether that is still tolerable, and whether it is time
// to report a flood.
func (u *useless) count(from peer.ID) (tolerable, flood bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	sent := u.from[from]
	if sent == nil {
		if u.from == nil || len(u.from) >= maxNeighbours {
			u.from = map[peer.ID]*tally{}
		}
		sent = &tally{limiter: rate.NewLimiter(uselessRate, uselessBurst)}
		u.from[from] = sent
	}
	now := time.Now()
	if sent.limiter.TokensAt(now) >= uselessBurst {
		sent.beyond = 0 // it was quiet for long enough
	}
	if sent.limiter.AllowN(now, 1) {
		return true, false
	}
	sent.beyond++
	return sent.beyond < floodAt, sent.beyond%floodAt == 0
}

// receive moves messages from the router, which drops them without a word when
// its buffer is full, to our queue, which counts.
func (t *Topic) receive() {
	defer close(t.queue)
	for {
		msg, err := t.sub.Next(t.lifetime)
		if err != nil {
			return // the topic or the router is closing
		}
		if msg.ReceivedFrom == t.self {
			continue
		}
		select {
		case t.queue <- msg:
		default:
			if t.lost.Add(1) == 1 {
				t.cfg.Logger.Warn("announcements arrive faster than they are handled; some are lost", "topic", t.name)
			}
		}
	}
}

func (t *Topic) deliver() {
	for msg := range t.queue {
		if t.lifetime.Err() == nil {
			t.cfg.Deliver(t.lifetime, msg.ReceivedFrom, msg.GetData())
		}
	}
}

// messageID names a message by its content.
func messageID(msg *pb.Message) string {
	hash := sha256.New()
	_, _ = io.WriteString(hash, msg.GetTopic()) // a hash takes everything
	_, _ = hash.Write([]byte{0})
	_, _ = hash.Write(msg.GetData())
	return string(hash.Sum(nil)[:messageIDLen])
}

// scoreParams are what peers gain and lose on this topic. The thresholds that
// turn scores into consequences are the router's (package node):
//
//   - an invalid message counts -20·n², and is half forgiven after six minutes;
//     with node's thresholds the fifth puts any peer on the gray list;
//   - so does every message of no use beyond 200 at once and 10 a second;
//   - being first to deliver a message is worth 1, up to 40, forgotten within ten
//     minutes: it keeps useful neighbours in the mesh;
//   - an hour in the mesh is worth up to 10;
//   - silence costs nothing: announcements are rare, and a mesh with nothing to
//     say would prune everybody for it.
func scoreParams() *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		TopicWeight:                    1,
		TimeInMeshWeight:               1,
		TimeInMeshQuantum:              6 * time.Minute,
		TimeInMeshCap:                  10,
		FirstMessageDeliveriesWeight:   1,
		FirstMessageDeliveriesDecay:    decay(10 * time.Minute),
		FirstMessageDeliveriesCap:      40,
		InvalidMessageDeliveriesWeight: -20,
		InvalidMessageDeliveriesDecay:  decay(40 * time.Minute),
	}
}

// decayInterval is how often the router decays its counters, see package node.
const decayInterval = 12 * time.Second

// decay is the factor that brings a counter to 1 % within forgotten.
func decay(forgotten time.Duration) float64 {
	return pubsub.ScoreParameterDecayWithBase(forgotten, decayInterval, 0.01)
}
