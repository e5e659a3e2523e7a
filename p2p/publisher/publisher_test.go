package publisher_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

func newKey(t testing.TB) *publisher.Key {
	t.Helper()
	key, err := publisher.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ringOf is a keyring in memory that holds a key alone.
func ringOf(t testing.TB, key *publisher.Key) *publisher.Keyring {
	t.Helper()
	ring, err := publisher.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func idOf(t testing.TB, key *publisher.Key) shared.PublisherID {
	t.Helper()
	id, err := publisher.IDOf(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// typical is a release as real packages have it.
func typical(name, version string) publisher.Release {
	return publisher.Release{
		Name: name, Version: version, Title: "Agent Memory Forge",
		Description: "Long-term memory for agents: episodes, facts and skills as an ontology, with SPARQL queries and templates.",
		Authors:     []string{"A. Author <author@example.org>"}, License: "MIT", Category: "ai-agents",
		Tags: []string{"agent", "memory", "ontology"}, Repository: "https://example.org/agent-memory-forge", Files: 12,
		Archive: publisher.Content{Digest: shared.DigestOf([]byte(name + version)), Size: 31_744},
		Index:   publisher.Content{Digest: shared.DigestOf([]byte(name + version + "index")), Size: 1_400},
	}
}

func entryOf(t testing.TB, id shared.PublisherID, body publisher.Release, at time.Time) []byte {
	t.Helper()
	raw, err := publisher.Entry{Kind: publisher.KindRelease, Publisher: id, Time: at.Unix(), Release: &body}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// stored are the hashes of a log in memory.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(s)) {
			return nil, fmt.Errorf("hash %d of %d", index, len(s))
		}
		hashes[i] = s[index]
	}
	return hashes, nil
}

// appended makes a log of the given versions and returns it with the last update.
func appended(t testing.TB, key *publisher.Key, now time.Time, versions ...string) (publisher.Log, publisher.Update) {
	t.Helper()
	var log publisher.Log
	var hashes stored
	var update publisher.Update
	for _, version := range versions {
		ext, u, err := publisher.Append(ringOf(t, key), log, [][]byte{entryOf(t, idOf(t, key), typical("pack", version), now)}, now)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, ext.Hashes...)
		log, update = ext.Log, u
		log.Hashes = hashes
	}
	return log, update
}

func TestOpenKeyring(t *testing.T) {
	t.Run("comes back the same", func(t *testing.T) {
		folder := t.TempDir()
		first, err := publisher.OpenKeyring(folder)
		if err != nil {
			t.Fatal(err)
		}
		second, err := publisher.OpenKeyring(folder)
		if err != nil {
			t.Fatal(err)
		}
		if first.ID() != second.ID() {
			t.Fatal("the key has changed")
		}
	})
	t.Run("everybody who creates it at once gets the same", func(t *testing.T) {
		folder := t.TempDir()
		rings := make([]*publisher.Keyring, 16)
		var group sync.WaitGroup
		for i := range rings {
			group.Go(func() {
				var err error
				if rings[i], err = publisher.OpenKeyring(folder); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if t.Failed() {
			return
		}
		for _, ring := range rings[1:] {
			if ring.ID() != rings[0].ID() {
				t.Fatal("two keys were made")
			}
		}
		if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
			t.Fatalf("left behind: %v, %v", left, err)
		}
	})
	for name, spoil := range map[string]func(path string) error{
		"readable by others is refused": func(path string) error { return os.Chmod(path, 0o640) },
		"damaged is refused":            func(path string) error { return os.WriteFile(path, []byte("no key"), 0o600) },
		"cut off is refused":            func(path string) error { return os.Truncate(path, 60) },
		"huge is refused":               func(path string) error { return os.Truncate(path, 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.HasPrefix(name, "readable") {
				t.Skip("Windows has no such permissions")
			}
			folder := t.TempDir()
			if _, err := publisher.OpenKeyring(folder); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, "publisher.key")
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			_, err := publisher.OpenKeyring(folder)
			if !errors.Is(err, shared.ReasonStorage) || !strings.Contains(err.Error(), path) || shared.AsError(err).Hint == "" {
				t.Fatalf("got %v; want STORAGE that names the file, with a hint", err)
			}
		})
	}
}

func TestKeyDoesNotPrintItsSecret(t *testing.T) {
	key := newKey(t)
	public := string(key.Public())
	for _, verb := range []string{"%v", "%s", "%+v"} {
		if text := fmt.Sprintf(verb, key); text != key.String() || strings.Contains(text, public) {
			t.Errorf("%s prints %q", verb, text)
		}
	}
}

func TestPublisherIDDependsOnTheKeyAlone(t *testing.T) {
	key := newKey(t)
	first, second := idOf(t, key), idOf(t, key)
	if first != second || !first.Complete() {
		t.Fatal("the ID is not stable")
	}
	if idOf(t, key) == idOf(t, newKey(t)) {
		t.Fatal("two keys have one ID")
	}
}

func TestUpdateSurvivesTheWire(t *testing.T) {
	_, u := appended(t, newKey(t), time.Now(), "1.0.0", "1.1.0", "2.0.0")
	back, err := publisher.ParseUpdate(u.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Marshal(), u.Marshal()) {
		t.Fatal("it came back changed")
	}
	if _, err := back.Verify(time.Now()); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyRefuses holds everything that an honest publisher cannot have signed.
func TestVerifyRefuses(t *testing.T) {
	now := time.Now()
	key, other := newKey(t), newKey(t)
	_, honest := appended(t, key, now, "1.0.0", "1.1.0")
	_, foreign := appended(t, other, now, "1.0.0", "1.1.0")
	for _, tc := range []struct {
		name  string
		spoil func(u *publisher.Update)
	}{
		{"an entry of another publisher", func(u *publisher.Update) { u.Entries = foreign.Entries }},
		{"the log under another publisher's keys", func(u *publisher.Update) { u.Roots = foreign.Roots }},
		{"another publisher's head", func(u *publisher.Update) { u.Head = foreign.Head }},
		{"an entry that is not under the head", func(u *publisher.Update) {
			u.Entries = [][]byte{entryOf(t, idOf(t, key), typical("pack", "9.9.9"), now)}
		}},
		{"an entry at another place", func(u *publisher.Update) { u.From-- }},
		{"no proof", func(u *publisher.Update) { u.Inclusion = nil }},
		{"a changed proof", func(u *publisher.Update) { u.Inclusion[0][0] ^= 1 }},
		{"a changed head", func(u *publisher.Update) { u.Head = bytes.Replace(u.Head, []byte("\n2\n"), []byte("\n3\n"), 1) }},
		{"no root", func(u *publisher.Update) { u.Roots = nil }},
		{"a root twice", func(u *publisher.Update) { u.Roots = append(u.Roots, u.Roots[0]) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u, err := publisher.ParseUpdate(honest.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			tc.spoil(&u)
			if _, err := u.Verify(now); !errors.Is(err, publisher.ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
		})
	}
	t.Run("a head from the future", func(t *testing.T) {
		// Whose clock is wrong cannot be told, so nobody is blamed.
		if _, err := honest.Verify(now.Add(-2 * publisher.MaxClockSkew)); !errors.Is(err, publisher.ErrStale) {
			t.Fatalf("got %v, want ErrStale", err)
		}
	})
	t.Run("and takes the honest one", func(t *testing.T) {
		if _, err := honest.Verify(now); err != nil {
			t.Fatal(err)
		}
	})
}

func TestParseUpdateRefusesEveryPrefixOfAnUpdate(t *testing.T) {
	_, u := appended(t, newKey(t), time.Now(), "1.0.0", "1.1.0")
	wire := u.Marshal()
	for n := range wire {
		if _, err := publisher.ParseUpdate(wire[:n]); !errors.Is(err, publisher.ErrInvalid) {
			t.Fatalf("%d of %d bytes: got %v, want ErrInvalid", n, len(wire), err)
		}
	}
	if _, err := publisher.ParseUpdate(append(wire, 0)); !errors.Is(err, publisher.ErrInvalid) {
		t.Fatalf("one byte more: got %v, want ErrInvalid", err)
	}
}

func TestExtend(t *testing.T) {
	now := time.Now()
	key := newKey(t)
	one, first := appended(t, key, now, "1.0.0")
	two, second := appended(t, key, now, "1.0.0", "1.1.0")
	t.Run("continues a log", func(t *testing.T) {
		ext, err := publisher.Extend(one, second, now)
		if err != nil || ext.Log.Size != 2 || len(ext.New) != 1 || !ext.Log.Complete() {
			t.Fatalf("got %+v, %v", ext.Log, err)
		}
	})
	t.Run("rollback to an older head is stale", func(t *testing.T) {
		if _, err := publisher.Extend(two, first, now); !errors.Is(err, publisher.ErrStale) {
			t.Fatalf("got %v, want ErrStale", err)
		}
	})
	t.Run("the same again is stale", func(t *testing.T) {
		if _, err := publisher.Extend(two, second, now); !errors.Is(err, publisher.ErrStale) {
			t.Fatalf("got %v, want ErrStale", err)
		}
	})
	t.Run("a gap is named", func(t *testing.T) {
		if _, err := publisher.Extend(publisher.Log{}, second, now); !errors.Is(err, publisher.ErrGap) {
			t.Fatalf("got %v, want ErrGap", err)
		}
	})
	t.Run("two logs of one size are equivocation", func(t *testing.T) {
		_, fork := appended(t, key, now, "1.0.0", "6.6.6")
		var forked *publisher.EquivocationError
		if _, err := publisher.Extend(two, fork, now); !errors.As(err, &forked) || forked.First.Hash == forked.Second.Hash {
			t.Fatalf("got %v, want both heads", err)
		}
	})
	t.Run("another publisher is refused", func(t *testing.T) {
		_, foreign := appended(t, newKey(t), now, "1.0.0", "1.1.0", "1.2.0")
		if _, err := publisher.Extend(two, foreign, now); !errors.Is(err, publisher.ErrInvalid) {
			t.Fatalf("got %v, want ErrInvalid", err)
		}
	})
}

func TestHeadGoesStaleAndStaysValid(t *testing.T) {
	signed := time.Now().Add(-publisher.HeadLifetime - time.Hour)
	_, u := appended(t, newKey(t), signed, "1.0.0")
	v, err := u.Verify(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if v.Head.Fresh(time.Now()) || !v.Head.Fresh(signed.Add(time.Hour)) {
		t.Fatal("freshness does not follow the lifetime")
	}
}
