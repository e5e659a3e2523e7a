package replicate

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"

	"ggen.dev/marketplace/shared"
)

func publisherOf(first byte) shared.PublisherID {
	return shared.PublisherID(hex.EncodeToString(append([]byte{first}, make([]byte, 31)...)))
}

func TestFramesHaveGoldenBytes(t *testing.T) {
	head := Head{publisherOf(4), 5, [32]byte{6}}
	for _, tc := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"compare", compareRequest([32]byte{1}), "00000021" + "01" + "01" + zeros(31)},
		{
			"regions", regionsRequest([]prefix{prefixOf("0"), prefixOf("1a"), prefixOf("1bc"), prefixOf("f")}),
			"0000000a" + "03" + "0100" + "021a" + "031bc0" + "01f0",
		},
		{
			"range", rangeRequest{[32]byte{3}, 258, MinUpdate}.append(nil),
			"0000002d" + "02" + "03" + zeros(31) + "0000000000000102" + "00010000",
		},
		{"a head", appendHead(nil, head), "04" + zeros(31) + "0000000000000005" + "06" + zeros(31)},
		{"a region without heads", description{}.append(nil), "00"},
		{"a region with a head", description{heads: appendHead(nil, head)}.append(nil), "01" + "04" + zeros(31) + "0000000000000005" + "06" + zeros(31)},
		{
			"a region with parts", description{parts: &[fanout][32]byte{1: {7}, 15: {8}}}.append(nil),
			"ff" + "8002" + "07" + zeros(31) + "08" + zeros(31),
		},
	} {
		if got := hex.EncodeToString(tc.frame); got != tc.want {
			t.Errorf("%s is\n%s, want\n%s", tc.name, got, tc.want)
		}
	}
}

func zeros(n int) string { return hex.EncodeToString(make([]byte, n)) }

