package delay

import (
	"net"
	"testing"
	"time"
)

func open(t *testing.T, i int, delay func(net.Addr) time.Duration) *socket {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", (&net.UDPAddr{IP: Address(i)}).String())
	if err != nil {
		t.Skipf("host %d has no address here: %v", i, err)
	}
	s := newSocket(conn, delay)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("the second close: %v", err)
		}
	})
	return s
}

// TestPacketsWait: a packet never arrives before its delay is over, and a later one that has
// a shorter way overtakes it.
func TestPacketsWait(t *testing.T) {
	const far, near = 80 * time.Millisecond, 10 * time.Millisecond
	way := far
	sender := open(t, 0, func(net.Addr) time.Duration { return way })
	receiver := open(t, 1, nil)
	began := time.Now()
	for _, p := range []struct {
		data string
		way  time.Duration
	}{{"first", far}, {"second", far}, {"third", near}} {
		way = p.way
		if n, err := sender.WriteTo([]byte(p.data), receiver.LocalAddr()); n != len(p.data) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := receiver.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	for _, want := range []struct {
		data string
		way  time.Duration
	}{{"third", near}, {"first", far}, {"second", far}} {
		n, _, err := receiver.ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(buffer[:n]); got != want.data {
			t.Errorf("%q comes instead of %q", got, want.data)
		}
		if took := time.Since(began); took < want.way {
			t.Errorf("%q comes after %s, not %s", want.data, took, want.way)
		}
	}
}

func TestHostsHaveAddresses(t *testing.T) {
	for i := range 3 * perNetwork {
		if got, ok := host(&net.UDPAddr{IP: Address(i)}); !ok || got != i {
			t.Fatalf("host %d has the address %s, which is host %d's", i, Address(i), got)
		}
	}
	if _, ok := host(&net.UDPAddr{IP: net.IPv4(10, 0, 1, 1)}); ok {
		t.Error("a host that is not on loopback has a number")
	}
}
