package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
	"pgregory.net/rapid"
)

// shelve puts blobs of some sizes into a new store, each wanted an hour after the one before.
func shelve(t interface {
	Fatal(...any)
	Helper()
}, dir string, sizes ...int,
) (*store.Store, []shared.Digest) {
	t.Helper()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var digests []shared.Digest
	for i, size := range sizes {
		d, _, err := s.Put(context.Background(), strings.NewReader(strings.Repeat(string(rune('a'+i)), size)), "")
		if err != nil {
			t.Fatal(err)
		}
		used := time.Now().Add(time.Duration(i-len(sizes)) * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "blobs", d.Hex()[:2], d.Hex()), used, used); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	return s, digests
}

func TestEvict(t *testing.T) {
	for name, c := range map[string]struct {
		policy func([]shared.Digest) store.Policy
		use    []int // opened before, in that order
		stay   []int // of four blobs of 10 bytes, the oldest first
	}{
		"what fits stays":          {func([]shared.Digest) store.Policy { return store.Policy{Bytes: 40} }, nil, []int{0, 1, 2, 3}},
		"the oldest go":            {func([]shared.Digest) store.Policy { return store.Policy{Bytes: 25} }, nil, []int{2, 3}},
		"what was read is not old": {func([]shared.Digest) store.Policy { return store.Policy{Bytes: 20} }, []int{0}, []int{0, 3}},
		"what is kept stays, uncounted": {func(d []shared.Digest) store.Policy {
			return store.Policy{Bytes: 10, Keep: func(x shared.Digest) bool { return x == d[0] }}
		}, nil, []int{0, 3}},
		"nothing may stay": {func([]shared.Digest) store.Policy { return store.Policy{} }, nil, nil},
		"what is too old goes, if it fits": {func([]shared.Digest) store.Policy {
			return store.Policy{Bytes: 40, Before: time.Now().Add(-150 * time.Minute)}
		}, nil, []int{2, 3}},
		"a dry run": {func([]shared.Digest) store.Policy { return store.Policy{DryRun: true} }, nil, []int{0, 1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			s, digests := shelve(t, t.TempDir(), 10, 10, 10, 10)
			for _, i := range c.use {
				blob, err := s.Open(digests[i])
				if err != nil {
					t.Fatal(err)
				}
				_ = blob.Close()
			}
			if _, err := s.Evict(t.Context(), c.policy(digests)); err != nil {
				t.Fatal(err)
			}
			for i, d := range digests {
				if s.Has(d) != slices.Contains(c.stay, i) {
					t.Errorf("blob %d is here: %v", i, s.Has(d))
				}
			}
			if count, bytes, err := s.Usage(); err != nil || count != len(c.stay) || bytes != int64(10*len(c.stay)) {
				t.Errorf("usage is %d blobs, %d bytes, %v", count, bytes, err)
			}
		})
	}
}

// Whatever is there, what is left of the rest fits, what is kept stays, and nothing goes
// while something that was wanted less recently stays.
func TestEvictInvariants(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 50), 0, 12).Draw(rt, "sizes")
		home, err := os.MkdirTemp(dir, "")
		if err != nil {
			rt.Fatal(err)
		}
		s, digests := shelve(rt, home, sizes...)
		kept := map[shared.Digest]bool{}
		for i, d := range digests {
			kept[d] = rapid.Bool().Draw(rt, "kept"+string(rune('a'+i)))
		}
		limit := int64(rapid.IntRange(0, 300).Draw(rt, "limit"))
		removed, err := s.Evict(context.Background(), store.Policy{Bytes: limit, Keep: func(d shared.Digest) bool { return kept[d] }})
		if err != nil {
			rt.Fatal(err)
		}
		left, freeOne := int64(0), false
		for i, d := range digests {
			switch {
			case kept[d] && !s.Has(d):
				rt.Fatalf("blob %d is gone", i)
			case !kept[d] && s.Has(d):
				left += int64(sizes[i])
				freeOne = true
			case !kept[d] && freeOne:
				rt.Fatalf("blob %d is gone, and an older one stays", i)
			}
		}
		if left > limit {
			rt.Fatalf("%d bytes are left of %d", left, limit)
		}
		if len(removed) > 0 && left+removed[len(removed)-1].Bytes <= limit {
			rt.Fatal("the last one that was removed would have fitted")
		}
	})
}

func TestEvictEnds(t *testing.T) {
	s, digests := shelve(t, t.TempDir(), 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Evict(ctx, store.Policy{}); !errors.Is(err, context.Canceled) || !s.Has(digests[0]) {
		t.Fatalf("it gives %v", err)
	}
}
