// Package cache remembers what it costs to find out: values that come from peers, the
// DHT, or from reading and verifying files. There are three tiers:
//
//	hot   in memory: few entries, for a short time
//	warm  in memory: more, for longer
//	cold  on disk, as bytes that are verified and parsed again; whose disk, says [Disk]
//
// A value that is found in a lower tier moves up; one that is pushed out of the hot tier
// is in the warm one already. The memory tiers are bounded by entries and by bytes, and
// choose what to keep by how often and how lately it was wanted (W-TinyLFU; Einziger,
// Friedman and Manes, 2017); no entry outlives its tier's lifetime.
//
// One load for a key runs at a time however many want it, and goes on while one of them
// waits. A value that is older than Config.Fresh is still given, and loaded again
// meanwhile; that there is none is remembered for a short time.
//
// The cache does not know what may be cached: whoever opens one decides, and says why it
// is safe. What is on disk is evicted by package store, not here.
package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"ggen.dev/marketplace/shared"
)

// Tier is where a value was found.
type Tier string

// The tiers. None says that it had to be loaded.
const (
	Hot  Tier = "hot"
	Warm Tier = "warm"
	Cold Tier = "cold"
	None Tier = "none"
)

// Limits bound a memory tier.
type Limits struct {
	Entries  int           // 0: the default
	Lifetime time.Duration // of an entry, from when it came into the tier; 0: the default
}

// The defaults of the design, D9.
const (
	DefaultHotEntries   = 100
	DefaultHotLifetime  = time.Hour
	DefaultWarmEntries  = 1_000
	DefaultWarmLifetime = 24 * time.Hour
	DefaultColdLifetime = 7 * 24 * time.Hour
)

// DefaultMissing is how long it is remembered that there is no value: long enough for those
// who ask at the same time, too short for anybody to notice.
const DefaultMissing = 5 * time.Second

// MaxHot and MaxWarm are how many bytes the values of a memory tier may have together, as
// they would be on disk; parsed they have up to twice as many.
const (
	MaxHot  = 4 << 20
	MaxWarm = 16 << 20
)

// loadTimeout bounds a load that nobody waits for.
const loadTimeout = time.Minute

// Disk is a cold tier. Its methods are called concurrently.
type Disk interface {
	// Read gives what was written under a key, and when. That there is nothing, or nothing
	// that can be read, is no error: ok is false.
	Read(key string) (data []byte, written time.Time, ok bool)
	// Write keeps what it can; that it could not is no error.
	Write(key string, data []byte)
	// Drop forgets what is damaged.
	Drop(key string)
}

// Config describes a [Cache].
type Config[V any] struct {
	Hot, Warm Limits
	Cold      Disk          // nil: there is no cold tier
	ColdFor   time.Duration // lifetime of an entry on disk; 0: [DefaultColdLifetime]
	// Fresh is how long a value is given without being loaded again. 0: as long as it is there.
	Fresh time.Duration
	// Missing is how long it is remembered that a load ended with NOT_FOUND. 0:
	// [DefaultMissing]; negative: not at all.
	Missing time.Duration
	// Encode makes the bytes of the cold tier, which are what the other tiers count. Required.
	Encode func(V) []byte
	// Decode verifies and parses them: the disk may err, or somebody may have written to
	// it. Required if there is a cold tier.
	Decode func(key string, data []byte) (V, error)
}

// entry is a value in memory.
type entry[T any] struct {
	value  T
	loaded time.Time // from where it is true
	until  time.Time // when its time in the tier is over
	bytes  int
}

// Cache is a set of values by key. Its methods may be called concurrently; values must not
// be changed.
type Cache[V any] struct {
	cfg     Config[V]
	hot     *otter.Cache[string, entry[V]]
	warm    *otter.Cache[string, entry[V]]
	missing *otter.Cache[string, entry[error]]
	counts  counts

	mu      sync.Mutex // guards flights
	flights map[string]*flight[V]

	closing context.Context // ends when Close begins
	end     context.CancelFunc
	running sync.WaitGroup // flights
}

// flight is a load that runs, for all who wait.
type flight[V any] struct {
	done   chan struct{} // closed when the fields below are set
	value  V
	err    error
	key    string
	cancel context.CancelFunc
	left   int  // how many wait; guarded by Cache.mu
	stays  bool // it goes on when nobody waits
}

type counts struct {
	hits, misses [3]atomic.Int64 // by tier: hot, warm, cold
	loads        atomic.Int64
	failed       atomic.Int64
	damaged      atomic.Int64
	shared       atomic.Int64 // that waited for a load of somebody else
}

// TierCounts are those of one tier.
type TierCounts struct {
	Entries      int
	Most         int // how many it may hold; 0: it is bounded by bytes
	Hits, Misses int64
}

// Counts are what a cache has done since it was opened.
type Counts struct {
	Hot, Warm, Cold TierCounts // Cold.Entries is not counted here
	Loads           int64      // that were begun
	Failed          int64      // of these
	Coalesced       int64      // wants that were served by a load for another
	Damaged         int64      // entries on disk that had to be dropped
}

