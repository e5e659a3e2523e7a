package archive_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"ggen.dev/marketplace/p2p/archive"
)

func tree302() []item {
	var items []item
	for i := range 302 {
		items = append(items, file(fmt.Sprintf("dir%02d/sub%d/file%03d.md", i%20, i%5, i), string(bytes.Repeat([]byte{byte('a' + i%26)}, 7700))))
	}
	return items
}

func BenchmarkBase(b *testing.B) {
	data := make([]byte, 2327736)
	b.Run("sha", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			sha256.Sum256(data)
		}
	})
	p := pack(b, tree302()...)
	dir := b.TempDir()
	src := filepath.Join(dir, "src")
	if err := archive.Unpack(b.Context(), open(b, p), p.Index, src); err != nil {
		b.Fatal(err)
	}
	b.Run("cp+sha", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			if out, err := exec.CommandContext(b.Context(), "cp", "-r", src, filepath.Join(dir, fmt.Sprint("cp", i))).CombinedOutput(); err != nil {
				b.Fatal(string(out))
			}
			sha256.Sum256(data)
		}
	})
	b.Run("unpack", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			if err := archive.Unpack(b.Context(), open(b, p), p.Index, filepath.Join(dir, fmt.Sprint("un", i))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("digestdir", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := archive.DigestDir(b.Context(), src); err != nil {
				b.Fatal(err)
			}
		}
	})
}
