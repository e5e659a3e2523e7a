package replicate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"ggen.dev/marketplace/shared"
)

// The types of frames.
const (
	typeHeads  byte = 1
	typeRange  byte = 2
	typeListed byte = 129
	typeSame   byte = 130
	typeUpdate byte = 131
	typeNone   byte = 132
	typeBusy   byte = 133
)

const (
	// pageHeads is how many heads one answer lists: 288 KiB.
	pageHeads = 4096

	headLen         = 32 + 8 + 32
	maxRequestFrame = 1 + 32 + 32 + 4
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

type headsRequest struct {
	fingerprint [32]byte
	after       [32]byte
	most        int
}

func (r headsRequest) frame() []byte {
	b := openFrame(nil, typeHeads)
	b = append(b, r.fingerprint[:]...)
	b = append(b, r.after[:]...)
	return closeFrame(binary.BigEndian.AppendUint32(b, uint32(r.most)), 0)
}

func parseHeadsRequest(body []byte) (headsRequest, error) {
	if len(body) != 32+32+4 {
		return headsRequest{}, fmt.Errorf("a request for heads of %d bytes: %w", len(body), errProtocol)
	}
	most := binary.BigEndian.Uint32(body[64:])
	if most == 0 || most > pageHeads {
		return headsRequest{}, fmt.Errorf("a request for %d heads: %w", most, errProtocol)
	}
	return headsRequest{[32]byte(body[:32]), [32]byte(body[32:64]), int(most)}, nil
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

// parseHeads reads the answer to req: heads in strictly ascending order, none of
// them before the cursor.
func parseHeads(body []byte, req headsRequest) (heads []Head, more bool, err error) {
	if len(body) == 0 || (len(body)-1)%headLen != 0 || (len(body)-1)/headLen > req.most || body[0] > 1 {
		return nil, false, fmt.Errorf("a list of heads of %d bytes: %w", len(body), errProtocol)
	}
	more = body[0] == 1
	last := hex.EncodeToString(req.after[:])
	first := req.after == [32]byte{}
	for rest := body[1:]; len(rest) > 0; rest = rest[headLen:] {
		h := Head{Publisher: shared.PublisherID(hex.EncodeToString(rest[:32])), Hash: [32]byte(rest[40:72])}
		size := binary.BigEndian.Uint64(rest[32:40])
		if size > maxLogSize {
			return nil, false, fmt.Errorf("a log of %d entries: %w", size, errProtocol)
		}
		h.Size = int64(size)
		if string(h.Publisher) <= last && !first {
			return nil, false, fmt.Errorf("heads out of order: %w", errProtocol)
		}
		first, last = false, string(h.Publisher)
		heads = append(heads, h)
	}
	if more && len(heads) == 0 {
		return nil, false, fmt.Errorf("more heads, but none of them: %w", errProtocol)
	}
	return heads, more, nil
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

// fingerprint stands for a whole set of heads.
func fingerprint(heads iter.Seq[Head]) [32]byte {
	hash := sha256.New()
	var buffer []byte
	for h := range heads {
		buffer = appendHead(buffer[:0], h)
		_, _ = hash.Write(buffer) // a hash takes everything
	}
	return [32]byte(hash.Sum(nil))
}

// rawID is zero for an ID that is not complete.
func rawID(id shared.PublisherID) (raw [32]byte) {
	if id.Complete() {
		_, _ = hex.Decode(raw[:], []byte(id)) // Complete has checked the digits
	}
	return raw
}
