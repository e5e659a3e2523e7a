package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multistream"
)

// maxPause bounds how long a peer that is busy can make us wait before we ask it
// again, in case it says a year.
const maxPause = 5 * time.Second

// peerAddrs bounds the addresses that we take of one candidate.
const peerAddrs = 16

// failure is why a peer is of no use.
type failure struct {
	peer  peer.ID
	kind  Kind
	cause error
	pause time.Duration // with Busy: when to ask again
}

func (f *failure) Error() string { return fmt.Sprintf("%s: %v", f.peer, f.cause) }
func (f *failure) Unwrap() error { return f.cause }

// session is a stream to one peer on which requests are asked and answered. It
// belongs to one goroutine.
type session struct {
	peer    peer.ID
	stream  wire
	stall   time.Duration // without a byte
	decoder *zstd.Decoder
	local   bool        // the peer is on this machine: compressing costs more than it saves
	stand   func()      // gives back the place among the streams to the peer
	strange func() bool // tells whether the peer does not speak the protocol; may wait for it
	heard   bool        // it has answered, so it does

	body, plain []byte // reused from answer to answer
}

// wire is what a session needs of a stream.
type wire interface {
	io.ReadWriter
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	Close() error
	Reset() error
}

// lazyStream negotiates the protocol together with the first request. It does
// not wait for identify as host.NewStream does, which saves a round trip with a
// peer that we have just dialled.
type lazyStream struct {
	network.Stream
	negotiated multistream.LazyConn
}

func (s lazyStream) Read(b []byte) (int, error)  { return s.negotiated.Read(b) }
func (s lazyStream) Write(b []byte) (int, error) { return s.negotiated.Write(b) }

// dial opens a session, and a connection first if there is none.
func (c *Client) dial(ctx context.Context, p peer.AddrInfo) (s *session, fail *failure) {
	stand, err := c.sit(ctx, p.ID)
	if err != nil {
		return nil, &failure{peer: p.ID, kind: Busy, cause: err}
	}
	defer func() {
		if fail != nil {
			stand()
		}
	}()
	if len(p.Addrs) > 0 {
		c.host.Peerstore().AddAddrs(p.ID, p.Addrs[:min(len(p.Addrs), peerAddrs)], peerstore.TempAddrTTL)
	}
	// Through a relay if there is no other way: content is verified, whoever passes it on.
	dialling := network.WithAllowLimitedConn(network.WithDialPeerTimeout(ctx, c.cfg.DialTimeout), "content")
	dialling, cancel := context.WithTimeout(dialling, c.cfg.DialTimeout)
	defer cancel()
	stream, err := c.host.Network().NewStream(dialling, p.ID)
	if err != nil {
		return nil, &failure{peer: p.ID, kind: Unreachable, cause: fmt.Errorf("connect: %w", err)}
	}
	if err := stream.SetProtocol(Protocol); err != nil {
		_ = stream.Reset() // not used yet
		return nil, &failure{peer: p.ID, kind: Busy, cause: fmt.Errorf("open a stream: %w", err), pause: time.Second}
	}
	return &session{
		peer: p.ID, stream: lazyStream{stream, multistream.NewMSSelect(stream, Protocol)},
		stall: c.cfg.StallTimeout, decoder: c.decoder,
		local:   manet.IsIPLoopback(stream.Conn().RemoteMultiaddr()),
		stand:   stand,
		strange: func() bool { return c.isStrange(ctx, stream.Conn()) },
	}, nil
}

