package peertable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"
)

// snapshotHeader begins a snapshot: its format. Then follows for each peer the
// measured round trip in microseconds (4 bytes), the length of the sealed record (2)
// and the record.
var snapshotHeader = []byte("ggen peers 1\n")

// MaxSnapshot bounds a snapshot in bytes: as many peers as a table holds, with
// records of the greatest length.
const MaxSnapshot = 10_000 * (MaxRecord + 6)

// Snapshot is the table as bytes, for [Table.Restore].
func (t *Table) Snapshot() []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	entries := slices.SortedFunc(maps.Values(t.peers), func(a, b *entry) int { return bytes.Compare(a.key[:], b.key[:]) })
	b := bytes.Clone(snapshotHeader)
	for _, e := range entries {
		b = binary.BigEndian.AppendUint32(b, uint32(min(e.measured.Microseconds(), 1<<32-1)))
		b = binary.BigEndian.AppendUint16(b, uint16(len(e.sealed)))
		b = append(b, e.sealed...)
	}
	return b
}

// Restore takes what a snapshot holds and is still new. Each record is verified, which
// takes 0.1 ms. A damaged snapshot is an error; what came before the damage is taken.
func (t *Table) Restore(snapshot []byte) error {
	rest, ok := bytes.CutPrefix(snapshot, snapshotHeader)
	if !ok || len(snapshot) > MaxSnapshot {
		return errors.New("restore peers: no snapshot of this version")
	}
	for len(rest) > 0 {
		if len(rest) < 6 {
			return errors.New("restore peers: the snapshot ends too soon")
		}
		measured := time.Duration(binary.BigEndian.Uint32(rest)) * time.Microsecond
		size := int(binary.BigEndian.Uint16(rest[4:]))
		if rest = rest[6:]; size > len(rest) {
			return errors.New("restore peers: the snapshot ends too soon")
		}
		rec, err := t.Put(rest[:size])
		rest = rest[size:]
		switch {
		case err == nil:
			t.Measured(rec.Peer, measured)
		case errors.Is(err, ErrOld), errors.Is(err, ErrEarly), errors.Is(err, ErrCrowded):
		default:
			return err
		}
	}
	return nil
}
