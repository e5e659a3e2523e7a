package transfer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/shared"
)

const (
	// idleTimeout is how long a client may think before its next request.
	idleTimeout = 30 * time.Second

	// writeGrace and minRate bound how long one answer may take: 26 s for a whole
	// chunk. A modem of 1995 was faster than a quarter of minRate.
	writeGrace = 10 * time.Second
	minRate    = 16 << 10 // bytes a second

	// refuseTimeout bounds the attempt to tell a client that there is no place.
	refuseTimeout = time.Second

	// retryAfter is what a client hears when there are too many streams. A chunk
	// takes 0.1 s at 20 Mbit/s, so a stream is likely to be free by then.
	retryAfter = time.Second

	// zstdMin is the smallest body worth compressing; below it everything fits in
	// one packet anyway.
	zstdMin = 1 << 10

	// zstdSkip is how many answers stay raw after one that did not become smaller:
	// what does not compress rarely stops not compressing.
	zstdSkip = 8
)

// Limits bound what strangers can cost the server; zero values mean the
// defaults. A stream that is writing holds two buffers of [MaxRange].
type Limits struct {
	Streams        int // at once; default 64, which is at most 32 MiB
	StreamsPerPeer int // at once; default 8, twice what our client opens
	// Rate is how many bytes a second are sent to all peers together, each of which gets
	// the same. Default: no limit.
	Rate int64
	// Broke is told of a peer that broke the protocol. It must return soon. Default: nobody
	// is told.
	Broke  func(p peer.ID, cause error)
	Logger *slog.Logger
}

// Server hands out blobs until it is closed.
type Server struct {
	host    host.Host
	open    Opener
	limits  Limits
	log     *slog.Logger
	encoder *zstd.Encoder
	buffers sync.Pool // of *buffers
	pacer   *pacer    // nil: there is no limit
	done    chan struct{}

	mu      sync.Mutex // guards the fields below
	streams map[network.Stream]struct{}
	perPeer map[peer.ID]int
	closed  bool
	running sync.WaitGroup // added to under mu while not closed
}

