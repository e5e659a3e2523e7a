package p2ptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// streams is the lighter of the two simulated networks: bytes arrive in order after the
// links' delay and at their rate, without packets. The TLS 1.3 handshake and the muxer
// (yamux) on them are libp2p's, begun with the first byte, so that a connection takes
// as many round trips as one of QUIC: one until the dialler may send.
//
// It knows neither loss nor congestion: a link that delays for ever blocks its
// connections for ever.
type streams struct {
	links Links

	mu        sync.Mutex
	listeners map[string]*streamListener // by address
	free      map[direction]time.Time    // when a host's link has sent what it was given
}

// direction is one of a host's two links.
type direction struct {
	host int
	up   bool
}

// handshakeTimeout is that of libp2p's upgrader.
const handshakeTimeout = 15 * time.Second

func newStreams(links Links) *streams {
	return &streams{links: links, listeners: map[string]*streamListener{}, free: map[direction]time.Time{}}
}

// option puts a host on the network, in place of the transports that it has.
func (n *streams) option(mbps int) libp2p.Option {
	return libp2p.ChainOptions(
		func(cfg *libp2p.Config) error {
			cfg.Transports = nil
			return nil
		},
		libp2p.Transport(func(key crypto.PrivKey, gater connmgr.ConnectionGater, limits network.ResourceManager) (*streamTransport, error) {
			id, err := peer.IDFromPrivateKey(key)
			if err != nil {
				return nil, err
			}
			muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
			secure, err := libp2ptls.New(libp2ptls.ID, key, muxers)
			if err != nil {
				return nil, err
			}
			return &streamTransport{net: n, id: id, secure: secure, gater: gater, limits: limits, mbps: mbps}, nil
		}),
	)
}

// sent is when bytes that a host sends now to another one are at that one's link.
func (n *streams) sent(from, to *streamAddr, size int) time.Time {
	return n.through(direction{from.host, true}, from.mbps, size).Add(n.links.between(from.host, to.host))
}

// through is when bytes that reach a link now have passed it, in the order in which they came.
func (n *streams) through(d direction, mbps, size int) time.Time {
	const bit = float64(time.Microsecond) // at one Mbit/s
	n.mu.Lock()
	defer n.mu.Unlock()
	at := time.Now()
	if free := n.free[d]; free.After(at) {
		at = free
	}
	at = at.Add(time.Duration(8 * float64(size) * bit / float64(mbps)))
	n.free[d] = at
	return at
}

// streamAddr is a host's address with what the network knows of the host.
type streamAddr struct {
	net.TCPAddr
	multi ma.Multiaddr
	host  int
	mbps  int
}

// streamTransport implements [transport.Transport] for one host.
type streamTransport struct {
	net    *streams
	id     peer.ID
	secure *libp2ptls.Transport
	gater  connmgr.ConnectionGater
	limits network.ResourceManager
	mbps   int

	mu    sync.Mutex
	local *streamAddr // it listens at
}

func (t *streamTransport) CanDial(addr ma.Multiaddr) bool {
	_, err := addr.ValueForProtocol(ma.P_TCP)
	return err == nil
}

func (t *streamTransport) Protocols() []int { return []int{ma.P_TCP} }
func (t *streamTransport) Proxy() bool      { return false }

// Dial connects to a peer. Where nobody listens nobody answers, either.
func (t *streamTransport) Dial(ctx context.Context, to ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	t.mu.Lock()
	local := t.local
	t.mu.Unlock()
	if local == nil {
		return nil, errors.New("a simulated host listens before it dials")
	}
	t.net.mu.Lock()
	l := t.net.listeners[to.String()]
	t.net.mu.Unlock()
	if l == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	scope, err := t.limits.OpenConnection(network.DirOutbound, true, to)
	if err != nil {
		return nil, err
	}
	if err := scope.SetPeer(p); err != nil {
		scope.Done()
		return nil, err
	}
	near, far := newStreamPair(t.net, local, l.addr)
	l.arrives(far) //nolint:contextcheck // the handshake at the far end is not the dialler's
	secured, err := t.secure.SecureOutbound(ctx, near, p)
	if err != nil {
		scope.Done()
		return nil, errors.Join(err, near.Close())
	}
	return t.connection(network.DirOutbound, secured, scope, local, l.addr)
}

