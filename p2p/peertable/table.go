// Package peertable is what this node knows of the whole network: a signed record of
// every peer that answers DHT queries. With it the peers closest to a key are known
// without asking anybody, and so is about how far away each of them is.
//
// A record is made by the peer it is about ([Seal]), travels by gossip and is repaired
// like the catalogue, both of which the engine arranges; [Keeper] makes this node's own
// record and measures round trips. The table bounds what strangers can put into it:
// records of the last [Lifetime] only, few of one network block, [Config.Most] in all.
// It does not dial, and that a peer is in it does not mean that it is alive.
package peertable

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/p2p/coordinate"
	"ggen.dev/marketplace/p2p/netblock"
)

const (
	// Lifetime is how old a record can be: a peer that was not seen for a day is
	// forgotten by everybody. Its owner makes a new one every [Renewal].
	Lifetime = 24 * time.Hour

	// tooEarly is how far ahead of this node's clock a record can be from.
	tooEarly = 10 * time.Minute

	// dead is for how long a peer that could not be reached is passed over. Those who
	// come back are welcome within the minute, those who do not cost one dial of 1.5 s in
	// that time, beside others.
	dead = 45 * time.Second

	// smoothing is the weight of a new round trip in the average (RFC 6298: 1/8).
	smoothing = 8

	// maxRefused bounds the memory for records that found no place: 160 KB.
	maxRefused = 4096
)

// Why a record is not taken.
var (
	// ErrOld says that the table has this record of the peer or a newer one, or that it
	// has expired: nobody's fault.
	ErrOld = errors.New("the record is not new")
	// ErrEarly says that a record is from the future.
	ErrEarly = errors.New("the record is from the future")
	// ErrCrowded says that there are enough peers of its network block.
	ErrCrowded = errors.New("too many peers of one network block")
)

