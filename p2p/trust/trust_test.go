package trust_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/p2p/trust"
	"ggen.dev/marketplace/shared"
)

func TestAlike(t *testing.T) {
	for _, c := range []struct{ name, known, why string }{
		{"http-client", "http-client", ""},
		{"http_client", "http-client", "only the separators differ"},
		{"httpclient", "http-client", "only the separators differ"},
		{"http-c1ient", "http-client", "it looks nearly the same"},
		{"hello-w0rld", "hello-world", "it looks nearly the same"},
		{"rnodel", "model", "it looks nearly the same"},
		{"client-http", "http-client", "it has the same parts in another order"},
		{"http-clients", "http-client", "one letter differs"},
		{"htpt-client", "http-client", "one letter differs"},
		{"http-cliemt", "http-client", "one letter differs"},
		{"cat", "bat", ""}, // among short names all are alike
		{"banking-core", "banking-tools", ""},
		{"one-two-three", "three-two-one", ""},
	} {
		for _, pair := range [][2]string{{c.name, c.known}, {c.known, c.name}} {
			if why := trust.Alike(pair[0], pair[1]); why != c.why {
				t.Errorf("%s and %s: %q, want %q", pair[0], pair[1], why, c.why)
			}
		}
	}
}

type signer struct {
	key   *publisher.Key
	chain publisher.Chain
}

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := publisher.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	root, err := publisher.NewRoot(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := publisher.ParseChain([][]byte{root})
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, chain}
}

var someID = shared.PublisherID(strings.Repeat("ab", 32))