// connection is a connection whose handshake is done. It closes what it was given if it
// fails.
func (t *streamTransport) connection(d network.Direction, secured sec.SecureConn, scope network.ConnManagementScope, local, remote *streamAddr) (_ transport.CapableConn, err error) {
	c := &streamConn{ConnSecurity: secured, transport: t, scope: scope, local: local.multi, remote: remote.multi}
	if t.gater != nil && !t.gater.InterceptSecured(d, secured.RemotePeer(), c) {
		err = fmt.Errorf("the gater refuses %s", secured.RemotePeer())
	} else {
		c.MuxedConn, err = yamux.DefaultTransport.NewConn(secured, d == network.DirInbound, scope.PeerScope())
	}
	if err != nil {
		scope.Done()
		return nil, errors.Join(err, secured.Close())
	}
	return c, nil
}

func (t *streamTransport) Listen(at ma.Multiaddr) (transport.Listener, error) {
	addr, err := manet.ToNetAddr(at)
	if err != nil {
		return nil, err
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("%s is no address of this network", at)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &streamListener{
		transport: t,
		addr:      &streamAddr{*tcp, at, hostOf(tcp.IP), t.mbps},
		ctx:       ctx, cancel: cancel,
		accepted: make(chan transport.CapableConn),
	}
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	if t.net.listeners[at.String()] != nil {
		cancel()
		return nil, fmt.Errorf("%s is taken", at)
	}
	t.net.listeners[at.String()] = l
	t.mu.Lock()
	defer t.mu.Unlock()
	t.local = l.addr
	return l, nil
}

// streamListener implements [transport.Listener].
type streamListener struct {
	transport *streamTransport
	addr      *streamAddr
	ctx       context.Context //nolint:containedctx // of the handshakes, which Close ends
	cancel    context.CancelFunc
	accepted  chan transport.CapableConn

	mu         sync.Mutex
	closed     bool
	handshakes sync.WaitGroup
}

// arrives takes the far end of a connection that somebody dials.
func (l *streamListener) arrives(c *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return // and nobody answers
	}
	l.handshakes.Go(func() {
		conn, err := l.shake(c)
		if err != nil {
			_ = c.Close() // the dialler learns of it
			return
		}
		select {
		case l.accepted <- conn:
		case <-l.ctx.Done():
			_ = conn.Close()
		}
	})
}

func (l *streamListener) shake(c *stream) (transport.CapableConn, error) {
	scope, err := l.transport.limits.OpenConnection(network.DirInbound, true, c.remote.multi)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	defer cancel()
	secured, err := l.transport.secure.SecureInbound(ctx, c, "")
	if err != nil {
		scope.Done()
		return nil, err
	}
	if err := scope.SetPeer(secured.RemotePeer()); err != nil {
		scope.Done()
		return nil, err
	}
	return l.transport.connection(network.DirInbound, secured, scope, l.addr, c.remote)
}

func (l *streamListener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.ctx.Done():
		return nil, transport.ErrListenerClosed
	}
}

func (l *streamListener) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.handshakes.Wait()
	n := l.transport.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[l.addr.multi.String()] == l {
		delete(n.listeners, l.addr.multi.String())
	}
	return nil
}

func (l *streamListener) Addr() net.Addr          { return &l.addr.TCPAddr }
func (l *streamListener) Multiaddr() ma.Multiaddr { return l.addr.multi }

// streamConn implements [transport.CapableConn].
type streamConn struct {
	network.MuxedConn
	network.ConnSecurity
	transport     *streamTransport
	scope         network.ConnManagementScope
	local, remote ma.Multiaddr
}

