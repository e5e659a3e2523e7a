package archive_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"ggen.dev/marketplace/p2p/archive"
)

// FuzzPack: whatever a host sends, what was packed can be installed.
func FuzzPack(f *testing.F) {
	seed, err := io.ReadAll(stream(f, oddTree()...))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		scratch := t.TempDir()
		p, err := archive.Pack(t.Context(), bytes.NewReader(data), scratch, archive.Limits{Files: 100, Bytes: 1 << 20}, nil)
		if err != nil {
			isEmpty(t, scratch)
			return
		}
		defer func() { _ = p.Close() }()
		index, err := p.Index.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		ix, err := archive.ParseIndex(index, archive.Limits{})
		if err != nil {
			t.Fatalf("packed, and the index is refused: %v", err)
		}
		dest := filepath.Join(t.TempDir(), "pkg")
		if err := archive.Unpack(t.Context(), open(t, p), ix, dest); err != nil {
			t.Fatalf("packed, and does not unpack: %v", err)
		}
		if digest, err := archive.DigestDir(t.Context(), dest); err != nil || digest != ix.Digest {
			t.Fatalf("the folder is %s, not %s, %v", digest, ix.Digest, err)
		}
	})
}

// FuzzParseIndex: what is accepted stays the same through another round, and is
// safe to write.
func FuzzParseIndex(f *testing.F) {
	data, err := pack(f, oddTree()...).Index.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		ix, err := archive.ParseIndex(data, archive.Limits{})
		if err != nil {
			return
		}
		for _, file := range ix.Files {
			if archive.CheckPath(file.Path) != nil || file.Offset < 0 || file.Offset+file.Size > ix.Size {
				t.Fatalf("accepted %+v", file)
			}
		}
		again, err := ix.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := archive.ParseIndex(again, archive.Limits{}); err != nil {
			t.Fatalf("accepted, and then refused: %v", err)
		}
	})
}

// FuzzUnpack: two files from a peer give a folder with the index's digest, or nothing.
func FuzzUnpack(f *testing.F) {
	p := pack(f, oddTree()...)
	index, err := p.Index.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content(f, p), index)
	f.Fuzz(func(t *testing.T, data, index []byte) {
		ix, err := archive.ParseIndex(index, archive.Limits{Files: 200, Bytes: 1 << 20})
		if err != nil {
			return
		}
		parent := t.TempDir()
		dest := filepath.Join(parent, "pkg")
		if err := archive.Unpack(t.Context(), bytes.NewReader(data), ix, dest); err != nil {
			isEmpty(t, parent)
			return
		}
		if digest, err := archive.DigestDir(t.Context(), dest); err != nil || digest != ix.Digest {
			t.Fatalf("the folder is %s, not %s, %v", digest, ix.Digest, err)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
			t.Fatalf("beside it lies %v, %v", left, err)
		}
	})
}
