// Package ask is how a peer that keeps no catalogue gets answers from those that do:
// which packages fit a search, and everything that is said about one package. Every
// entry in an answer comes with the proof that its publisher's log has it, so the asker
// believes nobody; who keeps something back is made up for by asking several.
//
// The package carries opaque parts (package publisher's Proven) and verifies nothing:
// the caller does, and tells whether an answer was honest.
//
// # Protocol /ggen/ask/1
//
// A client opens a stream, sends one request and reads one answer. Both are frames: a
// length of 4 bytes, big-endian, which counts what follows it, a type of 1 byte, and a
// body. Numbers in bodies are unsigned varints, texts have their length in front.
//
//	request  type  body
//	search   1     texts: words, category, tag, publisher, license, order; limit
//	package  2     texts: name, publisher (empty: all)
//
//	answer   type  body
//	found    129   how many packages fit in all; the number of parts; each part with its length
//	busy     133   milliseconds 4
//
// A request has at most 4 KiB, an answer 512 KiB. A server that has answered enough for
// now says busy, and for how long.
package ask

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"ggen.dev/marketplace/shared"
)

// Protocol is the stream protocol that is spoken here.
const Protocol protocol.ID = "/ggen/ask/1"

// Bounds on what is sent, in bytes and counts.
const (
	MaxRequest = 4 << 10
	MaxAnswer  = 512 << 10
	// MaxParts bounds the parts of an answer: one for each publisher.
	MaxParts = 256
	// MaxHits bounds the packages that one search may ask for.
	MaxHits = 100
)

const (
	typeSearch  = 1
	typePackage = 2
	typeFound   = 129
	typeBusy    = 133

	// maxText bounds one text of a request.
	maxText = 1 << 10
)

// Request is a question: a search, or with Name everything about one package.
type Request struct {
	Name      string             // of a package; empty: a search
	Publisher shared.PublisherID // whose; in a search a filter; empty: anybody's

	Text, Category, Tag, License string
	Sort                         shared.SearchOrder
	Limit                        int // packages; at most [MaxHits]
}

// Answer is what a peer knows.
type Answer struct {
	Total int      // packages that fit, in all
	Parts [][]byte // opaque to this package
}

// Add puts one more part into the answer, if there is room bytes for it, and returns
// the room that is left.
func (a *Answer) Add(part []byte, room int) int {
	if len(part)+8 > room || len(a.Parts) == MaxParts {
		return room
	}
	a.Parts = append(a.Parts, part)
	return room - len(part) - 8
}

// ErrProtocol is at the bottom of every error that only a peer which breaks the protocol can
// cause.
var ErrProtocol = errors.New("it broke the protocol")

var errTooLarge = fmt.Errorf("a frame that is too large: %w", ErrProtocol)

func (q Request) marshal() []byte {
	kind, texts := byte(typeSearch), []string{q.Text, q.Category, q.Tag, string(q.Publisher), q.License, string(q.Sort)}
	if q.Name != "" {
		kind, texts = typePackage, []string{q.Name, string(q.Publisher)}
	}
	var body []byte
	for _, text := range texts {
		body = append(binary.AppendUvarint(body, uint64(len(text))), text...)
	}
	if q.Name == "" {
		body = binary.AppendUvarint(body, uint64(q.Limit))
	}
	return frame(kind, body)
}

func parseRequest(kind byte, body []byte) (q Request, err error) {
	r := reader{rest: body}
	switch kind {
	case typeSearch:
		q = Request{Text: r.text(), Category: r.text(), Tag: r.text(), Publisher: shared.PublisherID(r.text()), License: r.text(), Sort: shared.SearchOrder(r.text())}
		q.Limit = r.number(MaxHits)
		if q.Sort != "" && !slices.Contains(shared.SearchOrders(), q.Sort) {
			return q, ErrProtocol
		}
	case typePackage:
		q = Request{Name: r.text(), Publisher: shared.PublisherID(r.text())}
		if shared.CheckName(q.Name) != nil {
			return q, ErrProtocol
		}
	default:
		return q, ErrProtocol
	}
	if r.failed || len(r.rest) > 0 {
		return q, ErrProtocol
	}
	return q, nil
}

func (a Answer) marshal() []byte {
	body := binary.AppendUvarint(nil, uint64(a.Total))
	body = binary.AppendUvarint(body, uint64(len(a.Parts)))
	for _, part := range a.Parts {
		body = append(binary.AppendUvarint(body, uint64(len(part))), part...)
	}
	return frame(typeFound, body)
}

