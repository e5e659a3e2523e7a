package node

import (
	"context"
	"net"
	"strings"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// The mesh of gossipsub: how many neighbours an announcement is sent on to at once.
// Announcements are rare and small, and that they arrive early is what they are for,
// so it is four times the library's: nearly all of the neighbours that a peer of a large
// network has. docs/benchmarks/gossip.md has what was tried and what it costs. The rest
// are the library's defaults (heartbeat 1 s, history of 5 heartbeats of which 3 are
// advertised).
const (
	meshDegree = 24
	meshLeast  = 16
	meshMost   = 36
	meshOut    = 8  // of them dialled by this peer, so that nobody else can choose them all
	meshScore  = 12 // of them kept for their score when there are too many

	// dontWant is the size from which neighbours are told at once that a message has
	// arrived and is not needed again, in bytes. Most announcements are larger.
	dontWant = 512
)

func meshParams() pubsub.GossipSubParams {
	params := pubsub.DefaultGossipSubParams()
	params.D, params.Dlo, params.Dhi, params.Dout, params.Dscore = meshDegree, meshLeast, meshMost, meshOut, meshScore
	params.IDontWantMessageThreshold = dontWant
	return params
}

const (
	// maxMessage bounds one gossip message, maxRPC the envelope that carries it.
	// Announcements are about 1 KB; package gossip refuses more than this.
	maxMessage = 64 << 10
	maxRPC     = 2 * maxMessage

	// maxTopics bounds the subscriptions a peer may send in one envelope; the
	// network has one topic for each kind of message.
	maxTopics = 16

	// outboundQueue is how many envelopes may wait for one slow peer before more
	// are dropped for it (the library's default). What it misses, replication
	// repairs.
	outboundQueue = 32

	// validateQueue is how many messages may wait for their validation; more are
	// dropped and come again by gossip. The library's 32 overflow when two peers
	// hand over a busy minute at once.
	validateQueue = 256
)

// Peer scores. A peer starts at 0. What it does well on a topic earns at most
// scoreCap, so that nobody can save up credit for an attack; what it does badly
// costs much more:
//
//   - n invalid messages cost 20·n² (package gossip sets this for its topic), so
//     the second invalid message (-80) ends the exchange of gossip with it, the
//     third (-180) that messages are published to it, and the fifth (-500) leads
//     to the gray list even from the full cap: nothing it sends is looked at;
//   - broken promises and grafting too early cost 5·n² beyond the sixth;
//   - the 25th and every further peer of one public address costs each of them
//     4·n²; addresses of private networks are exempt.
//
// Counters halve in about six minutes and are forgotten an hour after the peer
// left, so a reconnect does not wash a bad peer clean.
const (
	scoreCap           = 50
	gossipThreshold    = -50
	publishThreshold   = -100
	graylistThreshold  = -300
	acceptPXThreshold  = 1000 // peer exchange is off; no peer reaches this
	opportunisticGraft = 5
	colocationFree     = 24
	colocationWeight   = -4
	behaviourFree      = 6
	behaviourWeight    = -5
	scoreRetention     = time.Hour
	scoreDecayInterval = 12 * time.Second
	scoreDecayToZero   = 0.01
)

func newPubSub(ctx context.Context, h host.Host, network string, tracer pubsub.RawTracer) (*pubsub.PubSub, error) {
	options := []pubsub.Option{
		pubsub.WithGossipSubParams(meshParams()),
		pubsub.WithGossipSubProtocols(meshProtocols(network), func(feature pubsub.GossipSubFeature, p protocol.ID) bool {
			return pubsub.GossipSubDefaultFeatures(feature, protocol.ID(strings.TrimPrefix(string(p), meshPrefix(network))))
		}),
		// What is announced is signed by its publisher. A signature of the sending
		// peer on top would cost 200 bytes and a verification at every hop, and tell
		// everybody who learnt of what first.
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		// An own message goes to all subscribed peers and not only to the mesh: it
		// arrives before the mesh has formed, and costs 96 KB at most.
		pubsub.WithFloodPublish(true),
		pubsub.WithPeerExchange(false),
		pubsub.WithMaxMessageSize(maxRPC),
		pubsub.WithPeerOutboundQueueSize(outboundQueue),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(topicsOf(network), maxTopics)),
		pubsub.WithPeerScore(scoreParams(), &pubsub.PeerScoreThresholds{
			GossipThreshold:             gossipThreshold,
			PublishThreshold:            publishThreshold,
			GraylistThreshold:           graylistThreshold,
			AcceptPXThreshold:           acceptPXThreshold,
			OpportunisticGraftThreshold: opportunisticGraft,
		}),
	}
	if tracer != nil {
		options = append(options, pubsub.WithRawTracer(tracer))
	}
	return pubsub.NewGossipSub(ctx, h, options...)
}

func scoreParams() *pubsub.PeerScoreParams {
	var private []*net.IPNet
	for _, s := range privateNetworks {
		if _, network, err := net.ParseCIDR(s); err == nil {
			private = append(private, network)
		}
	}
	return &pubsub.PeerScoreParams{
		Topics:                      map[string]*pubsub.TopicScoreParams{},
		TopicScoreCap:               scoreCap,
		AppSpecificScore:            func(peer.ID) float64 { return 0 },
		IPColocationFactorWeight:    colocationWeight,
		IPColocationFactorThreshold: colocationFree,
		IPColocationFactorWhitelist: private,
		BehaviourPenaltyWeight:      behaviourWeight,
		BehaviourPenaltyThreshold:   behaviourFree,
		BehaviourPenaltyDecay:       pubsub.ScoreParameterDecayWithBase(40*time.Minute, scoreDecayInterval, scoreDecayToZero),
		DecayInterval:               scoreDecayInterval,
		DecayToZero:                 scoreDecayToZero,
		RetainScore:                 scoreRetention,
	}
}

func meshPrefix(network string) string { return "/ggen/" + network }

// meshProtocols are the gossipsub versions spoken, newest first. Every member of
// the network speaks one of them, so they are also its mark.
func meshProtocols(network string) []protocol.ID {
	return []protocol.ID{
		protocol.ID(meshPrefix(network)) + pubsub.GossipSubID_v13,
		protocol.ID(meshPrefix(network)) + pubsub.GossipSubID_v12,
	}
}

// topicsOf passes the topics of one network.
type topicsOf string

var _ pubsub.SubscriptionFilter = topicsOf("")

// CanSubscribe implements pubsub.SubscriptionFilter.
func (network topicsOf) CanSubscribe(topic string) bool {
	return strings.HasPrefix(topic, meshPrefix(string(network))+"/")
}

// FilterIncomingSubscriptions implements pubsub.SubscriptionFilter.
func (network topicsOf) FilterIncomingSubscriptions(_ peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	return pubsub.FilterSubscriptions(subs, network.CanSubscribe), nil
}
