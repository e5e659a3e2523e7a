// Package delay gives real sockets the links of a simulated network: what a peer sends
// over UDP leaves it only after the time that the packet would have been under way. So real
// processes on loopback can be set beside a simulation of the same network.
//
// It delays and does nothing else: the bandwidth is that of loopback, and a packet leaves
// up to a millisecond too late on a busy machine.
package delay

import (
	"container/heap"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
)

// perNetwork is how many hosts are in a third part of a loopback address.
const perNetwork = 250

// Address is the loopback address of host number i (0 ≤ i < 62,500) without a port.
func Address(i int) net.IP {
	return net.IPv4(127, 0, byte(1+i/perNetwork), byte(1+i%perNetwork))
}

// Listen is the listen address of host number i, on any port.
func Listen(i int) []string { return []string{fmt.Sprintf("/ip4/%s/udp/0/quic-v1", Address(i))} }

// host undoes [Address].
func host(addr net.Addr) (i int, ok bool) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok || udp.IP.To4() == nil {
		return 0, false
	}
	ip := udp.IP.To4()
	i = (int(ip[2])-1)*perNetwork + int(ip[3]) - 1
	return i, ip[0] == 127 && i >= 0
}

// Option makes a libp2p host number self, whose packets to other hosts are delayed as
// between says.
func Option(self int, between func(from, to int) time.Duration) libp2p.Option {
	return libp2p.QUICReuse(quicreuse.NewConnManager,
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return source(self), nil }),
		quicreuse.OverrideListenUDP(func(network string, address *net.UDPAddr) (net.PacketConn, error) {
			conn, err := net.ListenUDP(network, address)
			if err != nil {
				return nil, err
			}
			return newSocket(conn, func(to net.Addr) time.Duration {
				if i, ok := host(to); ok {
					return between(self, i)
				}
				return 0
			}), nil
		}))
}

// source is the host whose address all its packets come from.
type source int

// PreferredSourceIPForDestination implements quicreuse.SourceIPSelector.
func (s source) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return Address(int(s)), nil
}

// socket is a UDP socket that sends later.
type socket struct {
	net.PacketConn
	delay func(to net.Addr) time.Duration

	mu      sync.Mutex // guards the fields below
	waiting queue
	sent    int

	wake   chan struct{} // holds a token when there is a packet that leaves first
	closed chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

func newSocket(conn net.PacketConn, delay func(to net.Addr) time.Duration) *socket {
	s := &socket{PacketConn: conn, delay: delay, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	s.done.Go(s.send)
	return s
}

// packet is one that waits.
type packet struct {
	due   time.Time
	order int
	data  []byte
	to    net.Addr
}

// WriteTo implements net.PacketConn. It does not wait, and errors of the network are not
// heard of, like those of a real one.
func (s *socket) WriteTo(data []byte, to net.Addr) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	default:
	}
	s.mu.Lock()
	s.sent++
	heap.Push(&s.waiting, packet{time.Now().Add(s.delay(to)), s.sent, slices.Clone(data), to})
	first := s.waiting[0].order == s.sent
	s.mu.Unlock()
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return len(data), nil
}

// Close implements net.PacketConn. What still waits is lost.
func (s *socket) Close() (err error) {
	s.once.Do(func() {
		close(s.closed)
		err = s.PacketConn.Close()
		s.done.Wait()
	})
	return err
}

// send lets packets leave when they are due.
func (s *socket) send() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p, wait, ok := s.pop()
		if ok {
			_, _ = s.PacketConn.WriteTo(p.data, p.to) // a lost packet
			continue
		}
		timer.Reset(wait)
		select {
		case <-s.closed:
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// pop takes a packet that is due, or tells how long the next one waits.
func (s *socket) pop() (p packet, wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return p, time.Hour, false
	}
	if wait = time.Until(s.waiting[0].due); wait > 0 {
		return p, wait, false
	}
	p, ok = heap.Pop(&s.waiting).(packet)
	return p, 0, ok
}

// queue is a heap, what is due first in front.
type queue []packet

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].due.Before(q[j].due) || q[i].due.Equal(q[j].due) && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { p, _ := x.(packet); *q = append(*q, p) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = packet{}
	*q = (*q)[:len(*q)-1]
	return last
}
