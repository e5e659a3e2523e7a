package ask

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreAnyFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
	)
}

func newHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func serving(t *testing.T, limits Limits, answer func(Request) (Answer, error)) peer.AddrInfo {
	t.Helper()
	h := newHost(t)
	server := Serve(h, func(_ context.Context, q Request) (Answer, error) { return answer(q) }, limits, nil)
	t.Cleanup(func() { _ = server.Close() })
	return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

func nothing(peer.ID, error) {}

func TestPeers(t *testing.T) {
	client := newHost(t)
	told := Answer{Total: 7, Parts: [][]byte{[]byte("one"), []byte("two")}}
	honest := serving(t, Limits{}, func(q Request) (Answer, error) {
		if q.Text != "web" || q.Limit != 5 || q.Sort != shared.SortNewest {
			t.Errorf("asked for %+v", q)
		}
		return told, nil
	})
	question := Request{Text: "web", Limit: 5, Sort: shared.SortNewest}
	failing := serving(t, Limits{}, func(Request) (Answer, error) { return Answer{}, errors.New("no disk") })
	mute := newHost(t) // speaks another protocol
	gone := peer.AddrInfo{ID: mute.ID(), Addrs: mute.Addrs()}
	var failed []peer.ID
	var got []Answer
	good, err := Peers(t.Context(), client, []peer.AddrInfo{failing, gone, honest}, question, func(_ peer.ID, a Answer) error {
		got = append(got, a)
		return nil
	}, func(p peer.ID, _ error) { failed = append(failed, p) })
	if good != 1 || len(failed) != 2 || !reflect.DeepEqual(got, []Answer{told}) {
		t.Errorf("%d good, %d failed, %+v, %v", good, len(failed), got, err)
	}
	t.Run("an answer that is refused is none", func(t *testing.T) {
		refused := errors.New("forged")
		good, err := Peers(t.Context(), client, []peer.AddrInfo{honest}, question, func(peer.ID, Answer) error { return refused }, nothing)
		if good != 0 || !errors.Is(err, refused) {
			t.Errorf("%d, %v", good, err)
		}
	})
	t.Run("nobody to ask", func(t *testing.T) {
		if good, err := Peers(t.Context(), client, nil, question, nil, nothing); good != 0 || err != nil {
			t.Errorf("%d, %v", good, err)
		}
	})
}

func TestLimits(t *testing.T) {
	t.Run("who asks too often is told to wait, and somebody else is not", func(t *testing.T) {
		server := serving(t, Limits{PerPeer: 1}, func(Request) (Answer, error) { return Answer{Total: 1}, nil })
		greedy, other := newHost(t), newHost(t)
		var busy BusyError
		for range 20 {
			if _, err := Peers(t.Context(), greedy, []peer.AddrInfo{server}, Request{Name: "x"}, func(peer.ID, Answer) error { return nil }, nothing); err != nil && !errors.As(err, &busy) {
				t.Fatal(err)
			}
		}
		if busy == 0 || time.Duration(busy) > time.Minute {
			t.Errorf("20 questions at once were answered, or it is busy for %s", time.Duration(busy))
		}
		if good, err := Peers(t.Context(), other, []peer.AddrInfo{server}, Request{Name: "x"}, func(peer.ID, Answer) error { return nil }, nothing); good != 1 {
			t.Errorf("somebody else: %v", err)
		}
	})
	t.Run("bytes are bounded for all together", func(t *testing.T) {
		large := Answer{Parts: [][]byte{make([]byte, 300<<10)}}
		server := serving(t, Limits{Bytes: 100 << 10}, func(Request) (Answer, error) { return large, nil })
		var busy BusyError
		for range 5 {
			_, err := Peers(t.Context(), newHost(t), []peer.AddrInfo{server}, Request{Name: "x"}, func(peer.ID, Answer) error { return nil }, nothing)
			_ = err != nil && errors.As(err, &busy)
		}
		if busy == 0 {
			t.Error("1.5 MB were answered at once")
		}
	})
	t.Run("a stream that says nothing does not keep the server from closing", func(t *testing.T) {
		h, client := newHost(t), newHost(t)
		server := Serve(h, func(context.Context, Request) (Answer, error) { return Answer{}, nil }, Limits{}, nil)
		if err := client.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}); err != nil {
			t.Fatal(err)
		}
		s, err := client.NewStream(t.Context(), h.ID(), Protocol)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte{0, 0}); err != nil {
			t.Fatal(err)
		}
		_ = server.Close()
		_ = server.Close()
	})
}

// FuzzRequest holds that whatever a stranger sends is refused, or read as it would be
// written again.
func FuzzRequest(f *testing.F) {
	for _, q := range []Request{{Text: "a b", Tag: "t", Limit: 3}, {Name: "pack", Publisher: "ab"}} {
		frame := q.marshal()
		f.Add(frame[4], frame[5:])
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		q, err := parseRequest(kind, body)
		if err != nil {
			return
		}
		frame := q.marshal()
		again, err := parseRequest(frame[4], frame[5:])
		if err != nil || again != q {
			t.Fatalf("%+v is read again as %+v, %v", q, again, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(Answer{Total: 3, Parts: [][]byte{[]byte("x"), nil}}.marshal()[5:])
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnswer(body)
		if err == nil && (len(a.Parts) > MaxParts || a.Total < 0) {
			t.Fatalf("%d parts, %d in all", len(a.Parts), a.Total)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(frame(typeBusy, []byte{0, 0, 1, 0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, body, err := readFrame(bytes.NewReader(data), MaxRequest); err == nil && len(body) >= MaxRequest {
			t.Fatalf("a body of %d bytes", len(body))
		}
	})
}