// New makes a cache, to be closed.
func New[V any](cfg Config[V]) *Cache[V] {
	orElse := func(l Limits, entries int, lifetime time.Duration) Limits {
		if l.Entries <= 0 {
			l.Entries = entries
		}
		if l.Lifetime <= 0 {
			l.Lifetime = lifetime
		}
		return l
	}
	cfg.Hot = orElse(cfg.Hot, DefaultHotEntries, DefaultHotLifetime)
	cfg.Warm = orElse(cfg.Warm, DefaultWarmEntries, DefaultWarmLifetime)
	if cfg.ColdFor <= 0 {
		cfg.ColdFor = DefaultColdLifetime
	}
	if cfg.Missing == 0 {
		cfg.Missing = DefaultMissing
	}
	c := &Cache[V]{
		cfg: cfg, flights: map[string]*flight[V]{},
		hot: tier[V](cfg.Hot.Entries, MaxHot), warm: tier[V](cfg.Warm.Entries, MaxWarm), missing: tier[error](cfg.Hot.Entries, MaxHot),
	}
	c.closing, c.end = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	return c
}

// tier is a map that is bounded by entries and bytes: none weighs less than its share of
// the bytes. Lifetimes are checked at every read instead of by a clock of the library,
// which would need a goroutine that wakes up every second; and what the library has to
// tidy up is done by who calls it.
func tier[T any](entries, bytes int) *otter.Cache[string, entry[T]] {
	share := max(bytes/entries, 1)
	return otter.Must(&otter.Options[string, entry[T]]{
		MaximumWeight: uint64(entries * share),
		Weigher:       func(_ string, e entry[T]) uint32 { return uint32(max(e.bytes, share)) },
		Executor:      func(work func()) { work() },
	})
}

// Get gives the value of a key from the highest tier that has it, or loads it. Errors are
// those of load, or ctx's; load is not ended by ctx while others wait for it.
func (c *Cache[V]) Get(ctx context.Context, key string, load func(context.Context) (V, error)) (V, Tier, error) {
	if value, at, stale, ok := c.find(key); ok {
		if stale {
			c.refresh(ctx, key, load)
		}
		return value, at, nil
	}
	if err := c.none(key); err != nil {
		var zero V
		return zero, Hot, err
	}
	value, err := c.wait(ctx, key, load)
	return value, None, err
}

// Peek is Get without a load for who waits: a value that is not here is not there. One
// that is stale is loaded again in the background; load may be nil.
func (c *Cache[V]) Peek(ctx context.Context, key string, load func(context.Context) (V, error)) (value V, at Tier, ok bool) {
	value, at, stale, ok := c.find(key)
	if ok && stale && load != nil {
		c.refresh(ctx, key, load)
	}
	return value, at, ok
}

// Missing tells whether a load has just found that there is no value.
func (c *Cache[V]) Missing(key string) bool { return c.none(key) != nil }

// Deny remembers for a short time that there is no value, as a load that ends with
// NOT_FOUND does.
func (c *Cache[V]) Deny(key string) {
	if c.cfg.Missing > 0 {
		c.deny(key, shared.NewError(shared.ReasonNotFound, "there is no %s", key))
	}
}

func (c *Cache[V]) deny(key string, err error) {
	now := time.Now()
	c.missing.Set(key, entry[error]{value: err, loaded: now, until: now.Add(c.cfg.Missing)})
}

// Put keeps a value that was found otherwise.
func (c *Cache[V]) Put(key string, value V) {
	c.missing.Invalidate(key)
	data := c.cfg.Encode(value)
	c.keep(key, value, len(data), time.Now())
	if c.cfg.Cold != nil {
		c.cfg.Cold.Write(key, data)
	}
}

// Forget drops a key from all tiers. A load that runs is not waited for any more.
func (c *Cache[V]) Forget(key string) {
	c.mu.Lock()
	delete(c.flights, key)
	c.mu.Unlock()
	c.hot.Invalidate(key)
	c.warm.Invalidate(key)
	c.missing.Invalidate(key)
	if c.cfg.Cold != nil {
		c.cfg.Cold.Drop(key)
	}
}

// Clear empties the memory tiers.
func (c *Cache[V]) Clear() {
	c.hot.InvalidateAll()
	c.warm.InvalidateAll()
	c.missing.InvalidateAll()
}

// Counts reads what the cache has done.
func (c *Cache[V]) Counts() Counts {
	of := func(i, entries, most int) TierCounts {
		return TierCounts{Entries: entries, Most: most, Hits: c.counts.hits[i].Load(), Misses: c.counts.misses[i].Load()}
	}
	return Counts{
		Hot: of(0, c.hot.EstimatedSize(), c.cfg.Hot.Entries), Warm: of(1, c.warm.EstimatedSize(), c.cfg.Warm.Entries), Cold: of(2, 0, 0),
		Loads: c.counts.loads.Load(), Failed: c.counts.failed.Load(), Coalesced: c.counts.shared.Load(), Damaged: c.counts.damaged.Load(),
	}
}