func parseAnswer(body []byte) (a Answer, err error) {
	r := reader{rest: body}
	a.Total = r.number(1 << 30)
	for range r.number(MaxParts) {
		a.Parts = append(a.Parts, r.bytes(MaxAnswer))
	}
	if r.failed || len(r.rest) > 0 {
		return Answer{}, ErrProtocol
	}
	return a, nil
}

// reader takes a body apart; after the first failure it yields nothing.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) number(most int) int {
	n, size := binary.Uvarint(r.rest)
	if r.failed || size <= 0 || n > uint64(most) {
		r.failed = true
		return 0
	}
	r.rest = r.rest[size:]
	return int(n)
}

func (r *reader) bytes(most int) []byte {
	n := r.number(most)
	if r.failed || n > len(r.rest) {
		r.failed = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes(maxText)) }

func frame(kind byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(body)))
	return append(append(b, kind), body...)
}

func readFrame(r io.Reader, most int) (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[:4])
	if size == 0 || size > uint32(most) {
		return 0, nil, errTooLarge
	}
	body = make([]byte, size-1)
	_, err = io.ReadFull(r, body)
	return head[4], body, err
}

const (
	// fanout is how many peers are asked at once, and askTimeout how long each may take;
	// the dial is part of it.
	fanout     = 4
	askTimeout = 4 * time.Second

	// grace is how long the first good answer waits for others to be merged with,
	// emptyGrace one of a peer that knows nothing: it does not speak for all.
	grace      = 150 * time.Millisecond
	emptyGrace = time.Second
)

// BusyError is a refusal: the peer asks to be left alone for a while.
type BusyError time.Duration

// Error implements error.
func (b BusyError) Error() string { return fmt.Sprintf("it is busy for %s", time.Duration(b)) }

// Peers asks several peers the same at once, in the given order, and hands take every
// answer; take verifies it, and its error means that the answer was not good. failed is
// told of everybody who gave no good answer ([BusyError] if it was asked too much). It
// returns how many good answers there were: after the first of them that has something it
// waits 150 ms for others, after the first that has nothing a second, and asks nobody more. The error is the last failure when there was none.
func Peers(ctx context.Context, h host.Host, peers []peer.AddrInfo, q Request, take func(p peer.ID, a Answer) error, failed func(p peer.ID, err error)) (good int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	type outcome struct {
		from   peer.ID
		answer Answer
		err    error
	}
	outcomes := make(chan outcome, fanout)
	waiting := 0
	defer func() { // leave no goroutine behind
		cancel()
		for ; waiting > 0; waiting-- {
			<-outcomes
		}
	}()
	var enough <-chan time.Time
	known := false
	for {
		for good == 0 && waiting < fanout && len(peers) > 0 {
			p := peers[0]
			peers = peers[1:]
			waiting++
			go func() {
				a, err := one(ctx, h, p, q)
				outcomes <- outcome{p.ID, a, err}
			}()
		}
		if waiting == 0 {
			return good, err
		}
		select {
		case <-ctx.Done():
			return good, ctx.Err()
		case <-enough:
			return good, nil
		case o := <-outcomes:
			waiting--
			if o.err == nil {
				o.err = take(o.from, o.answer)
			}
			if o.err != nil {
				err = fmt.Errorf("ask %s: %w", o.from, o.err)
				if ctx.Err() == nil {
					failed(o.from, o.err)
				}
				continue
			}
			good++
			switch something := len(o.answer.Parts) > 0; {
			case something && !known:
				known = true
				enough = time.After(grace)
			case good == 1:
				enough = time.After(emptyGrace)
			}
		}
	}
}

// one asks one peer.
func one(ctx context.Context, h host.Host, to peer.AddrInfo, q Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(network.WithDialPeerTimeout(ctx, askTimeout/2), askTimeout)
	defer cancel()
	if len(to.Addrs) > 0 {
		if err := h.Connect(ctx, to); err != nil {
			return Answer{}, err
		}
	}
	s, err := h.NewStream(ctx, to.ID, Protocol)
	if err != nil {
		return Answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	a, err := exchange(s, q)
	if err != nil {
		_ = s.Reset() // it may be gone already
		return Answer{}, errors.Join(err, ctx.Err())
	}
	_ = s.Close() // all has been read
	return a, nil
}

func exchange(s io.ReadWriter, q Request) (Answer, error) {
	if _, err := s.Write(q.marshal()); err != nil {
		return Answer{}, err
	}
	kind, body, err := readFrame(s, MaxAnswer+16)
	switch {
	case err != nil:
		return Answer{}, err
	case kind == typeBusy && len(body) == 4:
		return Answer{}, BusyError(time.Duration(binary.BigEndian.Uint32(body)) * time.Millisecond)
	case kind != typeFound:
		return Answer{}, ErrProtocol
	}
	return parseAnswer(body)
}
