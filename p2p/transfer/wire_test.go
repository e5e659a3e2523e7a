package transfer

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/shared"
)

// tape is a peer that has said everything already.
type tape struct {
	io.Reader
	bytes.Buffer
}

func (t *tape) Read(b []byte) (int, error)       { return t.Reader.Read(b) }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }
func (t *tape) Close() error                     { return nil }
func (t *tape) Reset() error                     { return nil }

type text struct{ *strings.Reader }

func (text) Close() error { return nil }

func aServer(tb testing.TB, data string) *Server {
	tb.Helper()
	encoder, err := newEncoder()
	if err != nil {
		tb.Fatal(err)
	}
	return &Server{
		log: slog.New(slog.DiscardHandler), encoder: encoder,
		buffers: sync.Pool{New: func() any { return new(buffers) }},
		open: func(d shared.Digest) (Blob, error) {
			if d != shared.DigestOf([]byte(data)) {
				return nil, fmt.Errorf("none: %w", fs.ErrNotExist)
			}
			return text{strings.NewReader(data)}, nil
		},
	}
}

func aSession(tb testing.TB, answers []byte) *session {
	tb.Helper()
	decoder, err := newDecoder()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(decoder.Close)
	return &session{stream: &tape{Reader: bytes.NewReader(answers)}, stall: time.Second, decoder: decoder}
}

func TestFramesHaveGoldenBytes(t *testing.T) {
	r := request{zstd: true, sum: [32]byte{0xaa, 31: 0xbb}, offset: 258, length: MaxRange}
	const want = "0101" + "aa000000000000000000000000000000000000000000000000000000000000bb" + "0000000000000102" + "00040000"
	if got := hex.EncodeToString(r.append(nil)); got != want {
		t.Errorf("a request is %s, want %s", got, want)
	}
	h := header{status: statusBusy, retryAfter: 1000}
	if got := hex.EncodeToString(h.append(nil)); got != "0200"+"00000000"+"000003e8" {
		t.Errorf("a header is %s", got)
	}
}

// TestWhatIsServedIsReceived lets a server answer a client over any blob and any
// ranges, raw or compressed.
func TestWhatIsServedIsReceived(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := strings.Repeat(rapid.StringN(1, 50, 200).Draw(rt, "text"), rapid.IntRange(1, 2000).Draw(rt, "times"))
		server := aServer(t, data)
		var asked bytes.Buffer
		var requests []request
		for range rapid.IntRange(1, 5).Draw(rt, "requests") {
			offset := rapid.IntRange(0, len(data)-1).Draw(rt, "offset")
			r := request{
				zstd: rapid.Bool().Draw(rt, "zstd"), sum: shared.DigestOf([]byte(data)).Sum(), offset: int64(offset),
				length: rapid.IntRange(1, min(MaxRange, len(data)-offset)).Draw(rt, "length"),
			}
			requests = append(requests, r)
			asked.Write(r.append(nil))
		}
		stream := &tape{Reader: &asked}
		if err := server.serve(stream, ""); err != nil {
			rt.Fatal(err)
		}
		s := aSession(t, stream.Bytes())
		for _, r := range requests {
			got, _, fail := s.receive(r)
			if fail != nil || string(got) != data[r.offset:][:r.length] {
				rt.Fatalf("range %d+%d: %d bytes, %v", r.offset, r.length, len(got), fail)
			}
		}
	})
}

func FuzzServe(f *testing.F) {
	const data = "what the server has, has the server"
	good := request{sum: shared.DigestOf([]byte(data)).Sum(), offset: 3, length: 10}
	f.Add(good.append(nil))
	f.Add(request{length: 1}.append(good.append(nil)))
	f.Add(request{sum: good.sum, offset: 1 << 60, length: MaxRange, zstd: true}.append(nil))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, asked []byte) {
		stream := &tape{Reader: bytes.NewReader(asked)}
		_ = aServer(t, data).serve(stream, "")
		if limit := (len(asked)/requestLen + 1) * (headerLen + len(data)); stream.Len() > limit {
			t.Fatalf("%d bytes asked, %d answered", len(asked), stream.Len())
		}
		for ; len(asked) >= requestLen; asked = asked[requestLen:] {
			r, err := parseRequest(asked[:requestLen])
			if err != nil {
				break
			}
			if r.length < 1 || r.length > MaxRange || r.offset < 0 || r.offset+int64(r.length) < 0 {
				t.Fatalf("%+v was accepted", r)
			}
		}
	})
}

func FuzzReceive(f *testing.F) {
	encoder, err := newEncoder()
	if err != nil {
		f.Fatal(err)
	}
	zip := func(n int) []byte {
		body := encoder.EncodeAll(make([]byte, n), nil)
		return append(header{encoding: encodingZstd, body: len(body)}.append(nil), body...)
	}
	f.Add(append(header{body: 5}.append(nil), "hello"...), uint32(5), false)
	f.Add(zip(1000), uint32(1000), true)
	f.Add(zip(1001), uint32(1000), true)
	f.Add(zip(100<<20), uint32(MaxRange), true) // a bomb
	f.Add(header{status: statusBusy, retryAfter: 1 << 31}.append(nil), uint32(5), true)
	f.Add(header{status: 9}.append(nil), uint32(5), true)
	f.Fuzz(func(t *testing.T, answer []byte, length uint32, zstd bool) {
		r := request{length: int(length%MaxRange) + 1, zstd: zstd}
		if length == MaxRange {
			r.length = MaxRange
		}
		data, _, fail := aSession(t, answer).receive(r)
		switch {
		case fail == nil && len(data) != r.length:
			t.Fatalf("%d bytes instead of %d", len(data), r.length)
		case fail != nil && fail.kind == Busy && fail.pause > maxPause:
			t.Fatalf("we would wait for %s", fail.pause)
		case cap(data) > 2*MaxRange:
			t.Fatalf("the answer took %d bytes of memory", cap(data))
		}
	})
}

// TestNothingIsPackedTooWell: a body that claims to become hundreds of times larger
// is refused by its header, and a server does not send one.
func TestNothingIsPackedTooWell(t *testing.T) {
	const length = 100_000
	req := request{length: length, zstd: true}
	for body, ok := range map[int]bool{length / MaxRatio: true, length/MaxRatio - 1: false, length: false} {
		if _, err := parseHeader(header{encoding: encodingZstd, body: body}.append(nil), req); (err == nil) != ok {
			t.Errorf("%d bytes for %d: %v", body, length, err)
		}
	}
	zeros := strings.Repeat("\x00", length)
	req.sum = shared.DigestOf([]byte(zeros)).Sum()
	stream := &tape{Reader: bytes.NewReader(req.append(nil))}
	if err := aServer(t, zeros).serve(stream, ""); err != nil {
		t.Fatal(err)
	}
	got, _, fail := aSession(t, stream.Bytes()).receive(req)
	if fail != nil || string(got) != zeros {
		t.Fatalf("%d bytes, %v", len(got), fail)
	}
}
