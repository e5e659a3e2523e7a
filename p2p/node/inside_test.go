package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/crypto"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/shared"
)

func TestIdentity(t *testing.T) {
	t.Run("it stays the same and is secret", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "node.key")
		first, err := LoadOrCreateIdentity(path)
		if err != nil {
			t.Fatal(err)
		}
		second, err := LoadOrCreateIdentity(path)
		if err != nil || !first.Equals(second) {
			t.Fatalf("second key differs: %v", err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v %v", info, err)
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
			t.Fatalf("left behind: %v %v", entries, err)
		}
	})
	t.Run("many at once get one key", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "node.key")
		keys := make([]crypto.PrivKey, 16)
		var all sync.WaitGroup
		for i := range keys {
			all.Go(func() {
				key, err := LoadOrCreateIdentity(path)
				if err != nil {
					t.Error(err)
				}
				keys[i] = key
			})
		}
		all.Wait()
		for _, key := range keys {
			if key == nil || !key.Equals(keys[0]) {
				t.Fatal("different keys")
			}
		}
	})
	for _, tc := range []struct {
		name string
		mode fs.FileMode
		data string
		says string
	}{
		{"readable by others", 0o644, "", "chmod 600"},
		{"damaged", 0o600, "\x08\x01\x12\x40short", "damaged"},
		{"empty", 0o600, "", "damaged"},
		{"too long", 0o600, strings.Repeat("x", maxIdentity+1), "damaged"},
	} {
		t.Run("refused: "+tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "node.key")
			if err := os.WriteFile(path, []byte(tc.data), tc.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadOrCreateIdentity(path)
			typed := shared.AsError(err)
			if !errors.Is(err, shared.ReasonStorage) || !strings.Contains(typed.Message+typed.Hint, tc.says) {
				t.Fatalf("error %v (hint %s)", err, typed.Hint)
			}
			if data, err := os.ReadFile(path); err != nil || string(data) != tc.data {
				t.Fatalf("the file was touched: %v", err)
			}
		})
	}
	t.Run("refused: a missing folder", func(t *testing.T) {
		_, err := LoadOrCreateIdentity(filepath.Join(t.TempDir(), "no", "node.key"))
		if !errors.Is(err, shared.ReasonStorage) {
			t.Fatalf("error %v", err)
		}
	})
}

func TestRecords(t *testing.T) {
	put := func(t *testing.T, r *recordStore, key, value string) {
		t.Helper()
		if err := r.Put(t.Context(), ds.NewKey(key), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(t *testing.T, r *recordStore, prefix string) int {
		t.Helper()
		results, err := r.Query(t.Context(), query.Query{Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		entries, err := results.Rest()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Key, prefix) {
				t.Errorf("query of %s gives %s", prefix, e.Key)
			}
		}
		return len(entries)
	}
	t.Run("a query finds what is below its prefix", func(t *testing.T) {
		r := newRecordStore(100, 1000)
		for _, key := range []string{"/providers/A/P", "/providers/A/Q", "/providers/AB/P", "/ggen-head/H"} {
			put(t, r, key, "v")
		}
		for prefix, want := range map[string]int{"/providers/A": 2, "/providers/AB": 1, "/providers/C": 0, "/providers/": 3, "/ggen-head": 1, "": 4} {
			if got := keys(t, r, prefix); got != want {
				t.Errorf("query %q: %d, want %d", prefix, got, want)
			}
		}
	})
	t.Run("one key cannot take all places", func(t *testing.T) {
		r := newRecordStore(maxRecords, maxRecordBytes)
		put(t, r, "/providers/B/P", "v")
		for i := range 3 * maxPerKey {
			put(t, r, fmt.Sprintf("/providers/A/%d", i), "v")
		}
		if a, b := keys(t, r, "/providers/A"), keys(t, r, "/providers/B"); a != maxPerKey || b != 1 {
			t.Fatalf("%d and %d records", a, b)
		}
		if _, err := r.Get(t.Context(), ds.NewKey("/providers/A/0")); !errors.Is(err, ds.ErrNotFound) {
			t.Fatalf("the oldest is still there: %v", err)
		}
	})
	t.Run("it stays within its bounds, keeps the newest and answers with what was put", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			const maxCount, maxBytes = 8, 200
			r := newRecordStore(maxCount, maxBytes)
			model := map[string]string{}
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				key := fmt.Sprintf("/providers/%d/%d", rapid.IntRange(0, 3).Draw(rt, "group"), rapid.IntRange(0, 5).Draw(rt, "key"))
				if rapid.Bool().Draw(rt, "delete") {
					_ = r.Delete(t.Context(), ds.NewKey(key))
					delete(model, key)
					continue
				}
				value := rapid.StringN(0, 40, 40).Draw(rt, "value")
				_ = r.Put(t.Context(), ds.NewKey(key), []byte(value))
				model[key] = value
				if got, err := r.Get(t.Context(), ds.NewKey(key)); err != nil || string(got) != value {
					rt.Fatalf("just put %q, got %q, %v", value, got, err)
				}
				bytes, count := 0, 0
				for k, v := range model {
					got, err := r.Get(t.Context(), ds.NewKey(k))
					if errors.Is(err, ds.ErrNotFound) {
						delete(model, k) // evicted
						continue
					}
					if string(got) != v {
						rt.Fatalf("%s = %q, want %q", k, got, v)
					}
					count, bytes = count+1, bytes+len(k)+len(v)
				}
				if count > maxCount || bytes > maxBytes || count != r.order.Len() || bytes != r.bytes {
					rt.Fatalf("%d records of %d bytes; it counts %d and %d", count, bytes, r.order.Len(), r.bytes)
				}
			}
		})
	})
}

