package publisher

import (
	"bytes"
	"encoding/binary"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxProven bounds the entries of one [Proven].
const MaxProven = 1024

// Proven is some entries of a publisher's log, each with the proof that it is under one
// signed head: what a reader needs who does not keep logs.
type Proven struct {
	Roots   [][]byte
	Head    []byte
	Entries []ProvenEntry // by their place in the log
}

// ProvenEntry is one entry, and the proof that the head's tree has it at its place.
type ProvenEntry struct {
	At    int64
	Entry []byte
	Proof tlog.RecordProof
}

// provenMagic begins every Proven; the digit is the format's version.
const provenMagic = "gP1"

// Append encodes p: the magic, the root documents, the head, the number of entries, and
// of each its place, its bytes and its proof. Numbers and lengths are unsigned varints,
// as in an [Update].
func (p Proven) Append(b []byte) []byte {
	b = append(b, provenMagic...)
	b = appendParts(b, p.Roots)
	b = appendPart(b, p.Head)
	b = binary.AppendUvarint(b, uint64(len(p.Entries)))
	for _, e := range p.Entries {
		b = binary.AppendUvarint(b, uint64(e.At))
		b = appendPart(b, e.Entry)
		b = appendHashes(b, e.Proof)
	}
	return b
}

// ParseProven reads what [Proven.Append] wrote. It checks limits, not proofs. Errors:
// ErrInvalid.
func ParseProven(data []byte) (Proven, error) {
	rest, ok := bytes.CutPrefix(data, []byte(provenMagic))
	if !ok || len(data) > MaxUpdateSize {
		return Proven{}, invalid("the bytes are not entries with proofs of format %s", provenMagic)
	}
	parse := parser{rest: rest}
	p := Proven{Roots: parse.parts(MaxRoots, MaxRootSize), Head: parse.part(MaxHeadSize)}
	for range parse.number(MaxProven) {
		if parse.failed {
			break
		}
		e := ProvenEntry{At: int64(parse.number(MaxLogSize)), Entry: parse.part(MaxEntrySize)}
		e.Proof = parse.hashes()
		p.Entries = append(p.Entries, e)
	}
	if parse.failed || len(parse.rest) != 0 {
		return Proven{}, invalid("entries with proofs are cut off or have extra bytes")
	}
	return p, nil
}

// Verify checks the chain of roots, the head's signature, every proof and every entry.
// The parsed entries are in the order of p.Entries, which must be that of the log.
// Errors: ErrInvalid, ErrStale.
func (p Proven) Verify(now time.Time) (Verified, error) {
	chain, err := ParseChain(p.Roots)
	if err != nil {
		return Verified{}, err
	}
	head, err := OpenHead(p.Head, chain, now)
	if err != nil {
		return Verified{}, err
	}
	v := Verified{Chain: chain, Head: head}
	last := int64(-1)
	for _, e := range p.Entries {
		if e.At <= last || e.At >= head.Size {
			return Verified{}, invalid("entry %d of %d comes after entry %d", e.At, head.Size, last)
		}
		last = e.At
		if err := tlog.CheckRecord(e.Proof, head.Size, head.Hash, e.At, tlog.RecordHash(e.Entry)); err != nil {
			return Verified{}, invalid("inclusion proof of entry %d: %w", e.At, err)
		}
		parsed, err := ParseEntry(e.Entry, now)
		if err != nil {
			return Verified{}, err
		}
		if parsed.Publisher != chain.ID {
			return Verified{}, invalid("entry %d of %s is %s's", e.At, chain.ID.Short(), parsed.Publisher.Short())
		}
		v.Entries = append(v.Entries, parsed)
	}
	return v, nil
}