func (c *streamConn) LocalMultiaddr() ma.Multiaddr   { return c.local }
func (c *streamConn) RemoteMultiaddr() ma.Multiaddr  { return c.remote }
func (c *streamConn) Transport() transport.Transport { return c.transport }
func (c *streamConn) Scope() network.ConnScope       { return c.scope }

func (c *streamConn) ConnState() network.ConnectionState {
	return network.ConnectionState{StreamMultiplexer: yamux.ID, Security: libp2ptls.ID, Transport: "tcp", UsedEarlyMuxerNegotiation: true}
}

func (c *streamConn) Close() error {
	defer c.scope.Done()
	return c.MuxedConn.Close()
}

func (c *streamConn) CloseWithError(code network.ConnErrorCode) error {
	defer c.scope.Done()
	return c.MuxedConn.CloseWithError(code)
}

// stream is one end of a connection: a [net.Conn] whose writes never wait, because the
// muxer above it bounds what is under way.
type stream struct {
	net           *streams
	local, remote *streamAddr
	other         *stream

	mu       sync.Mutex
	changed  *sync.Cond
	unread   []byte
	ended    bool // nothing comes after what is unread
	closed   bool
	deadline time.Time
	coming   []parcel  // in the order in which they were sent
	received int       // of them that wait for this end's link, or pass it
	last     time.Time // when the last of them is at this end's link
}

// parcel is what one write sent; empty: the end.
type parcel []byte

func newStreamPair(n *streams, from, to *streamAddr) (near, far *stream) {
	near, far = &stream{net: n, local: from, remote: to}, &stream{net: n, local: to, remote: from}
	near.other, far.other = far, near
	near.changed, far.changed = sync.NewCond(&near.mu), sync.NewCond(&far.mu)
	return near, far
}

func (s *stream) Write(data []byte) (int, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	if len(data) > 0 {
		s.send(append(parcel(nil), data...))
	}
	return len(data), nil
}

// headers is what IP and TCP add to each parcel, in bytes.
const headers = 40

// send has a parcel arrive at the other end, after all that were sent before.
func (s *stream) send(p parcel) {
	at := s.net.sent(s.local, s.remote, len(p)+headers)
	to := s.other
	to.mu.Lock()
	defer to.mu.Unlock()
	if at.Before(to.last) {
		at = to.last
	}
	to.last, to.coming = at, append(to.coming, p)
	time.AfterFunc(time.Until(at), to.receive)
}

// receive is called once for each parcel, when it has come to this end's link.
func (s *stream) receive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	through := s.net.through(direction{s.local.host, false}, s.local.mbps, len(s.coming[s.received])+headers)
	s.received++
	time.AfterFunc(time.Until(through), s.arrive)
}

// arrive is called once for each parcel, when it has passed the link.
func (s *stream) arrive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received--
	p := s.coming[0]
	s.coming[0] = nil
	s.coming = s.coming[1:]
	switch {
	case s.closed: // by this end, which wants no more
	case len(p) == 0:
		s.ended = true
	case len(s.unread) == 0:
		s.unread = p
	default:
		s.unread = append(s.unread, p...)
	}
	s.changed.Broadcast()
}

func (s *stream) Read(buf []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case len(s.unread) > 0:
			n := copy(buf, s.unread)
			if s.unread = s.unread[n:]; len(s.unread) == 0 {
				s.unread = nil
			}
			return n, nil
		case s.ended:
			return 0, io.EOF
		case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
			return 0, os.ErrDeadlineExceeded
		}
		s.changed.Wait()
	}
}

func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed, s.unread = true, nil
	s.changed.Broadcast()
	s.mu.Unlock()
	s.send(nil)
	return nil
}

func (s *stream) LocalAddr() net.Addr  { return &s.local.TCPAddr }
func (s *stream) RemoteAddr() net.Addr { return &s.remote.TCPAddr }

func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	s.changed.Broadcast()
	if !t.IsZero() {
		time.AfterFunc(time.Until(t), s.changed.Broadcast)
	}
	return nil
}

func (s *stream) SetDeadline(t time.Time) error      { return s.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(_ time.Time) error { return nil } // nothing waits
