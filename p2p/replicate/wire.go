package replicate

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"

	"ggen.dev/marketplace/shared"
)

// The types of frames.
const (
	typeCompare   byte = 1
	typeRange     byte = 2
	typeRegions   byte = 3
	typeDescribed byte = 129
	typeSame      byte = 130
	typeUpdate    byte = 131
	typeNone      byte = 132
	typeBusy      byte = 133
)

const (
	// maxAsked is how many regions one request asks about. Its answer has at most
	// 577 KiB: 32 heads for each.
	maxAsked = 256

	// split is in the place of the number of heads if there are too many.
	split = 255

	headLen         = 32 + 8 + 32
	maxRequestFrame = 1 + maxAsked*(1+deepest/2)
	maxAnswerFrame  = 1 + 8 + MaxUpdate

	// maxLogSize bounds the size of a log that anybody may claim.
	maxLogSize = 1 << 40
)

// errProtocol is at the bottom of every error that only a peer which breaks the
// protocol can cause.
var errProtocol = errors.New("it breaks the protocol")

// readFrame reads a frame of at most limit bytes into buffer, which it may
// replace by a larger one. It returns io.EOF only if nothing came at all.
func readFrame(r io.Reader, buffer *[]byte, limit int) (kind byte, body []byte, err error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(prefix[:])
	if length == 0 || uint64(length) > uint64(limit) {
		return 0, nil, fmt.Errorf("a frame of %d bytes: %w", length, errProtocol)
	}
	if uint32(cap(*buffer)) < length {
		*buffer = make([]byte, length)
	}
	frame := (*buffer)[:length]
	if _, err := io.ReadFull(r, frame); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return frame[0], frame[1:], nil
}

// openFrame begins a frame; closeFrame fills in its length.
func openFrame(b []byte, kind byte) []byte { return append(b, 0, 0, 0, 0, kind) }

func closeFrame(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

func compareRequest(fingerprint [32]byte) []byte {
	return closeFrame(append(openFrame(nil, typeCompare), fingerprint[:]...), 0)
}

func parseCompareRequest(body []byte) (fingerprint [32]byte, err error) {
	if len(body) != 32 {
		return fingerprint, fmt.Errorf("a fingerprint of %d bytes: %w", len(body), errProtocol)
	}
	return [32]byte(body), nil
}

// regionsRequest asks about regions in ascending order.
func regionsRequest(regions []prefix) []byte {
	b := openFrame(nil, typeRegions)
	for _, p := range regions {
		b = append(b, byte(p.depth))
		b = append(b, p.digits[:(p.depth+1)/2]...)
	}
	return closeFrame(b, 0)
}

// parseRegionsRequest reads regions that are in ascending order and do not overlap,
// so that no head is asked for twice.
func parseRegionsRequest(body []byte) (regions []prefix, err error) {
	for len(body) > 0 {
		p := prefix{depth: int(body[0])}
		n := (p.depth + 1) / 2
		if p.depth == 0 || p.depth > deepest || len(body) <= n {
			return nil, fmt.Errorf("a region of %d digits in %d bytes: %w", p.depth, len(body)-1, errProtocol)
		}
		copy(p.digits[:], body[1:1+n])
		body = body[1+n:]
		switch {
		case p.depth%2 == 1 && p.digits[n-1]&15 != 0:
			return nil, fmt.Errorf("a region of %d digits has another one: %w", p.depth, errProtocol)
		case len(regions) > 0 && !regions[len(regions)-1].before(p):
			return nil, fmt.Errorf("regions out of order: %w", errProtocol)
		case len(regions) == maxAsked:
			return nil, fmt.Errorf("over %d regions: %w", maxAsked, errProtocol)
		}
		regions = append(regions, p)
	}
	if len(regions) == 0 {
		return nil, fmt.Errorf("a request for no region: %w", errProtocol)
	}
	return regions, nil
}

type rangeRequest struct {
	publisher [32]byte
	from      int64
	most      int
}

func (r rangeRequest) append(b []byte) []byte {
	start := len(b)
	b = openFrame(b, typeRange)
	b = append(b, r.publisher[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.from))
	return closeFrame(binary.BigEndian.AppendUint32(b, uint32(r.most)), start)
}

func parseRangeRequest(body []byte) (rangeRequest, error) {
	if len(body) != 32+8+4 {
		return rangeRequest{}, fmt.Errorf("a request for a range of %d bytes: %w", len(body), errProtocol)
	}
	from, most := binary.BigEndian.Uint64(body[32:]), binary.BigEndian.Uint32(body[40:])
	if from > maxLogSize || most < MinUpdate || most > MaxUpdate {
		return rangeRequest{}, fmt.Errorf("a request for %d bytes of a log from %d: %w", most, from, errProtocol)
	}
	return rangeRequest{[32]byte(body[:32]), int64(from), int(most)}, nil
}

func appendHead(b []byte, h Head) []byte {
	id := rawID(h.Publisher)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Size))
	return append(b, h.Hash[:]...)
}