// Config bounds a [Table]; zero values mean the defaults.
type Config struct {
	// Most is the most peers that are kept; then the one that was seen longest ago
	// makes room. Default: 10,000, about 8 MB.
	Most int
	// PerBlock is how many peers of one public network block (IPv4 /24, IPv6 /48) are
	// kept: a block belongs to one owner, and identities cost nothing. Default: 8.
	// Negative: no bound, for simulations.
	PerBlock int
	// PerNetwork is the same for IPv4 /16 and IPv6 /32. Default: 128. Negative: no bound.
	PerNetwork int
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Table is the known peers. Its methods may be called concurrently.
type Table struct {
	cfg  Config
	self peer.ID

	mu     sync.RWMutex // guards the fields below
	peers  map[peer.ID]*entry
	byKey  map[[32]byte]*entry
	places []place // of all peers, in no order: what [Table.Closest] looks through
	blocks map[netip.Prefix]int
	// refused are records that found no place, by the peer's key: when they were made.
	refused map[[32]byte]int64
}

// entry is a peer. What is in a record is only read again when it is needed.
type entry struct {
	id        peer.ID
	key       [32]byte // its place in the DHT's space
	sealed    []byte
	signed    []byte // the part of sealed that has the addresses
	place     int    // in Table.places
	made      time.Time
	at        coordinate.Point
	blocks    []netip.Prefix
	measured  time.Duration // smoothed round trip; 0: never measured
	deadUntil time.Time
}

// place is the first 8 bytes of a peer's key, which decide about what is closest but for
// one pair in 2^64.
type place struct {
	key uint64
	e   *entry
}

// New makes an empty table for the node self.
func New(self peer.ID, cfg Config) *Table {
	if cfg.Most <= 0 {
		cfg.Most = 10_000
	}
	if cfg.PerBlock == 0 {
		cfg.PerBlock = 8
	}
	if cfg.PerNetwork == 0 {
		cfg.PerNetwork = 128
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Table{cfg: cfg, self: self, peers: map[peer.ID]*entry{}, byKey: map[[32]byte]*entry{}, blocks: map[netip.Prefix]int{}, refused: map[[32]byte]int64{}}
}

// Key is a peer's place in the DHT's space: the SHA-256 of its ID (Kademlia's XOR
// metric is on such keys).
func Key(p peer.ID) [32]byte { return sha256.Sum256([]byte(p)) }

// Put verifies a sealed record and takes it if it is news.
//
// Errors: [ErrOld], [ErrEarly] and [ErrCrowded], which an honest peer can cause; any
// other means that the record is forged or makes no sense.
func (t *Table) Put(sealed []byte) (Record, error) {
	rec, signed, err := open(sealed)
	if err != nil {
		return Record{}, err
	}
	now := t.cfg.Now()
	switch {
	case rec.Made.After(now.Add(tooEarly)):
		return rec, ErrEarly
	case now.Sub(rec.Made) > Lifetime:
		return rec, ErrOld
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.peers[rec.Peer]
	if old != nil && !rec.Made.After(old.made) {
		return rec, ErrOld
	}
	e := &entry{id: rec.Peer, key: Key(rec.Peer), sealed: bytes.Clone(sealed), made: rec.Made, at: rec.At, blocks: netblock.Of(rec.Addrs)}
	at := bytes.Index(e.sealed, signed) // wherever the same bytes are
	e.signed = e.sealed[at : at+len(signed)]
	if old != nil {
		e.measured = old.measured
		t.drop(old) // its places are the first that the new one may take
	}
	if rec.Peer != t.self && t.crowded(e.blocks) {
		if old != nil {
			t.add(old)
		}
		t.refuse(e)
		return rec, ErrCrowded
	}
	if len(t.peers) >= t.cfg.Most {
		t.makeRoom(now)
	}
	t.add(e)
	return rec, nil
}

func (t *Table) add(e *entry) {
	t.peers[e.id], t.byKey[e.key] = e, e
	e.place = len(t.places)
	t.places = append(t.places, place{binary.BigEndian.Uint64(e.key[:]), e})
	for _, b := range e.blocks {
		t.blocks[b]++
	}
}

// refuse remembers that there is no place for a record, so that it is not asked for
// again and again.
func (t *Table) refuse(e *entry) {
	if len(t.refused) >= maxRefused {
		clear(t.refused)
	}
	t.refused[e.key] = e.made.Unix()
}

func (t *Table) drop(e *entry) {
	delete(t.peers, e.id)
	delete(t.byKey, e.key)
	last := len(t.places) - 1
	t.places[e.place] = t.places[last]
	t.places[e.place].e.place = e.place
	t.places = slices.Delete(t.places, last, last+1)
	for _, b := range e.blocks {
		if t.blocks[b]--; t.blocks[b] == 0 {
			delete(t.blocks, b)
		}
	}
}

// makeRoom forgets what has expired, or else the peer seen longest ago.
func (t *Table) makeRoom(now time.Time) {
	var oldest *entry
	for _, e := range t.peers {
		if now.Sub(e.made) > Lifetime {
			t.drop(e)
		} else if e.id != t.self && (oldest == nil || e.made.Before(oldest.made)) {
			oldest = e
		}
	}
	if len(t.peers) >= t.cfg.Most && oldest != nil {
		t.drop(oldest)
	}
}

// crowded tells whether a block has no place for one more.
func (t *Table) crowded(blocks []netip.Prefix) bool {
	return slices.ContainsFunc(blocks, func(b netip.Prefix) bool {
		most := t.cfg.PerNetwork
		if netblock.Small(b) {
			most = t.cfg.PerBlock
		}
		return most >= 0 && t.blocks[b] >= most
	})
}

// Expire forgets the peers that were not seen for [Lifetime].
func (t *Table) Expire() {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.peers {
		if now.Sub(e.made) > Lifetime {
			t.drop(e)
		}
	}
}

// Size counts the peers, this node included once it has a record.
func (t *Table) Size() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.peers)
}

// Candidate is a peer that could be asked, and what is known of the way to it.
type Candidate struct {
	Peer     peer.ID
	Addrs    []ma.Multiaddr
	Measured time.Duration    // round trip; 0: never measured
	At       coordinate.Point // by its own word
}

// Closest are the count peers whose keys are closest to a place in the DHT's space,
// the closest first, without this node and without those that are [Table.Unreachable]
// now. 10,000 peers take less than 0.1 ms.
func (t *Table) Closest(key [32]byte, count int) []Candidate {
	if count <= 0 {
		return nil
	}
	now := t.cfg.Now()
	t.mu.RLock()
	defer t.mu.RUnlock()
	type near struct {
		distance uint64
		e        *entry
	}
	target := binary.BigEndian.Uint64(key[:])
	best := make([]near, 0, count+1)
	for _, p := range t.places {
		distance := target ^ p.key
		if len(best) == count && distance >= best[count-1].distance || p.e.id == t.self || now.Before(p.e.deadUntil) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, distance, func(n near, d uint64) int { return cmp.Compare(n.distance, d) })
		best = slices.Insert(best, at, near{distance, p.e})
		best = best[:min(len(best), count)]
	}
	candidates := make([]Candidate, len(best))
	for i, n := range best {
		candidates[i] = n.e.candidate()
	}
	return candidates
}