func TestAdvertised(t *testing.T) {
	loop, lan := ma.StringCast("/ip4/127.0.0.1/tcp/1"), ma.StringCast("/ip4/10.0.0.1/tcp/1")
	if got := advertised([]ma.Multiaddr{loop, lan}); len(got) != 1 || !got[0].Equal(lan) {
		t.Errorf("with others, loopback is advertised: %v", got)
	}
	if got := advertised([]ma.Multiaddr{loop}); len(got) != 1 {
		t.Errorf("loopback alone is not advertised: %v", got)
	}
}

// FuzzKnown holds that no content of the peers file crashes, that limits hold,
// and that what was read is written back the same.
func FuzzKnown(f *testing.F) {
	f.Add([]byte(`{"version":1,"listen":["/ip4/127.0.0.1/tcp/4001"],"peers":[{"id":"12D3KooWCNBHPhTQi64bZEAN7rRFPGxf2iiPUV8y9yAaRjCtmu7F","addresses":["/ip4/192.0.2.1/tcp/1","x"],"seen":"2026-01-02T03:04:05Z"}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"peers":[{"id":"","addresses":["/"]}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		peers, listen, err := parseKnown(data)
		if err != nil {
			return
		}
		if len(peers) > maxKnown || len(listen) > maxListen {
			t.Fatalf("%d peers, %d addresses", len(peers), len(listen))
		}
		k := &known{path: filepath.Join(t.TempDir(), "peers.json"), peers: peers, listen: listen}
		if err := k.save(); err != nil {
			return // a year that JSON cannot write
		}
		again := loadKnown(k.path, slog.New(slog.DiscardHandler))
		if len(again.peers) != len(peers) || len(again.listen) != len(listen) {
			t.Fatalf("%d peers and %d addresses became %d and %d", len(peers), len(listen), len(again.peers), len(again.listen))
		}
	})
}

// FuzzPeerAddr holds that an accepted bootstrap address names a peer and a place.
func FuzzPeerAddr(f *testing.F) {
	f.Add("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWCNBHPhTQi64bZEAN7rRFPGxf2iiPUV8y9yAaRjCtmu7F")
	f.Add("/p2p/12D3KooWCNBHPhTQi64bZEAN7rRFPGxf2iiPUV8y9yAaRjCtmu7F")
	f.Add("/dnsaddr/example.org")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		info, err := parsePeerAddr(s)
		if err == nil && (info.ID == "" || len(info.Addrs) == 0) {
			t.Fatalf("%q became %v", s, info)
		}
		if err != nil && !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Fatalf("%q: %v", s, err)
		}
	})
}

// FuzzIdentity holds that whatever passes for a key is an Ed25519 key.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte("\x08\x01\x12\x40"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := parseIdentity(data); err == nil && key.Type() != crypto.Ed25519 {
			t.Fatalf("key of type %s", key.Type())
		}
	})
}
