package archive_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p/archive"
)

// sizedTree has files of equal size in a few folders.
func sizedTree(files, size int) []item {
	var items []item
	for i := range files {
		items = append(items, file(fmt.Sprintf("dir%02d/sub%d/file%03d.md", i%20, i%5, i), string(bytes.Repeat([]byte{byte('a' + i%26)}, size))))
	}
	return items
}

// shapes are the trees that are measured: the largest real package, one that
// looks like it with larger files, and one large file.
var shapes = []struct {
	name        string
	files, size int
}{
	{"302x7.7KB", 302, 7_700},
	{"300x64KB", 300, 64 << 10},
	{"1x32MB", 1, 32 << 20},
}

// ratio times two things in turn, so that both meet the same machine, and reports
// how much longer the first one takes.
func ratio(b *testing.B, unit string, measured, reference func()) {
	b.Helper()
	var took, floor time.Duration
	for b.Loop() {
		start := time.Now()
		measured()
		middle := time.Now()
		reference()
		took, floor = took+middle.Sub(start), floor+time.Since(middle)
	}
	b.ReportMetric(float64(took)/float64(b.N)/1e6, "ms")
	b.ReportMetric(float64(floor)/float64(b.N)/1e6, "floor-ms")
	b.ReportMetric(float64(floor)/float64(took), unit)
}

// BenchmarkDigestDir compares the canonical digest of a folder with SHA-256 over
// the archive's bytes in memory.
func BenchmarkDigestDir(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			p := pack(b, sizedTree(shape.files, shape.size)...)
			dir, data := unpacked(b, p), content(b, p)
			ratio(b, "of-sha256", func() {
				if _, err := archive.DigestDir(b.Context(), dir); err != nil {
					b.Fatal(err)
				}
			}, func() { sha256.Sum256(data) })
		})
	}
}

// BenchmarkDigestDirAndSum compares the canonical digest of a folder with what the
// program sha256sum does: read the same files and hash them.
func BenchmarkDigestDirAndSum(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			dir := unpacked(b, pack(b, sizedTree(shape.files, shape.size)...))
			ratio(b, "of-sha256sum", func() {
				if _, err := archive.DigestDir(b.Context(), dir); err != nil {
					b.Fatal(err)
				}
			}, func() {
				err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
					if err != nil || d.IsDir() {
						return err
					}
					data, err := os.ReadFile(name)
					sha256.Sum256(data)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkPack compares packing, which digests everything three times and writes
// it twice, with one SHA-256 over the archive's bytes in memory.
func BenchmarkPack(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			upload, err := io.ReadAll(stream(b, sizedTree(shape.files, shape.size)...))
			if err != nil {
				b.Fatal(err)
			}
			scratch := b.TempDir()
			ratio(b, "of-sha256", func() {
				p, err := archive.Pack(b.Context(), bytes.NewReader(upload), scratch, archive.Limits{}, nil)
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
			}, func() { sha256.Sum256(upload) })
		})
	}
}

// BenchmarkUnpack compares an install from local content, which is durable when
// it ends, with `cp -r` (which is not) and one SHA-256.
func BenchmarkUnpack(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			cp, err := exec.LookPath("cp")
			if err != nil {
				b.Skip("there is no cp to compare with")
			}
			p := pack(b, sizedTree(shape.files, shape.size)...)
			source, data, target := unpacked(b, p), content(b, p), b.TempDir()
			dest := filepath.Join(target, "pkg")
			copied := filepath.Join(target, "copy")
			ratio(b, "of-cp-and-sha256", func() {
				if err := archive.Unpack(b.Context(), bytes.NewReader(data), p.Index, dest); err != nil {
					b.Fatal(err)
				}
			}, func() {
				if err := os.RemoveAll(copied); err != nil { // as replacing dest has to
					b.Fatal(err)
				}
				if out, err := exec.CommandContext(b.Context(), cp, "-r", source, copied).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				sha256.Sum256(data)
			})
		})
	}
}

// BenchmarkParseIndex reads the index of the largest real package's kind.
func BenchmarkParseIndex(b *testing.B) {
	data, err := pack(b, sizedTree(302, 7_700)...).Index.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := archive.ParseIndex(data, archive.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
