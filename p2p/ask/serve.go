package ask

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"

	"ggen.dev/marketplace/p2p/netblock"
)

// Limits bound what strangers can cost a server; zero values mean the defaults. Peers
// without a public address are bounded one by one only.
type Limits struct {
	Streams         int // at once; default 64
	StreamsPerPeer  int // default 4
	StreamsPerBlock int // of one network block (IPv4 /24, IPv6 /48); default 16

	PerPeer  float64 // questions a second, with three seconds' worth at once; default 10
	PerBlock float64 // of one network block; default 30

	// Bytes answered a second, with four seconds' worth, or one answer, at once.
	Bytes         float64 // to all; default 8 MiB
	BytesPerPeer  float64 // default 256 KiB
	BytesPerBlock float64 // default 1 MiB
}

func (l *Limits) complete() {
	for _, d := range []struct {
		value     *int
		otherwise int
	}{{&l.Streams, 64}, {&l.StreamsPerPeer, 4}, {&l.StreamsPerBlock, 16}} {
		if *d.value <= 0 {
			*d.value = d.otherwise
		}
	}
	for _, d := range []struct {
		value     *float64
		otherwise float64
	}{{&l.PerPeer, 10}, {&l.PerBlock, 30}, {&l.Bytes, 8 << 20}, {&l.BytesPerPeer, 256 << 10}, {&l.BytesPerBlock, 1 << 20}} {
		if *d.value <= 0 {
			*d.value = d.otherwise
		}
	}
}

const (
	// streamTimeout bounds one stream: a request, thinking, and 512 KiB to a slow peer.
	streamTimeout = 20 * time.Second

	// leastBusy and mostBusy bound what a peer is told that asks too much. It is told when
	// there will be enough for one more question, and at a full server, after leastBusy.
	leastBusy = 500 * time.Millisecond
	mostBusy  = 30 * time.Second

	// maxClients bounds the memory for who asked how much; identities cost nothing.
	maxClients = 4096
)

// Server answers. It ends with Close.
type Server struct {
	host   host.Host
	answer func(ctx context.Context, q Request) (Answer, error)
	broke  func(p peer.ID, cause error)

	mu       sync.Mutex // guards the fields below
	limits   Limits
	bytes    *rate.Limiter
	peers    map[peer.ID]*client
	blocks   map[netip.Prefix]*client
	streams  map[network.Stream]struct{}
	closed   bool
	running  sync.WaitGroup // added to under mu while not closed
	lifetime context.Context
	cancel   context.CancelFunc
}

// client is a peer or a network block.
type client struct {
	streams int
	rate    *rate.Limiter // questions
	bytes   *rate.Limiter
}

// Serve begins to answer; answer is called concurrently. broke is told of peers that broke the
// protocol, and must return soon; nil: nobody is told. Close it before h.
func Serve(h host.Host, answer func(ctx context.Context, q Request) (Answer, error), limits Limits, broke func(p peer.ID, cause error)) *Server {
	limits.complete()
	if broke == nil {
		broke = func(peer.ID, error) {}
	}
	s := &Server{
		host: h, answer: answer, limits: limits, broke: broke, bytes: bytesLimiter(limits.Bytes),
		peers: map[peer.ID]*client{}, blocks: map[netip.Prefix]*client{}, streams: map[network.Stream]struct{}{},
	}
	s.lifetime, s.cancel = context.WithCancel(context.Background())
	h.SetStreamHandler(Protocol, s.handle)
	return s
}

// SetLimits changes the limits; who has asked before keeps his own for a while.
func (s *Server) SetLimits(limits Limits) {
	limits.complete()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits, s.bytes = limits, bytesLimiter(limits.Bytes)
}

func bytesLimiter(perSecond float64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), max(int(4*perSecond), MaxAnswer))
}

// Close ends all answers and waits for them. It is idempotent.
func (s *Server) Close() error {
	s.host.RemoveStreamHandler(Protocol)
	s.mu.Lock()
	s.closed = true
	for stream := range s.streams {
		_ = stream.ResetWithError(network.StreamShutdown) // it may be gone already
	}
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
	return nil
}

