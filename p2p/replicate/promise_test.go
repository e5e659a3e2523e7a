package replicate

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// answering is a server that describes the whole and then regions as it likes.
func answering(whole []byte, describe func(at prefix) []byte) func(duplex) error {
	return func(stream duplex) error {
		var buffer []byte
		for {
			kind, body, err := readFrame(stream, &buffer, maxRequestFrame)
			if err != nil {
				return nil //nolint:nilerr // the client has left
			}
			answer := openFrame(nil, typeDescribed)
			if kind == typeCompare {
				answer = append(answer, whole...)
			} else {
				regions, err := parseRegionsRequest(body)
				if err != nil {
					return err
				}
				for _, at := range regions {
					answer = append(answer, describe(at)...)
				}
			}
			if _, err := stream.Write(closeFrame(answer, 0)); err != nil {
				return nil //nolint:nilerr // the client has left
			}
		}
	}
}

func TestBrokenPromises(t *testing.T) {
	heads := newShelf(manyHeads(2000)...).heads
	honest := grow(nil, sent(heads), 0)
	true0 := func(at prefix) []byte { return honest.describe(at).append(nil) }
	other := grow(nil, sent(newShelf(manyHeads(2001)...).heads), 0)
	for _, tc := range []struct {
		name     string
		whole    []byte
		describe func(at prefix) []byte
	}{
		{"fingerprints of nothing", description{parts: &[fanout][32]byte{3: {1}, 9: {2}}}.append(nil), true0},
		{"fingerprints of something else", other.describe(prefix{}).append(nil), true0},
		{"parts of something else", true0(prefix{}), func(at prefix) []byte {
			d := honest.describe(at)
			if d.parts != nil {
				d.parts[5][0] ^= 1
			}
			return d.append(nil)
		}},
		{"a head that is missing", true0(prefix{}), func(at prefix) []byte {
			d := honest.describe(at)
			d.heads = d.heads[:max(0, len(d.heads)-headLen)]
			return d.append(nil)
		}},
		{"a head that has grown", true0(prefix{}), func(at prefix) []byte {
			d := honest.describe(at)
			if len(d.heads) > 0 {
				d.heads = bytes.Clone(d.heads)
				d.heads[39]++
			}
			return d.append(nil)
		}},
		{"regions without heads", true0(prefix{}), func(prefix) []byte { return description{}.append(nil) }},
		{"other regions", true0(prefix{}), func(at prefix) []byte {
			at.digits[0] ^= 0x10
			return true0(at)
		}},
		{"too few regions", true0(prefix{}), func(prefix) []byte { return nil }},
		{"too many regions", true0(prefix{}), func(at prefix) []byte { return append(true0(at), 0) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSession(nil, &view{catalog: newShelf(manyHeads(30)...)})
			_, down, err := compare(t, s, answering(tc.whole, tc.describe))
			if !errors.Is(err, errProtocol) {
				t.Errorf("error is %v", err)
			}
			if down > 256<<10 || s.stats.Rounds > 4 {
				t.Errorf("the liar cost %d bytes, %+v", down, s.stats)
			}
		})
	}
	t.Run("regions are the same after all", func(t *testing.T) {
		s := newSession(nil, &view{catalog: newShelf()})
		s.stream = &tape{Reader: bytes.NewReader(append(
			closeFrame(append(openFrame(nil, typeDescribed), true0(prefix{})...), 0), 0, 0, 0, 1, typeSame))}
		if err := s.pullAll(t.Context()); !errors.Is(err, errProtocol) {
			t.Errorf("error is %v", err)
		}
	})
}

// TestPromisesWithoutAnEnd is the most that a liar can do: all parts of a
// region are alike, so that it can promise and keep 16^23 of them.
func TestPromisesWithoutAnEnd(t *testing.T) {
	var levels [deepest + 1]description
	sum := [32]byte{1}
	for depth := range slices.Backward(levels[:]) {
		var parts [fanout][32]byte
		for digit := range parts {
			parts[digit] = sum
		}
		levels[depth] = description{parts: &parts}
		sum = levels[depth].sum()
	}
	s := newSession(nil, &view{catalog: newShelf(manyHeads(5000)...)})
	up, down, err := compare(t, s, answering(levels[0].append(nil), func(at prefix) []byte { return levels[at.depth].append(nil) }))
	if !errors.Is(err, errProtocol) {
		t.Errorf("error is %v", err)
	}
	if s.stats.Rounds > deepest+1 || up+down > 4<<20 {
		t.Errorf("the liar cost %d bytes, %+v", up+down, s.stats)
	}
}

func TestAnHonestPeerHasAnEndToo(t *testing.T) {
	mine, theirs := &view{catalog: newShelf()}, &view{catalog: newShelf(manyHeads(200)...)} // 16 regions
	for regions, want := range map[int]error{maxRegions - 16: nil, maxRegions - 15: errProtocol} {
		s := newSession(nil, mine)
		s.regions = regions
		if _, _, err := compare(t, s, (&server{view: theirs}).serve); !errors.Is(err, want) {
			t.Errorf("with %d regions the error is %v", regions, err)
		}
	}
}

// TestAStreamSeesOneState: what changes between two answers breaks no promise.
func TestAStreamSeesOneState(t *testing.T) {
	mine, theirs := newShelf(), newShelf(manyHeads(400)...)
	calls := 0
	changing := growing{theirs, func() []Head {
		calls++
		return newShelf(manyHeads(400 + calls)...).heads
	}}
	if _, _, err := compare(t, newSession(nil, &view{catalog: mine}), (&server{view: &view{catalog: changing}}).serve); err != nil {
		t.Error(err)
	}
	if calls != 1 || len(mine.offered) != 401 {
		t.Errorf("the catalogue was read %d times, %d heads were offered", calls, len(mine.offered))
	}
}
