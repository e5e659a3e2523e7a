package replicate

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"sync/atomic"
)

const (
	// fanout is how many parts a region is split into: one for each hexadecimal
	// digit. With one for each byte, a difference among 100,000 publishers would cost
	// 16 KiB and 3 round trips, instead of 3.2 KiB and 4.
	fanout = 16

	// small is how many heads a region may have to be listed and not split: 2.3 KiB.
	// With 16, the same costs 2.1 KiB and 5 round trips; with 64, a difference among
	// 10,000 costs 3.6 KiB and 3, instead of 1.8 KiB and 4.
	small = 32

	// deepest is the most digits that a region has. The IDs of publishers are
	// SHA-256: for more than small of them in such a region somebody must have found
	// 33 that share 96 bits. Then only the first ones are compared. It bounds how long
	// a liar can go on splitting.
	deepest = 24
)

// prefix names a region: all publishers whose IDs begin with these digits.
type prefix struct {
	depth  int // digits
	digits [32]byte
}

// part is the part of a region with one more digit.
func (p prefix) part(digit int) prefix {
	p.digits[p.depth/2] |= byte(digit) << (4 * (1 - p.depth%2))
	p.depth++
	return p
}

// contains tells whether a publisher is in the region.
func (p prefix) contains(id []byte) bool {
	whole := p.depth / 2
	return bytes.Equal(id[:whole], p.digits[:whole]) && (p.depth%2 == 0 || id[whole]>>4 == p.digits[whole]>>4)
}

// before tells whether all of a region lies before another.
func (p prefix) before(other prefix) bool {
	return bytes.Compare(p.digits[:], other.digits[:]) < 0 && !p.contains(other.digits[:])
}

// digitAt is one hexadecimal digit of an ID.
func digitAt(id []byte, depth int) int {
	return int(id[depth/2] >> (4 * (1 - depth%2)) & 15)
}

// region is the heads of one region of this node's catalogue, and their
// fingerprint. It is never changed: who holds one has a snapshot, and what two
// snapshots have in common is there once. nil is a region without heads.
//
// This is range-based set reconciliation (Aljoscha Meyer, 2023), with borders that
// do not depend on what is held. So both sides have the fingerprints of all regions
// ready, and a fingerprint is a promise: it is made of the fingerprints of the parts,
// and a peer that is asked further can only give what it was made of. (A sum of
// hashes, which would allow any border, is no promise, and none that holds: publishers
// cost nothing, and with 2^15 of them Wagner's generalised birthday attack finds two
// sets of the same sum of 256 bits by about 2^31 hashes. Here two sets that look the
// same are a collision of SHA-256.) IDs are hashes, so that the regions of one depth
// are about equally full without any balancing.
type region struct {
	fingerprint [32]byte
	heads       []byte           // as they are sent, if there are few
	parts       *[fanout]*region // by the next digit, if there are many; else nil
}

// sum is the fingerprint of a region; zero if it has no heads.
func (r *region) sum() [32]byte {
	if r == nil {
		return [32]byte{}
	}
	return r.fingerprint
}

// sumOfHeads is the fingerprint of a region with few heads.
func sumOfHeads(heads []byte) [32]byte {
	if len(heads) == 0 {
		return [32]byte{}
	}
	var b [1 + small*headLen]byte
	return sha256.Sum256(b[:1+copy(b[1:], heads)])
}

// sumOfParts is the fingerprint of a region with many heads. The first byte keeps
// it apart from heads.
func sumOfParts(parts *[fanout][32]byte) [32]byte {
	b := [1 + fanout*32]byte{1}
	for digit := range parts {
		copy(b[1+32*digit:], parts[digit][:])
	}
	return sha256.Sum256(b[:])
}

// sums are the fingerprints of a region's parts.
func (r *region) sums() *[fanout][32]byte {
	var sums [fanout][32]byte
	for digit := range sums {
		sums[digit] = r.parts[digit].sum()
	}
	return &sums
}

// part is one part of a region of depth digits.
func (r *region) part(digit, depth int) *region {
	switch {
	case r == nil:
		return nil
	case r.parts != nil:
		return r.parts[digit]
	}
	for heads := r.heads; len(heads) > 0; heads = heads[headLen:] {
		if n := leading(heads, digit, depth); n > 0 {
			return &region{sumOfHeads(heads[:n]), heads[:n], nil}
		}
	}
	return nil
}

// holds tells whether exactly this head is in a region of depth digits.
func (r *region) holds(head []byte, depth int) bool {
	for ; r != nil && r.parts != nil; depth++ {
		r = r.parts[digitAt(head, depth)]
	}
	if r == nil {
		return false
	}
	for heads := r.heads; len(heads) > 0; heads = heads[headLen:] {
		if bytes.Equal(heads[:headLen], head) {
			return true
		}
	}
	return false
}

// describe says what is in one region of the whole.
func (r *region) describe(at prefix) description {
	for depth := 0; r != nil && r.parts != nil && depth < at.depth; depth++ {
		r = r.parts[digitAt(at.digits[:], depth)]
	}
	switch {
	case r == nil:
		return description{}
	case r.parts != nil:
		return description{parts: r.sums()}
	}
	heads := r.heads
	for len(heads) > 0 && !at.contains(heads) {
		heads = heads[headLen:]
	}
	end := 0
	for end < len(heads) && at.contains(heads[end:]) {
		end += headLen
	}
	return description{heads: heads[:end]}
}

// grow makes the region of depth digits that has these heads, in the order of
// their publishers. Whatever is still as in old is taken from there: a change costs
// the hashes of the regions that it is in.
func grow(old *region, heads []byte, depth int) *region {
	if len(heads) == 0 {
		return nil
	}
	if few := small * headLen; len(heads) <= few || depth == deepest {
		heads = heads[:min(len(heads), few)]
		if old != nil && old.parts == nil && bytes.Equal(old.heads, heads) {
			return old
		}
		return &region{sumOfHeads(heads), bytes.Clone(heads), nil}
	}
	if old != nil && old.parts == nil {
		old = nil
	}
	r := region{parts: new([fanout]*region)}
	for digit := range r.parts {
		n := leading(heads, digit, depth)
		r.parts[digit] = grow(old.part(digit, depth), heads[:n], depth+1)
		heads = heads[n:]
	}
	if old != nil && *old.parts == *r.parts {
		return old
	}
	r.fingerprint = sumOfParts(r.sums())
	return &r
}

// leading counts the bytes of the first heads that have a digit behind depth others.
func leading(heads []byte, digit, depth int) (n int) {
	for n < len(heads) && digitAt(heads[n:], depth) == digit {
		n += headLen
	}
	return n
}

// view keeps the regions of the catalogue, for everybody who compares.
type view struct {
	catalog Catalog
	waiting atomic.Uint64 // how often the regions were asked for

	mu    sync.Mutex // guards the fields below
	done  uint64     // the questions that whole is new enough for
	whole *region
	size  int // of all heads, in bytes
}

// now is the catalogue as it is after the call began. Its heads are read by one
// caller at a time, for all that have come before: strangers can keep one processor
// busy with that, not all of them.
func (v *view) now() *region {
	turn := v.waiting.Add(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if turn <= v.done {
		return v.whole
	}
	v.done = v.waiting.Load()
	heads := make([]byte, 0, v.size+headLen) // nearly always as much as the last time
	for h := range v.catalog.Heads() {
		heads = appendHead(heads, h)
	}
	v.whole, v.size = grow(v.whole, heads, 0), len(heads)
	return v.whole
}