func (s *Server) handle(stream network.Stream) {
	dismiss, payers, busy, ok := s.admit(stream)
	if !ok {
		_ = stream.ResetWithError(network.StreamShutdown) // it may be gone already
		return
	}
	defer s.running.Done()
	defer dismiss()
	_ = stream.SetDeadline(time.Now().Add(streamTimeout)) // a stream without deadlines ends with its connection
	err := s.serve(stream, payers, busy)
	switch {
	case err == nil:
		_ = stream.Close() // nothing is left to say
	case errors.Is(err, ErrProtocol):
		_ = stream.ResetWithError(network.StreamProtocolViolation) // it may be gone already
		s.broke(stream.Conn().RemotePeer(), fmt.Errorf("a question: %w", err))
	default:
		_ = stream.Reset() // it may be gone already
	}
}

// serve answers one question, for which payers have bytes left; busy is how long there is
// no place for it.
func (s *Server) serve(stream network.Stream, payers []*rate.Limiter, busy time.Duration) error {
	if busy > 0 {
		_, err := stream.Write(busyFrame(busy))
		return err
	}
	kind, body, err := readFrame(stream, MaxRequest)
	if err != nil {
		return err
	}
	q, err := parseRequest(kind, body)
	if err != nil {
		return err
	}
	a, err := s.answer(s.lifetime, q)
	if err != nil {
		return err
	}
	out := a.marshal()
	if len(out) > MaxAnswer {
		return errors.New("an answer that is too large to be sent")
	}
	if wait := missing(time.Now(), len(out), payers...); wait > 0 {
		out = busyFrame(wait)
	}
	_, err = stream.Write(out)
	return err
}

// missing takes n tokens from each, or none and tells when all will have them.
func missing(now time.Time, n int, from ...*rate.Limiter) (wait time.Duration) {
	taken := make([]*rate.Reservation, len(from))
	for i, l := range from {
		taken[i] = l.ReserveN(now, n)
		wait = max(wait, taken[i].DelayFrom(now)) // for ever, if it could never have as many
	}
	if wait > 0 {
		for _, r := range taken {
			r.CancelAt(now)
		}
	}
	return wait
}

func busyFrame(wait time.Duration) []byte {
	wait = min(max(wait, leastBusy), mostBusy)
	return frame(typeBusy, binary.BigEndian.AppendUint32(nil, uint32(wait.Milliseconds())))
}

// admit counts a stream for its peer and network block. ok is false when the server is
// closing; busy is for how long one of them has had enough. payers are those whose bytes
// an answer takes.
func (s *Server) admit(stream network.Stream) (dismiss func(), payers []*rate.Limiter, busy time.Duration, ok bool) {
	p := stream.Conn().RemotePeer()
	var block netip.Prefix
	for _, b := range netblock.Of([]ma.Multiaddr{stream.Conn().RemoteMultiaddr()}) {
		if netblock.Small(b) {
			block = b
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, 0, false
	}
	s.running.Add(1)
	s.forget()
	one := clientOf(s.peers, p, s.limits.PerPeer, s.limits.BytesPerPeer)
	crowded := len(s.streams) >= s.limits.Streams || one.streams >= s.limits.StreamsPerPeer
	questions := []*rate.Limiter{one.rate}
	payers = []*rate.Limiter{s.bytes, one.bytes}
	owner := &client{}
	if block.IsValid() {
		owner = clientOf(s.blocks, block, s.limits.PerBlock, s.limits.BytesPerBlock)
		crowded = crowded || owner.streams >= s.limits.StreamsPerBlock
		questions, payers = append(questions, owner.rate), append(payers, owner.bytes)
	}
	if busy = leastBusy; !crowded {
		busy = missing(time.Now(), 1, questions...)
	}
	one.streams++
	owner.streams++
	s.streams[stream] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		one.streams--
		owner.streams--
		delete(s.streams, stream)
	}, payers, busy, true
}

func clientOf[K comparable](clients map[K]*client, key K, perSecond, bytes float64) *client {
	c := clients[key]
	if c == nil {
		c = &client{rate: rate.NewLimiter(rate.Limit(perSecond), int(3*perSecond)+1), bytes: bytesLimiter(bytes)}
		clients[key] = c
	}
	return c
}

// forget drops those who ask nothing now, when there are too many.
func (s *Server) forget() {
	if len(s.peers) > maxClients {
		for p, c := range s.peers {
			if c.streams == 0 {
				delete(s.peers, p)
			}
		}
	}
	if len(s.blocks) > maxClients {
		for b, c := range s.blocks {
			if c.streams == 0 {
				delete(s.blocks, b)
			}
		}
	}
}
