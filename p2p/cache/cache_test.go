package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/cache"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a cold tier in memory.
type disk struct {
	mu   sync.Mutex
	data map[string][]byte
	at   map[string]time.Time
}

func newDisk() *disk { return &disk{data: map[string][]byte{}, at: map[string]time.Time{}} }

func (d *disk) Read(key string) ([]byte, time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	data, ok := d.data[key]
	return data, d.at[key], ok
}

func (d *disk) Write(key string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data[key], d.at[key] = data, time.Now()
}

func (d *disk) Drop(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.data, key)
}

func (d *disk) has(key string) bool {
	_, _, ok := d.Read(key)
	return ok
}

// words is a cache of texts that begin with their key.
func words(t interface{ Cleanup(func()) }, cfg cache.Config[string]) *cache.Cache[string] {
	cfg.Encode = func(v string) []byte { return []byte(v) }
	cfg.Decode = func(key string, data []byte) (string, error) {
		if !strings.HasPrefix(string(data), key) {
			return "", errors.New("damaged")
		}
		return string(data), nil
	}
	c := cache.New(cfg)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// source counts loads.
type source struct{ loads atomic.Int64 }

func (s *source) load(key string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return fmt.Sprintf("%s#%d", key, s.loads.Add(1)), nil }
}

func get(t *testing.T, c *cache.Cache[string], s *source, key, want string, from cache.Tier) {
	t.Helper()
	got, at, err := c.Get(t.Context(), key, s.load(key))
	if err != nil || got != want || at != from {
		t.Fatalf("%s is %q from %s, %v; want %q from %s", key, got, at, err, want, from)
	}
}

func TestAValueMovesThroughTheTiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDisk(), &source{}
		c := words(t, cache.Config[string]{Cold: d})
		get(t, c, s, "a", "a#1", cache.None)
		get(t, c, s, "a", "a#1", cache.Hot)
		pass(cache.DefaultHotLifetime)
		get(t, c, s, "a", "a#1", cache.Warm)
		get(t, c, s, "a", "a#1", cache.Hot) // it moved up
		pass(cache.DefaultWarmLifetime)
		get(t, c, s, "a", "a#1", cache.Cold)
		get(t, c, s, "a", "a#1", cache.Hot)
		pass(cache.DefaultColdLifetime)
		get(t, c, s, "a", "a#2", cache.None)
		counts := c.Counts()
		if counts.Hot.Hits != 3 || counts.Warm.Hits != 1 || counts.Cold.Hits != 1 || counts.Cold.Misses != 2 || counts.Loads != 2 {
			t.Errorf("%+v", counts)
		}
	})
}

func TestANewProcessFindsWhatIsCold(t *testing.T) {
	d, s := newDisk(), &source{}
	get(t, words(t, cache.Config[string]{Cold: d}), s, "a", "a#1", cache.None)
	get(t, words(t, cache.Config[string]{Cold: d}), s, "a", "a#1", cache.Cold)
}

func TestTiersAreBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		hot, warm := rapid.IntRange(1, 8).Draw(rt, "hot"), rapid.IntRange(1, 16).Draw(rt, "warm")
		c := words(t, cache.Config[string]{Hot: cache.Limits{Entries: hot}, Warm: cache.Limits{Entries: warm}})
		s := &source{}
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 40), 1, 200).Draw(rt, "keys") {
			key := fmt.Sprintf("k%d.", n)
			got, _, err := c.Get(t.Context(), key, s.load(key))
			if err != nil || !strings.HasPrefix(got, key) {
				rt.Fatalf("%s is %q, %v", key, got, err)
			}
			if counts := c.Counts(); counts.Hot.Entries > hot || counts.Warm.Entries > warm {
				rt.Fatalf("%d and %d entries of %d and %d", counts.Hot.Entries, counts.Warm.Entries, hot, warm)
			}
		}
	})
}

func TestStaleValuesAreGivenAndLoadedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		c := words(t, cache.Config[string]{Fresh: 10 * time.Minute})
		get(t, c, s, "a", "a#1", cache.None)
		pass(10 * time.Minute)
		get(t, c, s, "a", "a#1", cache.Hot)
		synctest.Wait()
		get(t, c, s, "a", "a#2", cache.Hot)
		if _, _, ok := c.Peek(t.Context(), "b", s.load("b")); ok || s.loads.Load() != 2 {
			t.Error("a look loads what is not there")
		}
	})
}

func TestOneLoadServesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := words(t, cache.Config[string]{})
		var loads atomic.Int64
		slow := func(ctx context.Context) (string, error) {
			loads.Add(1)
			select {
			case <-time.After(time.Second):
				return "a", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		impatient, cancel := context.WithCancel(t.Context())
		var got sync.WaitGroup
		got.Go(func() {
			if _, _, err := c.Get(impatient, "a", slow); !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up gets %v", err)
			}
		})
		synctest.Wait()
		for range 20 {
			got.Go(func() {
				if v, _, err := c.Get(t.Context(), "a", slow); v != "a" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
			})
		}
		synctest.Wait()
		cancel() // the one who began it
		got.Wait()
		if loads.Load() != 1 || c.Counts().Coalesced != 20 {
			t.Errorf("%d loads, %+v", loads.Load(), c.Counts())
		}
	})
}

func TestALoadThatNobodyWantsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := words(t, cache.Config[string]{})
		ended := false
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := c.Get(ctx, "a", func(ctx context.Context) (string, error) {
			<-ctx.Done()
			ended = true
			return "", ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if !ended {
			t.Error("it runs on")
		}
		get(t, c, &source{}, "a", "a#1", cache.None) // and the next one is not told of it
	})
}

func TestThatThereIsNoneIsRememberedShortly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := words(t, cache.Config[string]{})
		loads := 0
		none := func(context.Context) (string, error) {
			loads++
			return "", shared.NewError(shared.ReasonNotFound, "nobody has it")
		}
		for range 3 {
			if _, _, err := c.Get(t.Context(), "a", none); !errors.Is(err, shared.ReasonNotFound) {
				t.Fatal(err)
			}
		}
		if loads != 1 || !c.Missing("a") {
			t.Errorf("%d loads", loads)
		}
		pass(cache.DefaultMissing)
		get(t, c, &source{}, "a", "a#1", cache.None)
		c.Deny("b")
		if !c.Missing("b") {
			t.Error("what was denied is not missing")
		}
		c.Put("b", "b")
		if v, _, ok := c.Peek(t.Context(), "b", nil); !ok || v != "b" || c.Missing("b") {
			t.Error("what was put is missing")
		}
		// Any other failure is not an answer.
		failing := func(context.Context) (string, error) { loads++; return "", errors.New("no network") }
		for range 2 {
			if _, _, err := c.Get(t.Context(), "c", failing); err == nil {
				t.Fatal("no error")
			}
		}
		if loads != 3 {
			t.Errorf("%d loads", loads)
		}
	})
}

func TestWhatIsDamagedOnDiskIsLoadedAgain(t *testing.T) {
	d, s := newDisk(), &source{}
	d.Write("a", []byte("rotten"))
	c := words(t, cache.Config[string]{Cold: d})
	get(t, c, s, "a", "a#1", cache.None)
	if counts := c.Counts(); counts.Damaged != 1 {
		t.Errorf("%+v", counts)
	}
	if data, _, _ := d.Read("a"); string(data) != "a#1" {
		t.Errorf("on disk is %q", data)
	}
}

func TestForgottenIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDisk(), &source{}
		c := words(t, cache.Config[string]{Cold: d})
		get(t, c, s, "a", "a#1", cache.None)
		c.Forget("a")
		if d.has("a") {
			t.Error("it is on disk")
		}
		get(t, c, s, "a", "a#2", cache.None)
		// A load that was under way when it was forgotten does not bring it back.
		go func() {
			_, _, _ = c.Get(t.Context(), "b", func(context.Context) (string, error) { pass(time.Second); return "b", nil })
		}()
		synctest.Wait()
		c.Forget("b")
		pass(2 * time.Second)
		if _, _, ok := c.Peek(t.Context(), "b", nil); ok {
			t.Error("it is back")
		}
	})
}

func TestCloseEndsLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := words(t, cache.Config[string]{})
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_, _, err := c.Get(t.Context(), "a", func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		waiting.Wait()
		if _, _, err := c.Get(t.Context(), "b", (&source{}).load("b")); !errors.Is(err, shared.ReasonCanceled) {
			t.Errorf("a closed cache gives %v", err)
		}
	})
}

func TestTiersAreBoundedInBytes(t *testing.T) {
	d := newDisk()
	c := words(t, cache.Config[string]{Cold: d})
	for i := range 40 {
		key := fmt.Sprintf("k%d.", i)
		c.Put(key, key+strings.Repeat("x", 1<<20))
	}
	if counts := c.Counts(); counts.Hot.Entries > cache.MaxHot>>20 || counts.Warm.Entries > cache.MaxWarm>>20 || counts.Warm.Entries == 0 {
		t.Errorf("%+v", counts)
	}
	c.Put("a", "a"+strings.Repeat("x", cache.MaxWarm)) // on disk alone
	if _, at, ok := c.Peek(t.Context(), "a", nil); !ok || at != cache.Cold {
		t.Errorf("it is in %q", at)
	}
}

func openBolt(t *testing.T) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestBucket(t *testing.T) {
	db := openBolt(t)
	b := cache.NewBucket(db, "lookups", 10)
	if _, _, ok := b.Read("a"); ok {
		t.Error("it is there before it was written")
	}
	b.Drop("a")
	b.Write("a", []byte("value"))
	data, written, ok := cache.NewBucket(db, "lookups", 10).Read("a")
	if !ok || string(data) != "value" || time.Since(written) > time.Minute {
		t.Fatalf("%q, %s, %v", data, written, ok)
	}
	// Whatever is wrong with an entry, it is not there.
	var record []byte
	put := func(record []byte) {
		if err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("lookups")).Put([]byte("a"), record) }); err != nil {
			t.Fatal(err)
		}
	}
	_ = db.View(func(tx *bbolt.Tx) error {
		record = bytes.Clone(tx.Bucket([]byte("lookups")).Get([]byte("a")))
		return nil
	})
	for cut := range record {
		put(record[:cut])
		if _, _, ok := b.Read("a"); ok {
			t.Errorf("%d bytes of %d are read", cut, len(record))
		}
	}
	for at := 8; at < len(record); at++ { // the time before it only makes it older or younger
		flipped := bytes.Clone(record)
		flipped[at] ^= 1
		put(flipped)
		if _, _, ok := b.Read("a"); ok {
			t.Errorf("a flip at %d is not seen", at)
		}
	}
	b.Drop("a")
	if _, _, ok := b.Read("a"); ok {
		t.Error("it is there after it was dropped")
	}
}

func TestBucketIsBounded(t *testing.T) {
	db := openBolt(t)
	b := cache.NewBucket(db, "lookups", 10)
	for i := range 35 {
		b.Write(fmt.Sprint(i), []byte("value"))
		n := 0
		_ = db.View(func(tx *bbolt.Tx) error { n = tx.Bucket([]byte("lookups")).Stats().KeyN; return nil })
		if n > 10 {
			t.Fatalf("%d entries", n)
		}
		if _, _, ok := b.Read(fmt.Sprint(i)); !ok {
			t.Fatalf("%d is not there", i)
		}
	}
}

// pass lets virtual time go by.
func pass(d time.Duration) { <-time.After(d) }
