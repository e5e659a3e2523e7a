package replicate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/shared"
)

// shelf is a catalogue that notes which heads it was offered and wants nothing. It
// has an update for the logs of three entries.
type shelf struct {
	heads   []Head // by publisher
	offered []Head
}

func newShelf(heads ...Head) *shelf {
	heads = slices.Clone(heads)
	slices.SortFunc(heads, func(a, b Head) int { return cmp.Compare(a.Publisher, b.Publisher) })
	return &shelf{heads: heads}
}

func (s *shelf) Heads() iter.Seq[Head] { return slices.Values(s.heads) }

func (s *shelf) Wants(h Head) (int64, bool) {
	s.offered = append(s.offered, h)
	return 0, false
}

func (s *shelf) Since(p shared.PublisherID, from int64, _ int) ([]byte, int64, error) {
	if !slices.ContainsFunc(s.heads, func(h Head) bool { return h.Publisher == p && h.Size == 3 }) || from > 3 {
		return nil, 0, fmt.Errorf("%s: %w", p, ErrNone)
	}
	return []byte("update"), 0, nil
}

func (*shelf) Apply(context.Context, peer.ID, []byte) error { return nil }

// hashed is a publisher as there are in life, where all IDs are hashes.
func hashed(i int) shared.PublisherID {
	sum := sumOfHeads(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return shared.PublisherID(fmt.Sprintf("%x", sum))
}

// manyHeads are those of n publishers.
func manyHeads(n int) []Head {
	heads := make([]Head, n)
	for i := range heads {
		heads[i] = Head{hashed(i), int64(i%7 + 1), [32]byte{byte(i)}}
	}
	return heads
}

func sent(heads []Head) (b []byte) {
	for _, h := range heads {
		b = appendHead(b, h)
	}
	return b
}

// counted is a connection that counts what is written.
type counted struct {
	net.Conn
	written int
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written += n
	return n, err
}

// SetReadDeadline is no error on a pipe whose other end is closed, as it is none on
// a stream: reading will tell.
func (c *counted) SetReadDeadline(t time.Time) error {
	if err := c.Conn.SetReadDeadline(t); !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	return nil
}

func newSession(stream duplex, v *view) *session {
	return &session{stream: stream, view: v, timeout: time.Minute, left: 1 << 30, stats: &Stats{}}
}

// compare lets a session meet a server, and counts what is sent to and fro.
func compare(tb testing.TB, s *session, serve func(duplex) error) (up, down int, err error) {
	tb.Helper()
	here, there := net.Pipe()
	client, server := &counted{here, 0}, &counted{there, 0}
	served := make(chan error, 1)
	go func() {
		served <- serve(server)
		_ = there.Close()
	}()
	s.stream = client
	err = s.pullAll(tb.Context())
	_ = here.Close()
	if serverErr := <-served; serverErr != nil && err == nil {
		tb.Errorf("the server failed: %v", serverErr)
	}
	return client.written, server.written, err
}

// reconciled compares two honest views.
func reconciled(tb testing.TB, mine, theirs *view) (stats Stats, up, down int) {
	tb.Helper()
	s := newSession(nil, mine)
	up, down, err := compare(tb, s, (&server{view: theirs, log: slog.New(slog.DiscardHandler)}).serve)
	if err != nil {
		tb.Fatal(err)
	}
	return *s.stats, up, down
}

// tape is a peer that has said everything already.
type tape struct {
	io.Reader
	bytes.Buffer
}

func (t *tape) Read(b []byte) (int, error)       { return t.Reader.Read(b) }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// growing is a shelf whose heads are asked for anew each time.
type growing struct {
	*shelf
	now func() []Head
}

func (g growing) Heads() iter.Seq[Head] { return slices.Values(g.now()) }