// Close ends the loads that run and waits for them. It is idempotent.
func (c *Cache[V]) Close() error {
	c.mu.Lock()
	c.end()
	c.mu.Unlock() // no load begins any more
	c.running.Wait()
	return nil
}

// find looks through the tiers, and moves what it finds up.
func (c *Cache[V]) find(key string) (value V, at Tier, stale, ok bool) {
	now := time.Now()
	if e, there := c.hot.GetIfPresent(key); there && now.Before(e.until) {
		c.counts.hits[0].Add(1)
		return e.value, Hot, c.stale(e.loaded, now), true
	}
	c.counts.misses[0].Add(1)
	if e, there := c.warm.GetIfPresent(key); there && now.Before(e.until) {
		c.counts.hits[1].Add(1)
		e.until = now.Add(c.cfg.Hot.Lifetime)
		c.hot.Set(key, e)
		return e.value, Warm, c.stale(e.loaded, now), true
	}
	c.counts.misses[1].Add(1)
	if c.cfg.Cold == nil {
		return value, None, false, false
	}
	if data, written, there := c.cfg.Cold.Read(key); there && now.Sub(written) < c.cfg.ColdFor {
		value, err := c.cfg.Decode(key, data)
		if err == nil {
			c.counts.hits[2].Add(1)
			c.keep(key, value, len(data), written)
			return value, Cold, c.stale(written, now), true
		}
		c.counts.damaged.Add(1)
		c.cfg.Cold.Drop(key)
	}
	c.counts.misses[2].Add(1)
	return value, None, false, false
}

func (c *Cache[V]) stale(loaded, now time.Time) bool {
	return c.cfg.Fresh > 0 && now.Sub(loaded) >= c.cfg.Fresh
}

// keep puts a value into the memory tiers.
func (c *Cache[V]) keep(key string, value V, bytes int, loaded time.Time) {
	now := time.Now()
	c.hot.Set(key, entry[V]{value, loaded, now.Add(c.cfg.Hot.Lifetime), bytes})
	c.warm.Set(key, entry[V]{value, loaded, now.Add(c.cfg.Warm.Lifetime), bytes})
}

// none is the error of a load that has just found that there is nothing.
func (c *Cache[V]) none(key string) error {
	if e, there := c.missing.GetIfPresent(key); there && time.Now().Before(e.until) {
		return e.value
	}
	return nil
}

// wait joins the load of a key, or begins it.
func (c *Cache[V]) wait(ctx context.Context, key string, load func(context.Context) (V, error)) (value V, err error) {
	f, err := c.join(ctx, key, load, false)
	if err != nil {
		return value, err
	}
	defer c.leave(f)
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		return value, shared.AsError(ctx.Err())
	}
}

// refresh begins a load that nobody waits for.
func (c *Cache[V]) refresh(ctx context.Context, key string, load func(context.Context) (V, error)) {
	_, _ = c.join(ctx, key, load, true) // a cache that closes has what it has
}

// join begins a load unless one runs. The load keeps what ctx carries, and not its end.
func (c *Cache[V]) join(ctx context.Context, key string, load func(context.Context) (V, error), background bool) (*flight[V], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Err() != nil {
		return nil, shared.NewError(shared.ReasonCanceled, "the cache is closed")
	}
	if f := c.flights[key]; f != nil {
		if !background {
			f.left++
			c.counts.shared.Add(1)
		}
		return f, nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // fly calls it
	f := &flight[V]{key: key, done: make(chan struct{}), cancel: cancel, stays: background}
	if !background {
		f.left = 1
	}
	c.flights[key] = f
	c.running.Go(func() { c.fly(ctx, f, load) })
	return f, nil
}

// leave ends a load that nobody waits for any more; the next one who wants it begins anew.
func (c *Cache[V]) leave(f *flight[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.left--; f.left == 0 && !f.stays {
		f.cancel()
		c.land(f)
	}
}

// land makes room for another load of the key. c.mu is held.
func (c *Cache[V]) land(f *flight[V]) {
	if c.flights[f.key] == f {
		delete(c.flights, f.key)
	}
}

// fly loads a value and keeps it, unless it was forgotten meanwhile.
func (c *Cache[V]) fly(ctx context.Context, f *flight[V], load func(context.Context) (V, error)) {
	defer close(f.done)
	defer f.cancel()
	defer context.AfterFunc(c.closing, f.cancel)() //nolint:contextcheck // it ends the one above
	if f.stays {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, loadTimeout)
		defer cancel()
	}
	c.counts.loads.Add(1)
	f.value, f.err = load(ctx)
	c.mu.Lock()
	wanted := c.flights[f.key] == f
	c.mu.Unlock()
	if wanted {
		c.outcome(f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.land(f)
}

// outcome keeps what a load has found.
func (c *Cache[V]) outcome(f *flight[V]) {
	switch {
	case f.err == nil:
		c.Put(f.key, f.value)
		return
	case errors.Is(f.err, shared.ReasonNotFound) && c.cfg.Missing > 0:
		c.deny(f.key, f.err)
	}
	c.counts.failed.Add(1)
}
