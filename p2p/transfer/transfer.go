// Package transfer moves content between peers: a server that hands out ranges
// of blobs, and a client that takes one blob from several peers at once and
// never believes any of them.
//
// It does not know where blobs are kept ([Opener] and [Sink] are package store's
// business), who might have one (package routing; the caller hands candidates
// in), what a peer is worth (package reputation; [Observer] tells it), or what is
// in a blob (package archive).
//
// # Protocol /ggen/blob/1
//
// A client opens a libp2p stream and sends requests; the server answers each of
// them, in their order. A client may send further requests before the answers
// have arrived; the server reads them one by one. All integers are big-endian.
//
// A request has 46 bytes:
//
//	offset  length  meaning
//	     0       1  1: get a range
//	     1       1  flags: bit 0, the client accepts zstd; others are ignored
//	     2      32  SHA-256 of the blob
//	    34       8  offset of the first byte
//	    42       4  number of bytes, 1 to 262144
//
// An answer has a header of 10 bytes and a body:
//
//	offset  length  meaning
//	     0       1  status: 0 here it is; 1 not here; 2 busy; 3 no such range; 4 cannot be read
//	     1       1  encoding of the body: 0 raw, 1 one zstd frame
//	     2       4  number of bytes in the body
//	     6       4  with status 2: milliseconds after which to ask again; else 0
//
// With status 0 the decoded body has exactly the requested number of bytes; a
// zstd body is shorter than that, needs a window of at most 262144 bytes, and is
// only sent to a client that accepts it. With any other status the body is
// empty. A server with too many streams sends one answer with status 2 without
// waiting for a request, and closes. After status 2 the server reads no more.
//
// Whatever breaks these rules makes the other side reset the stream with the
// error code 0x1004 (protocol violation). The server ends a stream on which no
// request arrives for 30 s, or that takes an answer slower than 16 KiB/s (10 s
// are granted to every answer). Closing for writing tells the server that no
// further request will come.
//
// The range is not verified by the protocol: the receiver knows the digest of
// the blob, or of the piece that the range is.
package transfer

import (
	"context"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"ggen.dev/marketplace/shared"
)

// Protocol is the stream protocol that is spoken here.
const Protocol protocol.ID = "/ggen/blob/1"

// MaxRange bounds one answer in bytes, and so the pieces of what is fetched. It is
// the chunk size of packages: one chunk is one answer. Doubling it doubles the memory
// that a full server needs.
const MaxRange = 256 << 10

// MaxRatio is how many times smaller than its content a compressed body may be. One
// that claims more is a protocol error; what packs better is sent as it is.
const MaxRatio = 200

// Blob is content that can be read at any place, concurrently.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Opener opens blobs for the server. It returns an error that matches
// fs.ErrNotExist for a blob that is not here.
type Opener func(digest shared.Digest) (Blob, error)

// Piece is a range of a blob that can be verified when it is here, whoever sent it.
type Piece struct {
	Offset int64
	Length int // 1 to [MaxRange]
}

// Sink takes the pieces of one download. Its methods are called concurrently.
type Sink interface {
	// Missing lists the pieces that are needed, in order. It is called once.
	Missing() []Piece
	// Write verifies data and records it as the piece that Missing has listed at
	// place i. It returns an error that matches shared.ReasonIntegrity when data is
	// something else: then the peer that sent it is a liar. Any other error ends the
	// download. It must not keep data.
	Write(i int, data []byte) error
	// Commit is called once, when nothing is missing any more.
	Commit() error
	// Close is called once at the end, whatever happened.
	Close() error
}

// Kind says how dealing with a peer went.
type Kind string

// The kinds of outcomes. Only the last two are a peer's fault beyond doubt.
const (
	Delivered    Kind = "delivered"    // it sent verified content
	Absent       Kind = "absent"       // it does not have the blob, or does not speak the protocol
	Busy         Kind = "busy"         // it refused for now
	Unreachable  Kind = "unreachable"  // no connection
	Disconnected Kind = "disconnected" // the stream broke, or it could not read the blob
	Stalled      Kind = "stalled"      // it stopped sending
	Malformed    Kind = "malformed"    // it broke the protocol
	WrongContent Kind = "wrong-content"
)

// Outcome is what one download learnt about one peer. A peer that delivered and
// then failed has two.
type Outcome struct {
	Peer      peer.ID
	Kind      Kind
	Bytes     int64         // verified content; only with Delivered
	Took      time.Duration // while at least one request was unanswered
	FirstByte time.Duration // from the first request to its answer; 0 when there was none
}

// Observer is told outcomes, each in the context of its download. It is called
// concurrently, also by downloads whose caller has left, and must return soon.
type Observer func(ctx context.Context, o Outcome)