// parseHead reads what appendHead has written.
func parseHead(b []byte) (Head, error) {
	size := binary.BigEndian.Uint64(b[32:40])
	if size > maxLogSize {
		return Head{}, fmt.Errorf("a log of %d entries: %w", size, errProtocol)
	}
	return Head{shared.PublisherID(hex.EncodeToString(b[:32])), int64(size), [32]byte(b[40:headLen])}, nil
}

// description is what a peer says about a region: its heads as they are sent, if
// there are few, or else the fingerprints of its parts, zero where there is nothing.
type description struct {
	heads []byte
	parts *[fanout][32]byte
}

// sum is the fingerprint of a region that is as described.
func (d description) sum() [32]byte {
	if d.parts != nil {
		return sumOfParts(d.parts)
	}
	return sumOfHeads(d.heads)
}

func (d description) append(b []byte) []byte {
	if d.parts == nil {
		return append(append(b, byte(len(d.heads)/headLen)), d.heads...)
	}
	var there uint16
	b = append(b, split, 0, 0)
	mark := len(b) - 2
	for digit, sum := range d.parts {
		if sum != [32]byte{} {
			there |= 1 << digit
			b = append(b, sum[:]...)
		}
	}
	binary.BigEndian.PutUint16(b[mark:], there)
	return b
}

// cutDescription reads the description of a region at the beginning of b, of which
// it keeps parts: heads of the region in strictly ascending order, or parts of it.
func cutDescription(b []byte, at prefix) (d description, rest []byte, err error) {
	if len(b) == 0 {
		return d, nil, fmt.Errorf("nothing about a region: %w", errProtocol)
	}
	count, b := int(b[0]), b[1:]
	if count == split {
		return cutParts(b, at)
	}
	if count > small || len(b) < count*headLen {
		return d, nil, fmt.Errorf("%d heads in %d bytes: %w", count, len(b), errProtocol)
	}
	d.heads, rest = b[:count*headLen], b[count*headLen:]
	for i := 0; i < len(d.heads); i += headLen {
		if !at.contains(d.heads[i:]) {
			return d, nil, fmt.Errorf("a head of another region: %w", errProtocol)
		}
		if i > 0 && bytes.Compare(d.heads[i-headLen:][:32], d.heads[i:][:32]) >= 0 {
			return d, nil, fmt.Errorf("heads out of order: %w", errProtocol)
		}
	}
	return d, rest, nil
}

func cutParts(b []byte, at prefix) (d description, rest []byte, err error) {
	if at.depth >= deepest || len(b) < 2 {
		return d, nil, fmt.Errorf("parts of a region of %d digits in %d bytes: %w", at.depth, len(b), errProtocol)
	}
	there, b := binary.BigEndian.Uint16(b), b[2:]
	if there == 0 || len(b) < bits.OnesCount16(there)*32 {
		return d, nil, fmt.Errorf("%d parts in %d bytes: %w", bits.OnesCount16(there), len(b), errProtocol)
	}
	d.parts = new([fanout][32]byte)
	for digit := range d.parts {
		if there&(1<<digit) == 0 {
			continue
		}
		d.parts[digit], b = [32]byte(b[:32]), b[32:]
		if d.parts[digit] == [32]byte{} {
			return d, nil, fmt.Errorf("a part that is there and is not: %w", errProtocol)
		}
	}
	return d, b, nil
}

func parseUpdate(body []byte) (next int64, update []byte, err error) {
	if len(body) <= 8 {
		return 0, nil, fmt.Errorf("an update of %d bytes: %w", len(body), errProtocol)
	}
	n := binary.BigEndian.Uint64(body)
	if n > maxLogSize {
		return 0, nil, fmt.Errorf("an update up to entry %d: %w", n, errProtocol)
	}
	return int64(n), body[8:], nil
}

func parseBusy(body []byte) (milliseconds uint32, err error) {
	if len(body) != 4 {
		return 0, fmt.Errorf("a refusal of %d bytes: %w", len(body), errProtocol)
	}
	return min(binary.BigEndian.Uint32(body), math.MaxInt32), nil
}

// rawID is zero for an ID that is not complete. Capital digits, which no ID has, are
// not looked for: that would take longer than everything else in reading a catalogue.
func rawID(id shared.PublisherID) (raw [32]byte) {
	if len(id) != 2*len(raw) {
		return [32]byte{}
	}
	if _, err := hex.Decode(raw[:], []byte(id)); err != nil {
		return [32]byte{}
	}
	return raw
}