// Serve answers requests of other peers on h. Close the server before h.
func Serve(h host.Host, open Opener, limits Limits) (*Server, error) {
	if h == nil || open == nil {
		return nil, errors.New("transfer: Serve without host or opener")
	}
	if limits.Streams < 0 || limits.StreamsPerPeer < 0 || limits.Rate < 0 {
		return nil, errors.New("transfer: Limits are negative")
	}
	if limits.Streams == 0 {
		limits.Streams = 64
	}
	if limits.StreamsPerPeer == 0 {
		limits.StreamsPerPeer = 8
	}
	if limits.Broke == nil {
		limits.Broke = func(peer.ID, error) {}
	}
	encoder, err := newEncoder()
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	s := &Server{
		host: h, open: open, limits: limits, log: limits.Logger, encoder: encoder,
		buffers: sync.Pool{New: func() any { return new(buffers) }},
		streams: map[network.Stream]struct{}{}, perPeer: map[peer.ID]int{}, done: make(chan struct{}),
	}
	if limits.Rate > 0 {
		s.pacer = newPacer(limits.Rate)
		s.running.Go(func() { s.pacer.run(s.done) })
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	h.SetStreamHandler(Protocol, s.handle)
	return s, nil
}

// Close stops serving, breaks off what is under way and waits for it. It is
// idempotent.
func (s *Server) Close() error {
	s.host.RemoveStreamHandler(Protocol)
	s.mu.Lock()
	if !s.closed {
		close(s.done)
	}
	s.closed = true
	for stream := range s.streams {
		_ = stream.ResetWithError(network.StreamShutdown) // it may be gone already
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// Streams counts the streams that are being served.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

func (s *Server) handle(stream network.Stream) {
	p := stream.Conn().RemotePeer()
	switch s.admit(stream, p) {
	case closing:
		_ = stream.ResetWithError(network.StreamShutdown) // the peer may be gone already
		return
	case full:
		defer s.running.Done()
		_ = stream.SetWriteDeadline(time.Now().Add(refuseTimeout))
		_, _ = stream.Write(header{status: statusBusy, retryAfter: uint32(retryAfter.Milliseconds())}.append(nil))
		_ = stream.Close() // the peer asks again, whether it heard us or not
		return
	}
	err := s.serve(stream, p)
	defer s.running.Done()
	s.dismiss(stream, p) // first: a client that sees the end may come again at once
	switch {
	case err == nil:
		_ = stream.Close() // nothing is left to say
	case errors.Is(err, errProtocol):
		_ = stream.ResetWithError(network.StreamProtocolViolation) // it may be gone already
		s.limits.Broke(p, fmt.Errorf("a request for content: %w", err))
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
func (s *Server) admit(stream network.Stream, p peer.ID) admission {
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

func (s *Server) dismiss(stream network.Stream, p peer.ID) {
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

// serve answers requests until the client closes (nil) or something fails.
func (s *Server) serve(stream duplex, p peer.ID) error {
	var last opened
	defer last.close()
	skip := 0
	frame := make([]byte, requestLen)
	for {
		if err := stream.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return err
		}
		if _, err := io.ReadFull(stream, frame); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		req, err := parseRequest(frame)
		if err != nil {
			return err
		}
		if err := s.answer(stream, p, req, &last, &skip); err != nil {
			return err
		}
	}
}

func (s *Server) answer(stream duplex, p peer.ID, req request, last *opened, skip *int) error {
	if err := grant(stream, req.length); err != nil {
		return err
	}
	blob, err := last.open(s.open, shared.DigestFromSum(req.sum))
	refusal := statusOK
	switch {
	case errors.Is(err, fs.ErrNotExist):
		refusal = statusNotFound
	case err != nil:
		s.log.Warn("cannot open a blob that a peer asked for", "error", err)
		refusal = statusUnreadable
	case req.offset+int64(req.length) > blob.Size():
		refusal = statusNoRange
	}
	if refusal != statusOK {
		_, err := stream.Write(header{status: refusal}.append(nil))
		return err
	}

	buffer := s.buffers.Get().(*buffers)
	defer s.buffers.Put(buffer)
	frame := buffer.plain[:headerLen+req.length]
	data := frame[headerLen:]
	if n, err := blob.ReadAt(data, req.offset); n < len(data) {
		s.log.Warn("cannot read a blob that a peer asked for", "error", err)
		_, err := stream.Write(header{status: statusUnreadable}.append(nil))
		return err
	}
	encoding := encodingRaw
	if req.zstd && len(data) >= zstdMin {
		if *skip > 0 {
			*skip--
		} else if packed := s.encoder.EncodeAll(data, buffer.packed[:headerLen]); len(packed)-headerLen < len(data)*7/8 && (len(packed)-headerLen)*MaxRatio >= len(data) {
			encoding, frame = encodingZstd, packed
		} else {
			*skip = zstdSkip
		}
	}
	header{status: statusOK, encoding: encoding, body: len(frame) - headerLen}.append(frame[:0])
	return s.send(stream, p, frame)
}

// grant lets the client take so many bytes at the least rate.
func grant(stream duplex, bytes int) error {
	return stream.SetWriteDeadline(time.Now().Add(writeGrace + time.Duration(bytes)*time.Second/minRate))
}

// send writes an answer, as fast as all of them may go together.
func (s *Server) send(stream duplex, p peer.ID, frame []byte) error {
	if s.pacer == nil {
		_, err := stream.Write(frame)
		return err
	}
	for part := range slices.Chunk(frame, slice) {
		if !s.pacer.wait(p, len(part), s.done) {
			return network.ErrReset
		}
		if err := grant(stream, len(part)); err != nil { // the wait is not the client's fault
			return err
		}
		if _, err := stream.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// buffers are what one answer needs. The header has its place in front of the
// body, so that both are one write.
type buffers struct{ plain, packed [headerLen + MaxRange]byte }

// opened is the blob that the last request on a stream wanted. The next one
// nearly always wants the same.
type opened struct {
	digest shared.Digest
	blob   Blob
}

func (o *opened) open(open Opener, digest shared.Digest) (Blob, error) {
	if o.blob != nil && o.digest == digest {
		return o.blob, nil
	}
	o.close()
	blob, err := open(digest)
	if err != nil {
		return nil, err
	}
	o.digest, o.blob = digest, blob
	return blob, nil
}

func (o *opened) close() {
	if o.blob != nil {
		_ = o.blob.Close() // only read from
		o.blob = nil
	}
}
