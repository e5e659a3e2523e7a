package replicate

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"ggen.dev/marketplace/shared"
)

const (
	// idleTimeout is how long a client may think before its next request; it may
	// be busy with applying a large update.
	idleTimeout = 30 * time.Second

	// writeGrace and minRate bound how long one answer may take.
	writeGrace = 10 * time.Second
	minRate    = 16 << 10 // bytes a second

	// streamBytes and streamTime bound one stream, so that nobody keeps a place for
	// ever. A catalogue of 100,000 entries is about 100 MB.
	streamBytes = 1 << 30
	streamTime  = 15 * time.Minute

	// refuseTimeout bounds the attempt to tell a client that there is no place,
	// and retryAfter is what it is told: most sessions take less than a second.
	refuseTimeout = time.Second
	retryAfter    = 2 * time.Second
)

// Limits bound what strangers can cost the server; zero values mean the
// defaults. A stream that is writing holds one answer, at most 1 MiB.
type Limits struct {
	Streams        int // at once; default 16
	StreamsPerPeer int // at once; default 2
}

type server struct {
	host     host.Host
	protocol protocol.ID
	view     *view
	limits   Limits
	broke    func(p peer.ID, cause error)
	log      *slog.Logger

	mu      sync.Mutex // guards the fields below
	streams map[network.Stream]struct{}
	perPeer map[peer.ID]int
	closed  bool
	running sync.WaitGroup // added to under mu while not closed
}

func serve(h host.Host, v *view, cfg Config) *server {
	limits := cfg.Limits
	if limits.Streams == 0 {
		limits.Streams = 16
	}
	if limits.StreamsPerPeer == 0 {
		limits.StreamsPerPeer = 2
	}
	s := &server{host: h, protocol: cfg.Protocol, view: v, limits: limits, broke: cfg.Misbehaved, log: cfg.Logger, streams: map[network.Stream]struct{}{}, perPeer: map[peer.ID]int{}}
	h.SetStreamHandler(s.protocol, s.handle)
	return s
}

func (s *server) close() {
	s.host.RemoveStreamHandler(s.protocol)
	s.mu.Lock()
	s.closed = true
	for stream := range s.streams {
		_ = stream.ResetWithError(network.StreamShutdown) // it may be gone already
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *server) handle(stream network.Stream) {
	p := stream.Conn().RemotePeer()
	switch s.admit(stream, p) {
	case closing:
		_ = stream.ResetWithError(network.StreamShutdown) // it may be gone already
		return
	case full:
		defer s.running.Done()
		_ = stream.SetWriteDeadline(time.Now().Add(refuseTimeout))
		_, _ = stream.Write(closeFrame(binary.BigEndian.AppendUint32(openFrame(nil, typeBusy), uint32(retryAfter.Milliseconds())), 0))
		_ = stream.Close() // the peer asks again, whether it heard us or not
		return
	}
	err := s.serve(stream)
	defer s.running.Done()
	s.dismiss(stream, p) // first: a client that sees the end may come again at once
	switch {
	case err == nil:
		_ = stream.Close() // nothing is left to say
	case errors.Is(err, errProtocol):
		_ = stream.ResetWithError(network.StreamProtocolViolation) // it may be gone already
		s.broke(p, fmt.Errorf("a request of a catalogue: %w", err))
	default:
		_ = stream.Reset() // it may be gone already
	}
}

type admission int

const (
	admitted admission = iota
	full
	closing
)

// admit finds a place for a stream. Unless the server is closing, running counts
// it from now on.
func (s *server) admit(stream network.Stream, p peer.ID) admission {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return closing
	}
	s.running.Add(1)
	if len(s.streams) >= s.limits.Streams || s.perPeer[p] >= s.limits.StreamsPerPeer {
		return full
	}
	s.streams[stream] = struct{}{}
	s.perPeer[p]++
	return admitted
}

func (s *server) dismiss(stream network.Stream, p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, stream)
	if s.perPeer[p]--; s.perPeer[p] == 0 {
		delete(s.perPeer, p)
	}
}

// duplex is what serving needs of a stream.
type duplex interface {
	io.Reader
	io.Writer
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// serve answers requests until the client closes or has had enough (nil), or
// something fails.
func (s *server) serve(stream duplex) error {
	end := time.Now().Add(streamTime)
	whole := sync.OnceValue(s.view.now) // all answers are about one state, and it is read once
	buffer := make([]byte, 0, maxRequestFrame)
	var answer []byte
	for sent := 0; sent < streamBytes && time.Now().Before(end); sent += len(answer) {
		if err := stream.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return err
		}
		kind, body, err := readFrame(stream, &buffer, maxRequestFrame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if answer, err = s.answer(answer[:0], kind, body, whole); err != nil {
			return err
		}
		if err := stream.SetWriteDeadline(time.Now().Add(writeGrace + time.Duration(len(answer))*time.Second/minRate)); err != nil {
			return err
		}
		if _, err := stream.Write(answer); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) answer(b []byte, kind byte, body []byte, whole func() *region) ([]byte, error) {
	switch kind {
	case typeCompare:
		fingerprint, err := parseCompareRequest(body)
		if err != nil {
			return nil, err
		}
		if whole().sum() == fingerprint {
			return closeFrame(openFrame(b, typeSame), 0), nil
		}
		return closeFrame(whole().describe(prefix{}).append(openFrame(b, typeDescribed)), 0), nil
	case typeRegions:
		regions, err := parseRegionsRequest(body)
		if err != nil {
			return nil, err
		}
		b = openFrame(b, typeDescribed)
		for _, at := range regions {
			b = whole().describe(at).append(b)
		}
		return closeFrame(b, 0), nil
	case typeRange:
		req, err := parseRangeRequest(body)
		if err != nil {
			return nil, err
		}
		return s.pieceOfLog(b, req)
	}
	return nil, errProtocol
}

func (s *server) pieceOfLog(b []byte, req rangeRequest) ([]byte, error) {
	update, next, err := s.view.catalog.Since(shared.PublisherID(hex.EncodeToString(req.publisher[:])), req.from, req.most)
	if err == nil && (len(update) == 0 || len(update) > req.most) {
		s.log.Error("the catalogue made an update that cannot be sent", "bytes", len(update), "allowed", req.most)
		err = ErrNone
	}
	if errors.Is(err, ErrNone) {
		return closeFrame(openFrame(b, typeNone), 0), nil
	}
	if err != nil {
		s.log.Warn("cannot read a log that a peer asked for", "error", err)
		return nil, err
	}
	b = binary.BigEndian.AppendUint64(openFrame(b, typeUpdate), uint64(next))
	return closeFrame(append(b, update...), 0), nil
}
