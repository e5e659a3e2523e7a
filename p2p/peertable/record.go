package peertable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/p2p/coordinate"
)

const (
	// MaxRecord bounds a sealed record in bytes: the most addresses of the greatest
	// length, and about 150 bytes of key, signature and point. Most take 200 to 300.
	MaxRecord = 2 << 10

	// maxAddrs and maxAddrLen bound the addresses of one peer: every interface of a
	// large host, TCP and QUIC, and relays.
	maxAddrs, maxAddrLen = 12, 128

	// domain and codec name the record to libp2p's signed envelopes, so that its
	// signature means nothing anywhere else.
	domain = "ggen-peer-record"
	codec  = "/ggen/peer/1"

	version = 1
)

// Record is what a peer says of itself: where it can be dialled and where it is in
// the network's coordinates. Only peers that answer DHT queries make one.
type Record struct {
	Peer  peer.ID
	Made  time.Time // to the second; the newest record of a peer counts
	Addrs []ma.Multiaddr
	At    coordinate.Point
}

// payload is a Record in libp2p's envelope: a version of 1 byte, the time in Unix
// seconds 8, the point 24, the number of addresses 1, and each with a length of
// 1 byte. The peer is the one whose key has signed.
type payload struct{ Record }

var _ record.Record = (*payload)(nil)

// Domain implements record.Record.
func (*payload) Domain() string { return domain }

// Codec implements record.Record.
func (*payload) Codec() []byte { return []byte(codec) }

// MarshalRecord implements record.Record.
func (p *payload) MarshalRecord() ([]byte, error) {
	if len(p.Addrs) == 0 {
		return nil, errors.New("a record without addresses")
	}
	b := []byte{version}
	b = binary.BigEndian.AppendUint64(b, uint64(p.Made.Unix()))
	b = p.At.Append(b)
	b = append(b, 0)
	count := len(b) - 1
	for _, addr := range p.Addrs {
		if b[count] < maxAddrs && len(addr.Bytes()) <= maxAddrLen {
			b = append(append(b, byte(len(addr.Bytes()))), addr.Bytes()...)
			b[count]++
		}
	}
	if b[count] == 0 {
		return nil, fmt.Errorf("no address of at most %d bytes", maxAddrLen)
	}
	return b, nil
}

// UnmarshalRecord implements record.Record.
func (p *payload) UnmarshalRecord(b []byte) error {
	const fixed = 1 + 8 + coordinate.Size + 1
	if len(b) < fixed || b[0] != version {
		return errors.New("no peer record of version 1")
	}
	seconds := binary.BigEndian.Uint64(b[1:])
	if seconds > 1<<40 {
		return errors.New("a time that cannot be")
	}
	p.Made = time.Unix(int64(seconds), 0).UTC()
	var err error
	if p.At, err = coordinate.Parse(b[9 : 9+coordinate.Size]); err != nil {
		return err
	}
	count, rest := int(b[fixed-1]), b[fixed:]
	if count == 0 || count > maxAddrs {
		return fmt.Errorf("%d addresses", count)
	}
	p.Addrs = make([]ma.Multiaddr, 0, count)
	for range count {
		if len(rest) == 0 || int(rest[0]) > len(rest)-1 || rest[0] > maxAddrLen {
			return errors.New("an address that ends too soon")
		}
		addr, err := ma.NewMultiaddrBytes(rest[1 : 1+rest[0]])
		if err != nil {
			return fmt.Errorf("an address: %w", err)
		}
		if _, err := addr.ValueForProtocol(ma.P_P2P); err == nil {
			return errors.New("an address that names a peer")
		}
		p.Addrs, rest = append(p.Addrs, addr), rest[1+rest[0]:]
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes too many", len(rest))
	}
	return nil
}

// Seal signs a record with the node's key. More addresses than a record holds are
// left out. It fails without an address.
func Seal(key crypto.PrivKey, rec Record) ([]byte, error) {
	envelope, err := record.Seal(&payload{rec}, key)
	if err != nil {
		return nil, fmt.Errorf("seal peer record: %w", err)
	}
	return envelope.Marshal()
}

// Open parses and verifies a sealed record. Whether it is too old is the table's
// business.
func Open(sealed []byte) (Record, error) {
	rec, _, err := open(sealed)
	return rec, err
}

// open is [Open], and gives what was signed, too.
func open(sealed []byte) (_ Record, signed []byte, err error) {
	if len(sealed) == 0 || len(sealed) > MaxRecord {
		return Record{}, nil, fmt.Errorf("a peer record of %d bytes; 1 to %d are allowed", len(sealed), MaxRecord)
	}
	var p payload
	envelope, err := record.ConsumeTypedEnvelope(sealed, &p)
	if err != nil {
		return Record{}, nil, fmt.Errorf("open peer record: %w", err)
	}
	if string(envelope.PayloadType) != codec {
		return Record{}, nil, fmt.Errorf("open peer record: it is of type %q", envelope.PayloadType)
	}
	if envelope.PublicKey.Type() != crypto.Ed25519 {
		return Record{}, nil, errors.New("open peer record: the key is not Ed25519")
	}
	if p.Peer, err = peer.IDFromPublicKey(envelope.PublicKey); err != nil {
		return Record{}, nil, fmt.Errorf("open peer record: %w", err)
	}
	return p.Record, envelope.RawPayload, nil
}
