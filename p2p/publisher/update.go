package publisher

import (
	"bytes"
	"encoding/binary"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Limits on one update, in bytes and counts.
const (
	MaxUpdateSize    = 1 << 20 // a message between peers, and between host and engine
	MaxUpdateEntries = 4096
	maxProof         = 64 // hashes; 2^64 entries would need no more
)

// Update is a piece of a publisher's log: the chain of root documents, a signed
// head, and the entries From, From+1, ….
//
// A receiver that holds the first From entries verifies the piece by computing
// the tree anew. If the piece ends before the head's size, Consistency proves
// that the tree so far is a prefix of the head's. Base says and proves what the
// head's tree was before the piece: where that is not what the receiver holds,
// the publisher has signed two different logs, and this is the proof. A receiver
// that holds nothing verifies a single entry by its Inclusion proof.
type Update struct {
	Roots       [][]byte
	Head        []byte
	From        int64
	Entries     [][]byte
	Inclusion   tlog.RecordProof // of the last entry in the head's tree; may be empty
	Consistency tlog.TreeProof   // of the tree of size From+len(Entries) in the head's; may be empty
	Base        Prefix           // of the tree of size From in the head's; may be empty
}

// Prefix is the hash of a log's first entries, and the proof that a larger tree
// begins with them. Which sizes is said by what holds the prefix.
type Prefix struct {
	Hash  tlog.Hash      `json:"hash"`
	Proof tlog.TreeProof `json:"proof,omitempty"` // empty if both sizes are the same
}

// check verifies that the tree of head begins with size entries of this hash.
func (p Prefix) check(size int64, head Head) error {
	if size == head.Size && p.Hash == head.Hash && len(p.Proof) == 0 {
		return nil
	}
	return tlog.CheckTree(p.Proof, head.Size, head.Hash, size, p.Hash)
}

func (p Prefix) empty() bool { return len(p.Proof) == 0 }

// updateMagic begins every update; the digit is the format's version.
const updateMagic = "gU1"

// Marshal gives the wire form: the magic, then length-prefixed parts in the
// order of the struct; all numbers are unsigned varints. Base is one list of
// hashes: none, or its hash and then its proof.
func (u Update) Marshal() []byte {
	b := []byte(updateMagic)
	b = appendParts(b, u.Roots)
	b = appendPart(b, u.Head)
	b = binary.AppendUvarint(b, uint64(u.From))
	b = appendParts(b, u.Entries)
	b = appendHashes(b, u.Inclusion)
	b = appendHashes(b, u.Consistency)
	if u.Base.empty() {
		return appendHashes(b, nil)
	}
	return appendHashes(b, append([]tlog.Hash{u.Base.Hash}, u.Base.Proof...))
}

func appendPart(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

func appendParts(b []byte, parts [][]byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for _, part := range parts {
		b = appendPart(b, part)
	}
	return b
}

func appendHashes(b []byte, hashes []tlog.Hash) []byte {
	b = binary.AppendUvarint(b, uint64(len(hashes)))
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

// ParseUpdate reads the wire form. It checks limits, not signatures.
func ParseUpdate(data []byte) (Update, error) {
	if len(data) > MaxUpdateSize {
		return Update{}, invalid("the update has %d bytes; %d are allowed", len(data), MaxUpdateSize)
	}
	rest, ok := bytes.CutPrefix(data, []byte(updateMagic))
	if !ok {
		return Update{}, invalid("the bytes are not an update of format %s", updateMagic)
	}
	p := parser{rest: rest}
	u := Update{Roots: p.parts(MaxRoots, MaxRootSize), Head: p.part(MaxHeadSize)}
	u.From = int64(p.number(MaxLogSize))
	u.Entries = p.parts(MaxUpdateEntries, MaxEntrySize)
	u.Inclusion = p.hashes()
	u.Consistency = p.hashes()
	switch base := p.hashes(); len(base) {
	case 0:
	case 1: // a hash that nothing proves
		p.failed = true
	default:
		u.Base = Prefix{Hash: base[0], Proof: base[1:]}
	}
	if p.failed || len(p.rest) != 0 {
		return Update{}, invalid("the update is cut off or has extra bytes")
	}
	return u, nil
}

// parser reads the parts of an update; after the first failure it yields nothing.
type parser struct {
	rest   []byte
	failed bool
}

func (p *parser) number(most uint64) uint64 {
	n, size := binary.Uvarint(p.rest)
	if p.failed || size <= 0 || n > most {
		p.failed = true
		return 0
	}
	p.rest = p.rest[size:]
	return n
}

func (p *parser) part(most int) []byte {
	n := int(p.number(uint64(most)))
	if p.failed || n > len(p.rest) {
		p.failed = true
		return nil
	}
	part := p.rest[:n:n]
	p.rest = p.rest[n:]
	return part
}

func (p *parser) parts(count, most int) (parts [][]byte) {
	for range p.number(uint64(count)) {
		if p.failed {
			return nil
		}
		parts = append(parts, p.part(most))
	}
	return parts
}

func (p *parser) hashes() (hashes []tlog.Hash) {
	for range p.number(maxProof) {
		if p.failed || len(p.rest) < tlog.HashSize {
			p.failed = true
			return nil
		}
		hashes = append(hashes, tlog.Hash(p.rest[:tlog.HashSize]))
		p.rest = p.rest[tlog.HashSize:]
	}
	return hashes
}

// Verified is an update whose signatures and proofs hold by themselves.
type Verified struct {
	Chain   Chain
	Head    Head
	Entries []Entry // parsed; the last one is proven to be in the head's tree
}

// Verify checks everything that can be checked without knowing the log: the
// chain of roots, the head's signature, the form of the entries and, when there
// are entries, the proof that the last one is the head's newest. It is what a
// gossip validator asks before it forwards. Errors: ErrInvalid, ErrStale.
func (u Update) Verify(now time.Time) (Verified, error) {
	chain, err := ParseChain(u.Roots)
	if err != nil {
		return Verified{}, err
	}
	return u.VerifyUnder(chain, now)
}

// VerifyUnder is [Update.Verify] where the chain of roots is verified already.
func (u Update) VerifyUnder(chain Chain, now time.Time) (Verified, error) {
	head, err := OpenHead(u.Head, chain, now)
	if err != nil {
		return Verified{}, err
	}
	v := Verified{Chain: chain, Head: head}
	if v.Entries, err = u.parseEntries(chain, now); err != nil {
		return Verified{}, err
	}
	if len(u.Entries) == 0 {
		return v, nil
	}
	last := u.From + int64(len(u.Entries)) - 1
	if last != head.Size-1 {
		return Verified{}, invalid("the update ends at entry %d of %d", last, head.Size)
	}
	if err := tlog.CheckRecord(u.Inclusion, head.Size, head.Hash, last, tlog.RecordHash(u.Entries[len(u.Entries)-1])); err != nil {
		return Verified{}, invalid("inclusion proof: %w", err)
	}
	return v, nil
}

func (u Update) parseEntries(chain Chain, now time.Time) ([]Entry, error) {
	entries := make([]Entry, 0, len(u.Entries))
	for i, data := range u.Entries {
		e, err := ParseEntry(data, now)
		if err != nil {
			return nil, err
		}
		if e.Publisher != chain.ID {
			return nil, invalid("entry %d of %s is %s's", u.From+int64(i), chain.ID.Short(), e.Publisher.Short())
		}
		if r := e.Root; r != nil && (r.Version > len(chain.Roots) || r.Digest != chain.DigestOf(r.Version-1)) {
			return nil, invalid("entry %d of %s names a root document %d that is not one", u.From+int64(i), chain.ID.Short(), r.Version)
		}
		entries = append(entries, e)
	}
	return entries, nil
}