func TestRequestsComeBack(t *testing.T) {
	if got, err := parseCompareRequest(compareRequest([32]byte{5})[5:]); err != nil || got != [32]byte{5} {
		t.Errorf("%x, %v", got, err)
	}
	regions := []prefix{prefixOf("0"), prefixOf("1a"), prefixOf("1bc"), prefixOf("fedcba9876543210fedcba98")}
	if got, err := parseRegionsRequest(regionsRequest(regions)[5:]); err != nil || !slices.Equal(got, regions) {
		t.Errorf("%+v, %v", got, err)
	}
	piece := rangeRequest{[32]byte{1}, 1 << 30, MaxUpdate}
	if got, err := parseRangeRequest(piece.append(nil)[5:]); err != nil || got != piece {
		t.Errorf("%+v, %v", got, err)
	}
	head := Head{publisherOf(1), 5, [32]byte{9}}
	if got, err := parseHead(appendHead(nil, head)); err != nil || got != head {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheLongestFramesFit(t *testing.T) {
	var regions []prefix
	heads := sent(newShelf(manyHeads(small)...).heads)
	answer := openFrame(nil, typeDescribed)
	for i := range maxAsked {
		p := prefixOf("0123456789abcdef012345").part(i / 16).part(i % 16)
		regions = append(regions, p)
		answer = description{heads: heads}.append(answer)
	}
	request := regionsRequest(regions)
	if _, err := parseRegionsRequest(request[5:]); err != nil || len(request)-4 > maxRequestFrame {
		t.Errorf("a request of %d bytes, %v", len(request), err)
	}
	if len(answer)-4 > maxAnswerFrame {
		t.Errorf("an answer of %d bytes", len(answer))
	}
}

func TestRequestsForRegionsAreStrict(t *testing.T) {
	tooMany := make([]byte, 0, 3*(maxAsked+1))
	for i := range maxAsked + 1 {
		tooMany = append(tooMany, 4, byte(i>>8), byte(i))
	}
	for name, body := range map[string][]byte{
		"none":             {},
		"the whole":        {0},
		"too deep":         append([]byte{deepest + 1}, make([]byte, 13)...),
		"deeper than IDs":  append([]byte{65}, make([]byte, 33)...),
		"cut off":          {4, 0x12},
		"nothing but a 1":  {1},
		"half a digit":     {1, 0x12},
		"twice the same":   {1, 0x10, 1, 0x10},
		"descending":       {1, 0x20, 1, 0x10},
		"one in another":   {1, 0x10, 2, 0x12},
		"another in one":   {2, 0x10, 1, 0x10},
		"another after it": {2, 0x12, 1, 0x10},
		"too many":         tooMany,
	} {
		if got, err := parseRegionsRequest(body); !errors.Is(err, errProtocol) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := parseRegionsRequest(tooMany[:3*maxAsked]); err != nil {
		t.Error(err)
	}
}

func TestDescriptionsAreStrict(t *testing.T) {
	heads := sent(newShelf(Head{publisherOf(0x10), 1, [32]byte{}}, Head{publisherOf(0x12), 1, [32]byte{}}).heads)
	turned := slices.Concat(heads[headLen:], heads[:headLen])
	for name, tc := range map[string]struct {
		at   string
		body []byte
	}{
		"nothing":                    {"1", nil},
		"heads that are cut off":     {"1", append([]byte{2}, heads[:len(heads)-1]...)},
		"too many heads":             {"1", append([]byte{small + 1}, make([]byte, (small+1)*headLen)...)},
		"heads of another region":    {"10", append([]byte{2}, heads...)},
		"heads out of order":         {"1", append([]byte{2}, turned...)},
		"a head twice":               {"1", slices.Concat([]byte{2}, heads[:headLen], heads[:headLen])},
		"no mark of parts":           {"1", []byte{split, 0}},
		"no parts":                   {"1", []byte{split, 0, 0}},
		"parts that are cut off":     {"1", append([]byte{split, 0, 3}, bytes.Repeat([]byte{1}, 63)...)},
		"a part with no fingerprint": {"1", append([]byte{split, 0, 1}, make([]byte, 32)...)},
		"parts of the deepest":       {"0123456789abcdef01234567", append([]byte{split, 0, 1}, bytes.Repeat([]byte{1}, 32)...)},
	} {
		if d, _, err := cutDescription(tc.body, prefixOf(tc.at)); !errors.Is(err, errProtocol) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	if _, err := parseHead(append(make([]byte, 32), bytes.Repeat([]byte{0xff}, 40)...)); !errors.Is(err, errProtocol) {
		t.Errorf("a log without an end: %v", err)
	}
}

// FuzzRegionsRequest: whatever is understood keeps the rules, and has one form.
func FuzzRegionsRequest(f *testing.F) {
	f.Add(regionsRequest([]prefix{prefixOf("0"), prefixOf("1a"), prefixOf("1bc")})[5:])
	f.Add([]byte{1, 0x10, 2, 0x12})
	f.Add([]byte{1, 0x12})
	f.Add(append([]byte{deepest}, make([]byte, deepest/2)...))
	f.Add([]byte{255})
	f.Fuzz(func(t *testing.T, body []byte) {
		regions, err := parseRegionsRequest(body)
		if err != nil {
			if !errors.Is(err, errProtocol) {
				t.Fatal(err)
			}
			return
		}
		if again := regionsRequest(regions)[5:]; !bytes.Equal(again, body) {
			t.Fatalf("%x comes back as %x", body, again)
		}
		for i, p := range regions {
			for _, other := range regions[:i] {
				if p.contains(other.digits[:]) || other.contains(p.digits[:]) {
					t.Fatalf("regions %v and %v overlap", other, p)
				}
			}
		}
	})
}

// FuzzDescription: whatever is understood keeps the rules, and has one form.
func FuzzDescription(f *testing.F) {
	heads := newShelf(manyHeads(500)...).heads
	whole := grow(nil, sent(heads), 0)
	f.Add([]byte{}, "")
	f.Add(description{}.append(nil), "12")
	f.Add(whole.describe(prefix{}).append(nil), "")
	f.Add(whole.describe(prefixOf("7")).append(nil), "7")
	f.Add(whole.describe(prefixOf("7")).append(nil), "8")
	f.Add([]byte{split, 0, 1}, "ffffffffffffffffffffffff")
	f.Fuzz(func(t *testing.T, b []byte, digits string) {
		if len(digits) > deepest || bytes.ContainsFunc([]byte(digits), func(r rune) bool { return !bytes.ContainsRune([]byte("0123456789abcdef"), r) }) {
			return
		}
		at := prefixOf(digits)
		d, rest, err := cutDescription(b, at)
		if err != nil {
			if !errors.Is(err, errProtocol) {
				t.Fatal(err)
			}
			return
		}
		if again := append(d.append(nil), rest...); !bytes.Equal(again, b) {
			t.Fatalf("%x comes back as %x", b, again)
		}
		last := ""
		for heads := d.heads; len(heads) > 0; heads = heads[headLen:] {
			h, err := parseHead(heads)
			if err == nil && (!h.Publisher.Complete() || h.Size < 0) || string(heads[:32]) <= last && last != "" || !at.contains(heads) {
				t.Fatalf("head %+v", h)
			}
			last = string(heads[:32])
		}
	})
}

// FuzzAnswers: whatever a server says, a client either understands it or blames
// it, and everything that it understands keeps the rules.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, typeSame})
	f.Add([]byte{0, 0, 0, 1, typeNone})
	f.Add([]byte{0, 0, 0, 2, typeDescribed, 0})
	f.Add([]byte{0, 0, 0, 5, typeBusy, 0, 0, 1, 0})
	f.Add(append([]byte{0, 0, 0, 74, typeDescribed, 1}, appendHead(nil, Head{publisherOf(1), 3, [32]byte{}})...))
	f.Add([]byte{0, 0, 0, 12, typeUpdate, 0, 0, 0, 0, 0, 0, 0, 0, 'x', 'y', 'z'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSession(&tape{Reader: bytes.NewReader(data)}, nil)
		for {
			kind, body, err := s.receive()
			if err != nil {
				if errors.Is(err, io.EOF) {
					t.Fatalf("the end of the stream looks like an end: %v", err)
				}
				return
			}
			if kind != typeUpdate {
				continue
			}
			if next, update, err := parseUpdate(body); err == nil && (next < 0 || len(update) == 0 || len(update) > MaxUpdate) {
				t.Fatalf("update of %d bytes up to %d", len(update), next)
			}
		}
	})
}

// FuzzComparison: whatever a server says to a whole session, it ends, without more
// questions than answers.
func FuzzComparison(f *testing.F) {
	mine, theirs := differing(500, 5)
	record := func(mine, theirs *shelf) (answers []byte) {
		for {
			s := newSession(&tape{Reader: bytes.NewReader(answers)}, &view{catalog: mine})
			if s.pullAll(f.Context()) == nil {
				return answers
			}
			// The answers to all questions so far, and to the one that had none.
			stream := &tape{Reader: bytes.NewReader(s.stream.(*tape).Bytes())}
			_ = (&server{view: &view{catalog: theirs}, log: slog.New(slog.DiscardHandler)}).serve(stream)
			answers = stream.Bytes()
		}
	}
	f.Add(record(mine, theirs))
	f.Add(record(mine, newShelf(theirs.heads[:20]...)))
	f.Add(record(newShelf(), theirs))
	f.Add([]byte{0, 0, 0, 1, typeSame})
	f.Add([]byte{0, 0, 0, 2, typeDescribed, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		stream := &tape{Reader: bytes.NewReader(data)}
		s := newSession(stream, &view{catalog: mine})
		_ = s.pullAll(t.Context())
		if questions := 1 + len(data)/6; s.stats.Rounds > questions {
			t.Fatalf("%d questions after %d bytes", s.stats.Rounds, len(data))
		}
		requests := bytes.NewReader(stream.Bytes())
		var buffer []byte
		for requests.Len() > 0 {
			kind, body, err := readFrame(requests, &buffer, maxRequestFrame)
			if err == nil && kind == typeRegions {
				_, err = parseRegionsRequest(body)
			}
			if err != nil {
				t.Fatalf("the client asked nonsense: %v", err)
			}
		}
	})
}

// FuzzServe: whatever a client says, the server ends, and answers with frames.
func FuzzServe(f *testing.F) {
	catalogue := newShelf(append(manyHeads(200), Head{publisherOf(1), 3, [32]byte{1}})...)
	f.Add(compareRequest([32]byte{}))
	f.Add(append(compareRequest([32]byte{1}), rangeRequest{[32]byte{1}, 2, MinUpdate}.append(nil)...))
	f.Add(append(regionsRequest([]prefix{prefixOf("0"), prefixOf("1a")}), regionsRequest([]prefix{prefixOf("fedcba9876")})...))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		stream := &tape{Reader: bytes.NewReader(data)}
		_ = (&server{view: &view{catalog: catalogue}, log: slog.New(slog.DiscardHandler)}).serve(stream)
		answers := bytes.NewReader(stream.Bytes())
		var buffer []byte
		for answers.Len() > 0 {
			if _, _, err := readFrame(answers, &buffer, maxAnswerFrame); err != nil {
				t.Fatalf("the server answered nonsense: %v", err)
			}
		}
	})
}