// isStrange tells whether a peer has identified itself and does not speak the
// protocol. A peer that is asked without negotiation says so, but then mostly
// resets the stream because of what follows, and the reset overtakes its answer.
func (c *Client) isStrange(ctx context.Context, conn network.Conn) bool {
	if h, ok := c.host.(interface{ IDService() identify.IDService }); ok {
		timer := time.NewTimer(c.cfg.DialTimeout)
		defer timer.Stop()
		select {
		case <-h.IDService().IdentifyWait(conn):
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	all, err := c.host.Peerstore().GetProtocols(conn.RemotePeer())
	return err == nil && len(all) > 0 && !slices.Contains(all, Protocol)
}

// close ends the session. Answers that are still under way are not wanted.
func (s *session) close(answered bool) {
	defer s.stand()
	if answered {
		_ = s.stream.Close() // nothing is left to say
		return
	}
	_ = s.stream.Reset() // it may be gone already
}

// send asks for ranges; the answers come in the same order.
func (s *session) send(requests ...request) *failure {
	frames := make([]byte, 0, len(requests)*requestLen)
	for _, r := range requests {
		frames = r.append(frames)
	}
	err := s.stream.SetWriteDeadline(time.Now().Add(s.stall))
	if err == nil {
		_, err = s.stream.Write(frames)
	}
	if err != nil {
		return s.failed("ask", err)
	}
	return nil
}

// receive reads the answer to a request: data is valid until the next call, and
// arrived is when its first byte came.
func (s *session) receive(req request) (data []byte, arrived time.Time, fail *failure) {
	var frame [headerLen]byte
	if err := s.read(frame[:]); err != nil {
		return nil, arrived, s.failed("wait for an answer", err)
	}
	arrived, s.heard = time.Now(), true
	h, err := parseHeader(frame[:], req)
	if err != nil {
		return nil, arrived, s.failed("read an answer", err)
	}
	switch h.status {
	case statusNotFound:
		return nil, arrived, &failure{peer: s.peer, kind: Absent, cause: errors.New("it does not have it")}
	case statusBusy:
		pause := min(time.Duration(h.retryAfter)*time.Millisecond, maxPause)
		return nil, arrived, &failure{peer: s.peer, kind: Busy, cause: errors.New("it is busy"), pause: pause}
	case statusNoRange:
		// Nothing of this digest can have another size than the signed one.
		return nil, arrived, &failure{peer: s.peer, kind: WrongContent, cause: errors.New("its blob is shorter than it must be")}
	case statusUnreadable:
		return nil, arrived, &failure{peer: s.peer, kind: Disconnected, cause: errors.New("it cannot read it")}
	}
	s.body = grow(s.body, h.body)
	if err := s.read(s.body); err != nil {
		return nil, arrived, s.failed("read an answer", err)
	}
	if h.encoding == encodingRaw {
		return s.body, arrived, nil
	}
	s.plain = grow(s.plain, req.length)
	if data, err = decode(s.decoder, s.body, s.plain, req.length); err != nil {
		return nil, arrived, s.failed("read an answer", err)
	}
	return data, arrived, nil
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n, max(n, MaxRange))
	}
	return b[:n]
}

// read fills b. The peer may pause for s.stall at a time, and must not be slower
// than the rate that servers ask of clients.
func (s *session) read(b []byte) error {
	end := time.Now().Add(s.stall + time.Duration(len(b))*time.Second/minRate)
	for len(b) > 0 {
		deadline := time.Now().Add(s.stall)
		if deadline.After(end) {
			deadline = end
		}
		if err := s.stream.SetReadDeadline(deadline); err != nil {
			return err
		}
		n, err := s.stream.Read(b)
		if b = b[n:]; len(b) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errStrange = errors.New("it does not speak " + string(Protocol))

// failed finds out whose fault an error of the stream is.
func (s *session) failed(doing string, err error) *failure {
	f := &failure{peer: s.peer, kind: Disconnected, cause: fmt.Errorf("%s: %w", doing, err)}
	var timeout interface{ Timeout() bool }
	var unsupported multistream.ErrNotSupported[protocol.ID]
	switch {
	case errors.Is(err, errProtocol):
		f.kind = Malformed
	case errors.As(err, &unsupported):
		f.kind, f.cause = Absent, errStrange
	case errors.As(err, &timeout) && timeout.Timeout():
		f.kind, f.cause = Stalled, fmt.Errorf("%s: nothing came for %s", doing, s.stall)
	case !s.heard && s.strange != nil && s.strange():
		f.kind, f.cause = Absent, errStrange
	case errors.Is(err, io.EOF):
		f.cause = fmt.Errorf("%s: %w", doing, io.ErrUnexpectedEOF)
	}
	return f
}