func (s signer) sign(t testing.TB, serial int64, names ...string) []byte {
	t.Helper()
	c := shared.TrustCatalogue{Title: "Team", Serial: serial, Issued: time.Now()}
	for _, name := range names {
		c.Names = append(c.Names, shared.CatalogueName{Name: name, Publisher: someID})
	}
	signed, err := trust.Sign(c, s.chain, s.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestWhatIsNoCatalogueIsNotSigned(t *testing.T) {
	s := newSigner(t)
	fine := shared.TrustCatalogue{Title: "T", Serial: 1, Issued: time.Now(), Names: []shared.CatalogueName{{Name: "a", Publisher: someID}}}
	for what, spoil := range map[string]func(*shared.TrustCatalogue){
		"no title":             func(c *shared.TrustCatalogue) { c.Title = "" },
		"a title of two lines": func(c *shared.TrustCatalogue) { c.Title = "a\nb" },
		"a bidirectional mark": func(c *shared.TrustCatalogue) { c.Title = "a\u202eb" },
		"no serial":            func(c *shared.TrustCatalogue) { c.Serial = 0 },
		"no names":             func(c *shared.TrustCatalogue) { c.Names = nil },
		"a name that is none":  func(c *shared.TrustCatalogue) { c.Names[0].Name = "A B" },
		"half an ID":           func(c *shared.TrustCatalogue) { c.Names[0].Publisher = "abcdef" },
		"a name twice":         func(c *shared.TrustCatalogue) { c.Names = append(c.Names, c.Names[0]) },
	} {
		c := fine
		c.Names = append([]shared.CatalogueName(nil), fine.Names...)
		spoil(&c)
		if _, err := trust.Sign(c, s.chain, s.key); !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestForgedCataloguesAreRefused(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	signed := s.sign(t, 1, "alpha", "beta")
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(signed, &parts); err != nil {
		t.Fatal(err)
	}
	var others map[string]json.RawMessage
	if err := json.Unmarshal(other.sign(t, 1, "alpha"), &others); err != nil {
		t.Fatal(err)
	}
	swapped, err := json.Marshal(map[string]json.RawMessage{"roots": others["roots"], "note": parts["note"]})
	if err != nil {
		t.Fatal(err)
	}
	head, err := publisher.SignHead(s.chain.ID, 0, [32]byte{}, time.Now(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	asNote, err := json.Marshal(map[string]any{"roots": s.chain.Signed(), "note": string(head.Signed)})
	if err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{
		"a name that was changed":     bytes.Replace(signed, []byte("alpha"), []byte("alphb"), 1),
		"somebody else's keys":        swapped,
		"a head that the same signed": asNote,
	} {
		if _, _, err := trust.Open(data, time.Now()); !errors.Is(err, shared.ReasonIntegrity) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := trust.Open(signed, time.Now().Add(-48*time.Hour)); !errors.Is(err, shared.ReasonIntegrity) {
		t.Errorf("from the future: %v", err)
	}
	if _, _, err := trust.Open(make([]byte, shared.MaxTrustCatalogue+1), time.Now()); !errors.Is(err, shared.ReasonLimitExceeded) {
		t.Errorf("too long: %v", err)
	}
}

func openShelf(t *testing.T, path string) (*trust.Shelf, *bbolt.DB) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	shelf, err := trust.OpenShelf(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return shelf, db
}

// TestIssuesGoForwards: an old list cannot come back, and what is followed outlives
// the process.
func TestIssuesGoForwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	shelf, db := openShelf(t, path)
	s, other := newSigner(t), newSigner(t)
	second := s.sign(t, 2, "alpha", "beta")
	add := func(signed []byte, want shared.Reason) {
		t.Helper()
		if _, err := shelf.Add(signed); want == "" && err != nil || want != "" && !errors.Is(err, want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	add(second, "")
	add(second, "")
	add(s.sign(t, 1, "alpha"), shared.ReasonUntrusted)
	add(s.sign(t, 2, "alpha"), shared.ReasonUntrusted) // the same number, and another list
	add(other.sign(t, 1, "alpha"), "")                 // another signer's has numbers of its own
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	shelf, _ = openShelf(t, path)
	if list := shelf.List(); len(list) != 2 {
		t.Fatalf("%d catalogues after a restart", len(list))
	}
	add(s.sign(t, 1, "alpha"), shared.ReasonUntrusted)
	add(s.sign(t, 3, "alpha"), "")
	if by, ids := shelf.Listed("beta"); len(by) != 0 || len(ids) != 0 {
		t.Errorf("the new issue does not list it: %v, %v", by, ids)
	}
	if by, ids := shelf.Listed("alpha"); len(by) != 2 || len(ids) != 1 || ids[0] != someID {
		t.Errorf("alpha: %v, %v", by, ids)
	}
	if _, err := shelf.Remove(other.chain.ID, "Nobody's"); !errors.Is(err, shared.ReasonNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := shelf.Remove("", "Team"); !errors.Is(err, shared.ReasonAmbiguous) {
		t.Errorf("got %v", err)
	}
	if _, err := shelf.Remove(other.chain.ID, "Team"); err != nil {
		t.Error(err)
	}
	if list := shelf.List(); len(list) != 1 || list[0].Signer != s.chain.ID {
		t.Errorf("left: %v", list)
	}
}

// TestADamagedCatalogueIsLeftOut: the others go on to hold.
func TestADamagedCatalogueIsLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	shelf, db := openShelf(t, path)
	s, other := newSigner(t), newSigner(t)
	for _, signed := range [][]byte{s.sign(t, 1, "alpha"), other.sign(t, 1, "beta")} {
		if _, err := shelf.Add(signed); err != nil {
			t.Fatal(err)
		}
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			key, _ := b.Cursor().First()
			return b.Put(key, []byte("damaged"))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if shelf, _ = openShelf(t, path); len(shelf.List()) != 1 {
		t.Errorf("left: %v", shelf.List())
	}
}

func FuzzOpen(f *testing.F) {
	s := newSigner(f)
	f.Add(s.sign(f, 1, "alpha", "beta"))
	f.Add([]byte(`{"roots":[],"note":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, chain, err := trust.Open(data, time.Now())
		if err != nil {
			return
		}
		again, err := trust.Sign(c, chain, s.key)
		if chain.ID == s.chain.ID && err != nil {
			t.Fatalf("what was read cannot be signed again: %v, %s", err, again)
		}
	})
}
