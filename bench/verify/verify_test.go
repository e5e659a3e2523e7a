package verify

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"

	"lukechampine.com/blake3/bao"
)

const (
	size  = 64 << 20
	chunk = 256 << 10 // of the archive format
)

// groups are the sizes of what Bao verifies at once: 2^group chunks of 1 KiB each.
var groups = []int{0, 4, 8} // 1, 16 and 256 KiB

func content(tb testing.TB) []byte {
	tb.Helper()
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		tb.Fatal(err)
	}
	return data
}

// report says what a receiver must be told besides the bytes.
func report(b *testing.B, overhead int) {
	b.Helper()
	b.ReportMetric(100*float64(overhead)/size, "overhead-%")
}

// BenchmarkPublish is what a publisher computes once: the digest of all, and what others
// need to verify parts of it.
func BenchmarkPublish(b *testing.B) {
	data := content(b)
	b.Run("chunk list", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			whole := sha256.New()
			for part := range parts(data) {
				_, _ = whole.Write(part)
				_ = sha256.Sum256(part)
			}
			_ = whole.Sum(nil)
		}
		report(b, size/chunk*sha256.Size)
	})
	for _, group := range groups {
		b.Run(fmt.Sprintf("bao of %d KiB", 1<<group), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				_, _ = bao.EncodeBuf(data, group, true)
			}
			report(b, bao.EncodedSize(size, group, true))
		})
	}
}

// BenchmarkVerify is what every receiver computes: that a stream is the content, part by
// part, in order.
func BenchmarkVerify(b *testing.B) {
	data := content(b)
	b.Run("chunk list", func(b *testing.B) {
		var list [][sha256.Size]byte
		for part := range parts(data) {
			list = append(list, sha256.Sum256(part))
		}
		b.SetBytes(size)
		for b.Loop() {
			i := 0
			for part := range parts(data) {
				if sha256.Sum256(part) != list[i] {
					b.Fatal("a chunk is wrong")
				}
				i++
			}
		}
		report(b, len(list)*sha256.Size)
	})
	for _, group := range groups {
		tree, root := bao.EncodeBuf(data, group, true)
		b.Run(fmt.Sprintf("bao of %d KiB", 1<<group), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if ok, err := bao.Decode(io.Discard, bytes.NewReader(data), bytes.NewReader(tree), group, root); !ok || err != nil {
					b.Fatal(errors.Join(err, errors.New("the content is wrong")))
				}
			}
			report(b, len(tree))
		})
	}
}

// BenchmarkChunk is what a receiver computes of one chunk out of the middle, which is how
// content comes from several peers at once: with a chunk list it knows all digests before
// the first chunk, with Bao each comes with its own path to the root.
func BenchmarkChunk(b *testing.B) {
	data := content(b)
	const at = size/2 + chunk
	b.Run("chunk list", func(b *testing.B) {
		want := sha256.Sum256(data[at : at+chunk])
		b.SetBytes(chunk)
		for b.Loop() {
			if sha256.Sum256(data[at:at+chunk]) != want {
				b.Fatal("the chunk is wrong")
			}
		}
	})
	for _, group := range groups {
		tree, root := bao.EncodeBuf(data, group, true)
		var slice bytes.Buffer
		if err := bao.ExtractSlice(&slice, bytes.NewReader(data), bytes.NewReader(tree), group, at, chunk); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("bao of %d KiB", 1<<group), func(b *testing.B) {
			b.SetBytes(chunk)
			for b.Loop() {
				if _, ok := bao.VerifySlice(slice.Bytes(), group, at, chunk, root); !ok {
					b.Fatal("the chunk is wrong")
				}
			}
			b.ReportMetric(100*float64(slice.Len()-chunk)/chunk, "overhead-%")
		})
	}
}

// parts are the chunks of the data.
func parts(data []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for at := 0; at < len(data); at += chunk {
			if !yield(data[at : at+chunk]) {
				return
			}
		}
	}
}