func (e *entry) candidate() Candidate {
	c := Candidate{Peer: e.id, Measured: e.measured, At: e.at}
	var p payload
	if p.UnmarshalRecord(e.signed) == nil { // verified before it was taken
		c.Addrs = p.Addrs
	}
	return c
}

// Get is what is known of one peer.
func (t *Table) Get(p peer.ID) (Candidate, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.peers[p]
	if e == nil {
		return Candidate{}, false
	}
	return e.candidate(), true
}

// Measured notes a round trip to a peer, which is alive then.
func (t *Table) Measured(p peer.ID, roundTrip time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.peers[p]
	if e == nil || roundTrip <= 0 {
		return
	}
	e.deadUntil = time.Time{}
	if e.measured == 0 {
		e.measured = roundTrip
	} else {
		e.measured += (roundTrip - e.measured) / smoothing
	}
}

// Unreachable notes that a peer could not be reached: it is passed over for 45 s.
func (t *Table) Unreachable(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.peers[p]; e != nil {
		e.deadUntil = t.cfg.Now().Add(dead)
	}
}

// Ref names one state of one peer's record, as reconciliation needs it.
type Ref struct {
	Key  [32]byte // the peer's place, see [Key]
	Made int64    // Unix seconds
	Hash [32]byte // of the sealed record
}

// Refs are all records that can be passed on, in the order of their keys.
func (t *Table) Refs() iter.Seq[Ref] {
	now := t.cfg.Now()
	t.mu.RLock()
	defer t.mu.RUnlock()
	entries := slices.DeleteFunc(slices.Collect(maps.Values(t.peers)), func(e *entry) bool { return now.Sub(e.made) > Lifetime })
	slices.SortFunc(entries, func(a, b *entry) int { return bytes.Compare(a.key[:], b.key[:]) })
	return func(yield func(Ref) bool) {
		for _, e := range entries {
			if !yield(Ref{e.key, e.made.Unix(), sha256.Sum256(e.sealed)}) {
				return
			}
		}
	}
}

// Wants tells whether a record that another peer has would be news.
func (t *Table) Wants(ref Ref) bool {
	made, now := time.Unix(ref.Made, 0), t.cfg.Now()
	if now.Sub(made) > Lifetime || made.After(now.Add(tooEarly)) {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.refused[ref.Key] >= ref.Made {
		return false
	}
	e := t.byKey[ref.Key]
	return e == nil || ref.Made > e.made.Unix()
}

// Sealed is the record of the peer at a place, nil if there is none.
func (t *Table) Sealed(key [32]byte) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.byKey[key]; e != nil {
		return e.sealed
	}
	return nil
}
