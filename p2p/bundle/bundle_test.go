package bundle_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"ggen.dev/marketplace/p2p/bundle"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

var id = shared.PublisherID(strings.Repeat("ab", 32))

func write(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := bundle.NewWriter(&buf, []bundle.Package{{Name: "tool", Publisher: id, Version: "1.0.0"}})
	if err != nil {
		t.Fatal(err)
	}
	u := publisher.Update{Roots: [][]byte{[]byte("root")}, Head: []byte("head"), From: 3, Entries: [][]byte{[]byte("entry")}}
	if err := w.Update(id, 3, u.Marshal()); err != nil {
		t.Fatal(err)
	}
	if err := w.Blob(shared.DigestOf([]byte("content")), 7, strings.NewReader("content")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	var seen []string
	err := bundle.Read(bytes.NewReader(write(t)), bundle.Visitor{
		Contents: func(p []bundle.Package) error {
			seen = append(seen, p[0].Name+"@"+p[0].Version)
			return nil
		},
		Update: func(u publisher.Update) error {
			seen = append(seen, string(u.Entries[0]))
			return nil
		},
		Blob: func(digest shared.Digest, size int64, r io.Reader) error {
			data, err := io.ReadAll(r)
			seen = append(seen, string(data))
			if digest != shared.DigestOf(data) || size != int64(len(data)) {
				t.Errorf("%s, %d bytes", digest, size)
			}
			return err
		},
	})
	if err != nil || strings.Join(seen, " ") != "tool@1.0.0 entry content" {
		t.Fatalf("%v, %v", seen, err)
	}
	stop := errors.New("enough")
	if err := bundle.Read(bytes.NewReader(write(t)), bundle.Visitor{Contents: func([]bundle.Package) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("the visitor's error: %v", err)
	}
}

func TestABlobIsAsLongAsItSays(t *testing.T) {
	w, err := bundle.NewWriter(io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Blob(shared.DigestOf(nil), 10, strings.NewReader("short")); err == nil {
		t.Error("5 bytes pass for 10")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(write(f))
	f.Add([]byte("no tar"))
	f.Fuzz(func(t *testing.T, data []byte) {
		packages := 0
		err := bundle.Read(bytes.NewReader(data), bundle.Visitor{
			Contents: func(p []bundle.Package) error {
				packages = len(p)
				return nil
			},
			Update: func(publisher.Update) error { return nil },
			Blob: func(digest shared.Digest, _ int64, r io.Reader) error {
				if _, err := shared.ParseDigest(string(digest)); err != nil {
					t.Fatal(err)
				}
				_, err := io.Copy(io.Discard, r)
				return err
			},
		})
		if packages > bundle.MaxPackages {
			t.Fatalf("%d packages, %v", packages, err)
		}
	})
}
