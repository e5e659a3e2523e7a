package publisher

import (
	"errors"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// The Merkle tree is RFC 6962's, by golang.org/x/mod/sumdb/tlog. What is added
// here is the form in which pieces of it travel: any range of records is the
// concatenation of complete subtrees, the largest that fit; so the hashes of
// those of [0, from), then the records [from, end), then the hashes of those of
// [end, size) determine the root, and each of them can be compared with what the
// receiver holds. (Known as compact ranges.)

// MaxLogSize bounds the number of entries that a head may claim. It keeps sums
// of sizes far from overflowing; storing less is up to the catalogue.
const MaxLogSize = 1 << 40

// Node names the root of a complete subtree: the records [N<<Level, (N+1)<<Level).
type Node struct {
	Level int
	N     int64
}

// Cover lists the largest complete subtrees that make up the records [lo, hi),
// in order. There are less than 2·log₂(hi) of them, and none when lo = hi.
func Cover(lo, hi int64) []Node {
	var cover []Node
	for lo < hi {
		level := bits.Len64(uint64(hi-lo)) - 1
		if lo > 0 {
			level = min(level, bits.TrailingZeros64(uint64(lo)))
		}
		cover = append(cover, Node{level, lo >> level})
		lo += 1 << level
	}
	return cover
}

// frontier is the state of a tree that grows to the right: the hashes of
// Cover(0, size), one for each bit that is set in size.
type frontier struct {
	size   int64
	hashes []tlog.Hash
}

// add appends the root of a complete subtree of 1<<level records. The size must
// be a multiple of that, which holds whenever the levels are those of a Cover.
func (f *frontier) add(level int, hash tlog.Hash) {
	for carry := f.size >> level; carry&1 == 1; carry >>= 1 {
		last := len(f.hashes) - 1
		hash = tlog.NodeHash(f.hashes[last], hash)
		f.hashes = f.hashes[:last]
	}
	f.hashes = append(f.hashes, hash)
	f.size += 1 << level
}

func (f *frontier) root() tlog.Hash {
	if f.size == 0 {
		return emptyRoot()
	}
	hash := f.hashes[len(f.hashes)-1]
	for i := len(f.hashes) - 2; i >= 0; i-- {
		hash = tlog.NodeHash(f.hashes[i], hash)
	}
	return hash
}

// emptyRoot is the hash of the tree without records.
func emptyRoot() tlog.Hash {
	hash, _ := tlog.TreeHash(0, nil) // reads nothing, so it cannot fail
	return hash
}

// Pieces are the hashes of some complete subtrees of one tree. It is a
// tlog.HashReader for every hash that follows from them.
type Pieces map[Node]tlog.Hash

// Add files the hashes under the nodes of the cover of [lo, hi).
func (p Pieces) Add(lo, hi int64, hashes []tlog.Hash) {
	for i, node := range Cover(lo, hi) {
		if i < len(hashes) {
			p[node] = hashes[i]
		}
	}
}

var errUnknownHash = errors.New("the hash does not follow from the pieces")

// ReadHashes implements tlog.HashReader.
func (p Pieces) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		hash, ok := p.hash(Node{level, n})
		if !ok {
			return nil, errUnknownHash
		}
		hashes[i] = hash
	}
	return hashes, nil
}

func (p Pieces) hash(node Node) (tlog.Hash, bool) {
	if hash, ok := p[node]; ok || node.Level == 0 {
		return hash, ok
	}
	left, ok := p.hash(Node{node.Level - 1, 2 * node.N})
	if !ok {
		return left, false
	}
	right, ok := p.hash(Node{node.Level - 1, 2*node.N + 1})
	return tlog.NodeHash(left, right), ok
}

// ReadCover reads the hashes of the cover of [lo, hi).
func ReadCover(lo, hi int64, reader tlog.HashReader) ([]tlog.Hash, error) {
	cover := Cover(lo, hi)
	indexes := make([]int64, len(cover))
	for i, node := range cover {
		indexes[i] = tlog.StoredHashIndex(node.Level, node.N)
	}
	return reader.ReadHashes(indexes)
}
