package archive_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ggen.dev/marketplace/shared"
)

func put(t *testing.T, target, name string, values ...[]byte) {
	dir := filepath.Join("testdata", "fuzz", target)
	os.MkdirAll(dir, 0o755)
	text := "go test fuzz v1\n"
	for _, v := range values {
		text += fmt.Sprintf("[]byte(%q)\n", v)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func raw(t *testing.T, items ...item) []byte { b, _ := io.ReadAll(stream(t, items...)); return b }

func TestGen(t *testing.T) {
	link := func(f byte, to string) item { return item{header: tar.Header{Name: "l", Typeflag: f, Linkname: to}} }
	put(t, "FuzzPack", "symlink", raw(t, file("a", "x"), link(tar.TypeSymlink, "../../etc/passwd")))
	put(t, "FuzzPack", "hardlink", raw(t, file("a", "x"), link(tar.TypeLink, "a")))
	put(t, "FuzzPack", "device", raw(t, link(tar.TypeChar, "")))
	put(t, "FuzzPack", "upwards", raw(t, file("../evil", "x")))
	put(t, "FuzzPack", "case", raw(t, file("a/x", "1"), file("A/y", "2")))
	put(t, "FuzzPack", "git", raw(t, file("a", "1"), file("b/.git/config", "2")))
	put(t, "FuzzPack", "pax-name", raw(t, file(strings.Repeat("é/", 40)+"x", "1")))
	gnu := file(strings.Repeat("g", 200), "1")
	gnu.header.Format = tar.FormatGNU
	put(t, "FuzzPack", "gnu-name", raw(t, gnu))
	put(t, "FuzzPack", "cut", raw(t, file("a", strings.Repeat("x", 700)))[:1000])
	put(t, "FuzzPack", "no-end", raw(t, file("a", "x"))[:1024])
	put(t, "FuzzPack", "not-a-tar", []byte("not a tar"))
	sparse := file("s", "data")
	sparse.header.PAXRecords = map[string]string{"VENDOR.x": "1"}
	put(t, "FuzzPack", "pax-record", raw(t, sparse))

	small := pack(t, file("a", "one"), file("b/c", "two"), folder("d"))
	ix, _ := small.Index.Marshal()
	data := content(t, small)
	put(t, "FuzzParseIndex", "small", ix)
	put(t, "FuzzParseIndex", "empty-elements", []byte(`{"v":1,"chunk_size":262144,"size":2048,"digest":"`+string(small.Index.Digest)+`","chunks":["`+string(small.Index.Digest)+`"],"files":[{},{},{}]}`))
	put(t, "FuzzParseIndex", "negative", []byte(`{"v":1,"size":-1}`))
	put(t, "FuzzParseIndex", "upwards", bytes.Replace(ix, []byte(`"b/c"`), []byte(`"../c"`), 1))
	put(t, "FuzzParseIndex", "offset", bytes.Replace(ix, []byte(`"offset":512`), []byte(`"offset":9223372036854775807`), 1))
	put(t, "FuzzUnpack", "small", data, ix)
	damaged := bytes.Clone(data)
	damaged[513] ^= 1
	put(t, "FuzzUnpack", "damaged", damaged, ix)
	put(t, "FuzzUnpack", "cut", data[:514], ix)
	timed := bytes.Clone(data)
	timed[146] = '1'
	sealHeader(timed[:512])
	d := shared.DigestOf(timed)
	put(t, "FuzzUnpack", "own-form", timed, bytes.ReplaceAll(ix, []byte(small.Index.Digest), []byte(d)))
}
