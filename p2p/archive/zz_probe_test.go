package archive_test

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/shared"
)

func TestProbe(t *testing.T) {
	p := pack(t, file("a", strings.Repeat("x", 5000)), file("b", "y"))
	data, _ := io.ReadAll(open(t, p))
	err := archive.Unpack(t.Context(), bytes.NewReader(data[:2000]), p.Index, filepath.Join(t.TempDir(), "pkg"))
	t.Logf("cut in content: %s %v", shared.AsError(err).Reason, err)
	raw, _ := io.ReadAll(stream(t, file("a", strings.Repeat("x", 5000))))
	_, err = archive.Pack(t.Context(), bytes.NewReader(raw[:2000]), t.TempDir(), archive.Limits{})
	t.Logf("pack cut: %s %v", shared.AsError(err).Reason, err)
	mod := func(name string, f func(ix *archive.Index)) {
		b, _ := p.Index.Marshal()
		var ix archive.Index
		_ = json.Unmarshal(b, &ix)
		f(&ix)
		b, _ = ix.Marshal()
		_, err := archive.ParseIndex(b, archive.Limits{})
		t.Logf("%s: %v", name, err)
	}
	mod("file as folder", func(ix *archive.Index) { ix.Files[1].Path = "a/b" })
	mod("folder case", func(ix *archive.Index) { ix.Files[0].Path = "A/x"; ix.Files[1].Path = "a/y" })
	mod("git", func(ix *archive.Index) { ix.Files[0].Path = ".git/config" })
	mod("offset lie", func(ix *archive.Index) { ix.Files[0].Offset = 7; ix.Files[0].Size = 3 })
	bomb := []byte(`{"v":1,"chunk_size":262144,"files":[` + strings.Repeat("{},", (7<<20)/3) + `{}]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = archive.ParseIndex(bomb, archive.Limits{})
	runtime.ReadMemStats(&after)
	t.Logf("bomb: %v allocated %d MiB", err, (after.TotalAlloc-before.TotalAlloc)>>20)
}
