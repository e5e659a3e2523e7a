package replicate

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"testing"
	"time"

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

func publisherOf(first byte) shared.PublisherID {
	return shared.PublisherID(hex.EncodeToString(append([]byte{first}, make([]byte, 31)...)))
}

func TestFramesHaveGoldenBytes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{
			"heads", headsRequest{[32]byte{1}, [32]byte{2}, 4096}.frame(),
			"00000045" + "01" + "01" + zeros(31) + "02" + zeros(31) + "00001000",
		},
		{
			"range", rangeRequest{[32]byte{3}, 258, MinUpdate}.append(nil),
			"0000002d" + "02" + "03" + zeros(31) + "0000000000000102" + "00010000",
		},
		{
			"a head", appendHead(nil, Head{publisherOf(4), 5, [32]byte{6}}),
			"04" + zeros(31) + "0000000000000005" + "06" + zeros(31),
		},
	} {
		if got := hex.EncodeToString(tc.frame); got != tc.want {
			t.Errorf("%s is\n%s, want\n%s", tc.name, got, tc.want)
		}
	}
}

func zeros(n int) string { return hex.EncodeToString(make([]byte, n)) }

func TestRequestsComeBack(t *testing.T) {
	heads := headsRequest{[32]byte{1}, [32]byte{2}, 7}
	if got, err := parseHeadsRequest(heads.frame()[5:]); err != nil || got != heads {
		t.Errorf("%+v, %v", got, err)
	}
	piece := rangeRequest{[32]byte{1}, 1 << 30, MaxUpdate}
	if got, err := parseRangeRequest(piece.append(nil)[5:]); err != nil || got != piece {
		t.Errorf("%+v, %v", got, err)
	}
	list := []Head{{publisherOf(1), 5, [32]byte{9}}, {publisherOf(2), 0, [32]byte{}}}
	body := []byte{1}
	for _, h := range list {
		body = appendHead(body, h)
	}
	if got, more, err := parseHeads(body, headsRequest{most: 2}); err != nil || !more || !reflect.DeepEqual(got, list) {
		t.Errorf("%+v, %v, %v", got, more, err)
	}
}

// FuzzAnswers: whatever a server says, a client either understands it or blames
// it, and everything that it understands keeps the rules.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, typeSame})
	f.Add([]byte{0, 0, 0, 1, typeNone})
	f.Add([]byte{0, 0, 0, 2, typeListed, 0})
	f.Add([]byte{0, 0, 0, 5, typeBusy, 0, 0, 1, 0})
	f.Add(append([]byte{0, 0, 0, 74, typeListed, 0}, appendHead(nil, Head{publisherOf(1), 3, [32]byte{}})...))
	f.Add([]byte{0, 0, 0, 12, typeUpdate, 0, 0, 0, 0, 0, 0, 0, 0, 'x', 'y', 'z'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &session{stream: &tape{Reader: bytes.NewReader(data)}, timeout: time.Second, left: 1 << 20, stats: &Stats{}}
		for {
			kind, body, err := s.receive()
			if err != nil {
				if errors.Is(err, io.EOF) {
					t.Fatalf("the end of the stream looks like an end: %v", err)
				}
				return
			}
			switch kind {
			case typeListed:
				heads, _, err := parseHeads(body, headsRequest{most: pageHeads})
				for i, h := range heads {
					if err == nil && (!h.Publisher.Complete() || h.Size < 0 || i > 0 && h.Publisher <= heads[i-1].Publisher) {
						t.Fatalf("head %+v", h)
					}
				}
			case typeUpdate:
				if next, update, err := parseUpdate(body); err == nil && (next < 0 || len(update) == 0 || len(update) > MaxUpdate) {
					t.Fatalf("update of %d bytes up to %d", len(update), next)
				}
			}
		}
	})
}

// FuzzServe: whatever a client says, the server ends, and answers with frames.
func FuzzServe(f *testing.F) {
	f.Add(headsRequest{most: 10}.frame())
	f.Add(append(headsRequest{most: pageHeads, fingerprint: [32]byte{1}}.frame(), rangeRequest{[32]byte{1}, 2, MinUpdate}.append(nil)...))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		stream := &tape{Reader: bytes.NewReader(data)}
		_ = (&server{catalog: fewLogs{}, log: slog.New(slog.DiscardHandler)}).serve(stream)
		answers := bytes.NewReader(stream.Bytes())
		var buffer []byte
		for answers.Len() > 0 {
			if _, _, err := readFrame(answers, &buffer, maxAnswerFrame); err != nil {
				t.Fatalf("the server answered nonsense: %v", err)
			}
		}
	})
}
