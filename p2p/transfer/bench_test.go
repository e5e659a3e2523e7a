package transfer_test

import (
	"crypto/sha256"
	"io"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

// verifier is a sink that checks chunks and forgets them.
type verifier struct {
	missing []transfer.Piece
	chunks  []shared.Digest
}

func (v *verifier) Missing() []transfer.Piece { return v.missing }
func (v *verifier) Commit() error             { return nil }
func (v *verifier) Close() error              { return nil }
func (v *verifier) Write(i int, data []byte) error {
	if shared.DigestOf(data) != v.chunks[i] {
		return shared.NewError(shared.ReasonIntegrity, "chunk %d", i)
	}
	return nil
}

// BenchmarkLoopback64MiB compares, in one run, a raw libp2p stream whose receiver
// hashes what it gets with a download that verifies, and one that also stores.
func BenchmarkLoopback64MiB(b *testing.B) {
	const size = 64 << 20
	data := content(size)
	digest := shared.DigestOf(data)
	server := serving(b, digest, memory{data: data}, transfer.Limits{})
	server.SetStreamHandler("/raw", func(s network.Stream) {
		_, _ = s.Read(make([]byte, 1))
		for off := 0; off < size; off += chunkSize {
			if _, err := s.Write(data[off : off+chunkSize]); err != nil {
				break
			}
		}
		_ = s.Close()
	})
	into := newTarget(b, b.TempDir(), data)
	all := make([]int, size/chunkSize)
	for i := range all {
		all[i] = i
	}
	b.Run("raw", func(b *testing.B) {
		h := loopbackHost(b)
		if err := h.Connect(b.Context(), info(server)); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
		buffer := make([]byte, chunkSize)
		for b.Loop() {
			s, err := h.NewStream(b.Context(), server.ID(), "/raw")
			if err != nil {
				b.Fatal(err)
			}
			_, _ = s.Write([]byte{1})
			hash := sha256.New()
			n, err := io.CopyBuffer(hash, struct{ io.Reader }{s}, buffer)
			if err != nil || n != size || shared.DigestFromSum([32]byte(hash.Sum(nil))) != digest {
				b.Fatal(n, err)
			}
			_ = s.Close()
		}
	})
	b.Run("verified", func(b *testing.B) {
		c := client(b, transfer.Config{})
		b.SetBytes(size)
		for b.Loop() {
			open := func() (transfer.Sink, error) { return &verifier{pieces(size, all), into.chunks}, nil }
			if _, err := c.Fetch(b.Context(), into.want, open, candidates(info(server)), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stored", func(b *testing.B) {
		c := client(b, transfer.Config{})
		b.SetBytes(size)
		for b.Loop() {
			if _, err := c.Fetch(b.Context(), into.want, into.open, candidates(info(server)), nil); err != nil {
				b.Fatal(err)
			}
			if err := into.store.Delete(digest); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSmall fetches 30 KB from a peer that is connected, and from one that
// is not.
func BenchmarkSmall(b *testing.B) {
	data := content(30 << 10)
	digest := shared.DigestOf(data)
	server := serving(b, digest, memory{data: data}, transfer.Limits{})
	fetch := func(b *testing.B, c *transfer.Client, p peer.AddrInfo) {
		if _, _, err := c.FetchBlobs(b.Context(), []transfer.Want{{digest, int64(len(data))}}, 1<<20, candidates(p)); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("connected", func(b *testing.B) {
		c := client(b, transfer.Config{})
		for b.Loop() {
			fetch(b, c, info(server))
		}
	})
	b.Run("stranger", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			c := client(b, transfer.Config{})
			b.StartTimer()
			fetch(b, c, info(server))
		}
	})
}
