package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"
)

const (
	requestLen = 46
	headerLen  = 10

	opGet = 1

	flagZstd = 1 << 0
)

type status byte

const (
	statusOK         status = 0
	statusNotFound   status = 1
	statusBusy       status = 2
	statusNoRange    status = 3
	statusUnreadable status = 4
)

type encoding byte

const (
	encodingRaw  encoding = 0
	encodingZstd encoding = 1
)

// errProtocol is at the bottom of every error that only a peer which breaks the
// protocol can cause.
var errProtocol = errors.New("it breaks the protocol")

type request struct {
	zstd   bool
	sum    [32]byte
	offset int64
	length int
}

func (r request) append(b []byte) []byte {
	var flags byte
	if r.zstd {
		flags |= flagZstd
	}
	b = append(b, opGet, flags)
	b = append(b, r.sum[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.offset))
	return binary.BigEndian.AppendUint32(b, uint32(r.length))
}

func parseRequest(b []byte) (request, error) {
	if len(b) != requestLen {
		return request{}, fmt.Errorf("a request of %d bytes: %w", len(b), errProtocol)
	}
	r := request{zstd: b[1]&flagZstd != 0, sum: [32]byte(b[2:34])}
	offset, length := binary.BigEndian.Uint64(b[34:42]), binary.BigEndian.Uint32(b[42:46])
	switch {
	case b[0] != opGet:
		return request{}, fmt.Errorf("a request of type %d: %w", b[0], errProtocol)
	case length == 0 || length > MaxRange:
		return request{}, fmt.Errorf("a range of %d bytes: %w", length, errProtocol)
	case offset > math.MaxInt64-MaxRange:
		return request{}, fmt.Errorf("a range at %d: %w", offset, errProtocol)
	}
	r.offset, r.length = int64(offset), int(length)
	return r, nil
}

type header struct {
	status     status
	encoding   encoding
	body       int    // bytes that follow
	retryAfter uint32 // milliseconds
}

func (h header) append(b []byte) []byte {
	b = append(b, byte(h.status), byte(h.encoding))
	b = binary.BigEndian.AppendUint32(b, uint32(h.body))
	return binary.BigEndian.AppendUint32(b, h.retryAfter)
}

// parseHeader reads the header of the answer to req.
func parseHeader(b []byte, req request) (header, error) {
	if len(b) != headerLen {
		return header{}, fmt.Errorf("a header of %d bytes: %w", len(b), errProtocol)
	}
	body := binary.BigEndian.Uint32(b[2:6])
	h := header{status: status(b[0]), encoding: encoding(b[1]), retryAfter: binary.BigEndian.Uint32(b[6:10])}
	var fits bool
	switch {
	case h.status > statusUnreadable:
		return header{}, fmt.Errorf("an answer with status %d: %w", h.status, errProtocol)
	case h.status != statusOK:
		fits = body == 0
	case h.encoding == encodingRaw:
		fits = int64(body) == int64(req.length)
	case h.encoding == encodingZstd && req.zstd:
		fits = body > 0 && int64(body) < int64(req.length) && int64(body)*MaxRatio >= int64(req.length)
	default:
		return header{}, fmt.Errorf("an answer with encoding %d: %w", h.encoding, errProtocol)
	}
	if !fits {
		return header{}, fmt.Errorf("a body of %d bytes for a range of %d: %w", body, req.length, errProtocol)
	}
	h.body = int(body)
	return h, nil
}

// newDecoder makes a decoder that spends at most MaxRange bytes on one body,
// whatever the body says. It may be used concurrently and holds no goroutine.
func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxRange),
		zstd.WithDecoderMaxWindow(MaxRange))
}

// newEncoder makes an encoder for bodies; the fastest level, because the network
// or the next core is waiting.
func newEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(MaxRange),
		zstd.WithEncoderCRC(false))
}

// decode decodes a zstd body into dst, which has room for want bytes.
func decode(decoder *zstd.Decoder, body, dst []byte, want int) ([]byte, error) {
	data, err := decoder.DecodeAll(body, dst[:0])
	switch {
	case err != nil:
		return nil, fmt.Errorf("a body that is not zstd (%w): %w", err, errProtocol)
	case len(data) != want:
		return nil, fmt.Errorf("a body that decodes to %d bytes instead of %d: %w", len(data), want, errProtocol)
	}
	return data, nil
}
