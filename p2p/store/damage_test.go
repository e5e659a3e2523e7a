package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

// database gives the bytes of a database with n entries.
func database(t testing.TB, n int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "market.db")
	db, err := store.OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fill(n)), db.Update(fill(n/2)), db.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// use opens a database, reads all of it, writes to it, and tells how that went. It
// fails the test where an error is not STORAGE with path and hint.
func use(t testing.TB, path string) (opened bool) {
	t.Helper()
	db, err := store.OpenDB(path)
	check := func(err error) {
		t.Helper()
		if e := shared.AsError(err); err != nil && (!errors.Is(err, shared.ReasonStorage) || e.Metadata["path"] != path || e.Hint == "" || !strings.Contains(e.Message, path)) {
			t.Fatalf("%v: %+v", err, e)
		}
	}
	if err != nil {
		check(err)
		return false
	}
	check(db.View(readAll))
	check(db.Update(fill(3)))
	check(db.View(readAll))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}

// readAll looks at every byte.
func readAll(tx *bbolt.Tx) error {
	var visit func(b *bbolt.Bucket) error
	visit = func(b *bbolt.Bucket) error {
		return b.ForEach(func(key, value []byte) error {
			if value != nil {
				_ = shared.DigestOf(value)
				return nil
			}
			if child := b.Bucket(key); child != nil {
				return visit(child)
			}
			return nil
		})
	}
	return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return visit(b) })
}

const page = 4096

// valid gives a meta page its checksum again.
func valid(data []byte, at int) {
	sum := fnv.New64a()
	_, _ = sum.Write(data[at*page+16:][:56])
	binary.NativeEndian.PutUint64(data[at*page+16+56:], sum.Sum64())
}

func TestDamagedDatabaseIsRefused(t *testing.T) {
	whole := database(t, 300)
	both := func(field int, value uint64) func([]byte) []byte {
		return func(data []byte) []byte {
			for at := range 2 {
				binary.NativeEndian.PutUint64(data[at*page+16+field:], value)
				valid(data, at)
			}
			return data
		}
	}
	newest := func(data []byte) int {
		if binary.NativeEndian.Uint64(data[16+48:]) > binary.NativeEndian.Uint64(data[page+16+48:]) {
			return 0
		}
		return 1
	}
	root := func(data []byte) int { return int(binary.NativeEndian.Uint64(data[newest(data)*page+16+16:])) * page }
	for name, spoil := range map[string]func([]byte) []byte{
		"empty":                     func([]byte) []byte { return nil },
		"one byte":                  func(data []byte) []byte { return data[:1] },
		"less than two pages":       func(data []byte) []byte { return data[:2*page-1] },
		"two pages":                 func(data []byte) []byte { return data[:2*page] },
		"half":                      func(data []byte) []byte { return data[:len(data)/2] },
		"all zeros":                 func(data []byte) []byte { return make([]byte, len(data)) },
		"not a database":            func(data []byte) []byte { return bytes.Repeat([]byte("no database "), len(data)/12) },
		"no metas":                  func(data []byte) []byte { clear(data[:2*page]); return data },
		"root out of bounds":        both(16, 1<<40),
		"root is a meta page":       both(16, 1),
		"free list out of bounds":   both(32, 1<<40),
		"free list is the root":     func(data []byte) []byte { return both(32, uint64(root(data)/page))(data) },
		"end out of bounds":         both(40, 1<<62),
		"end overflows":             both(40, 1<<63|1<<52),
		"end too early":             both(40, 3),
		"page size 0":               func(data []byte) []byte { clear(data[16+8 : 16+12]); valid(data, 0); return data },
		"root is of no kind":        func(data []byte) []byte { clear(data[root(data)+8:][:2]); return data },
		"root is another page":      func(data []byte) []byte { data[root(data)]++; return data },
		"root has many elements":    func(data []byte) []byte { binary.NativeEndian.PutUint16(data[root(data)+10:], 65535); return data },
		"root goes on":              func(data []byte) []byte { binary.NativeEndian.PutUint32(data[root(data)+12:], 1<<31); return data },
		"a key out of bounds":       func(data []byte) []byte { binary.NativeEndian.PutUint32(data[root(data)+16+4:], 1<<31); return data },
		"a long key":                func(data []byte) []byte { binary.NativeEndian.PutUint32(data[root(data)+16+8:], 1<<32-1); return data },
		"a long value":              func(data []byte) []byte { binary.NativeEndian.PutUint32(data[root(data)+16+12:], 1<<32-1); return data },
		"an element of another age": func(data []byte) []byte { data[root(data)+16] |= 2; return data },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "market.db")
			if err := os.WriteFile(path, spoil(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			before := picture(t, filepath.Dir(path))
			if use(t, path) {
				t.Fatal("it was opened")
			}
			wantSame(t, before, picture(t, filepath.Dir(path)))
			if e := shared.AsError(store.Inspect(path)); e == nil {
				t.Fatal("it passed")
			}
		})
	}
	t.Run("a page that is its own descendant", func(t *testing.T) {
		data := bytes.Clone(whole)
		branches := 0
		for at := 2 * page; at < len(data); at += page {
			if binary.NativeEndian.Uint16(data[at+8:]) == 1 { // a branch: its first element points back
				binary.NativeEndian.PutUint64(data[at+16+8:], uint64(at/page))
				branches++
			}
		}
		path := filepath.Join(t.TempDir(), "market.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if branches == 0 || use(t, path) {
			t.Fatalf("it was opened; %d pages were changed", branches)
		}
	})
	t.Run("one meta page of two is enough", func(t *testing.T) {
		data := bytes.Clone(whole)
		clear(data[newest(data)*page:][:page]) // as after a write that a power cut tore
		path := filepath.Join(t.TempDir(), "market.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if !use(t, path) {
			t.Fatal("it was refused")
		}
	})
	t.Run("a folder", func(t *testing.T) {
		if use(t, t.TempDir()) {
			t.Fatal("it was opened")
		}
	})
}

// kinds of damage, which start at an offset.
var kinds = []func(random *rand.Rand, data []byte, at int) []byte{
	func(random *rand.Rand, data []byte, at int) []byte { data[at] ^= 1 << random.IntN(8); return data },
	func(random *rand.Rand, data []byte, at int) []byte { data[at] = byte(random.IntN(256)); return data },
	func(_ *rand.Rand, data []byte, at int) []byte { clear(data[at:min(len(data), at+512)]); return data },
	func(_ *rand.Rand, data []byte, at int) []byte { clear(data[at/page*page:][:page]); return data },
	func(_ *rand.Rand, data []byte, at int) []byte { return data[:at] },
	func(random *rand.Rand, data []byte, at int) []byte {
		for i := at; i < min(len(data), at+64); i++ {
			data[i] = byte(random.Uint32())
		}
		return data
	},
	func(random *rand.Rand, data []byte, at int) []byte { // a page in the place of another
		copy(data[at/page*page:][:page], data[random.IntN(len(data)/page)*page:])
		return data
	},
}

// TestDamageAnywhere opens, reads and writes databases that are damaged at one
// place. bbolt must never get to see what would make it end the process.
func TestDamageAnywhere(t *testing.T) {
	whole := database(t, 300)
	rounds := 1000
	if testing.Short() {
		rounds = 400
	}
	random := rand.New(rand.NewPCG(2, 3))
	refused := 0
	path := filepath.Join(t.TempDir(), "market.db")
	for round := range rounds {
		at := random.IntN(len(whole))
		if round%3 == 0 { // headers and elements: what a page is made of
			at = at/page*page + random.IntN(256)
		}
		data := kinds[round%len(kinds)](random, bytes.Clone(whole), at)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if !use(t, path) {
			refused++
		}
	}
	t.Logf("%d of %d were refused", refused, rounds)
	if refused < rounds/10 {
		t.Fatalf("only %d of %d were refused", refused, rounds)
	}
}

// TestDamageUnderAnOpenDatabase spoils the file while it is in use.
func TestDamageUnderAnOpenDatabase(t *testing.T) {
	whole := database(t, 300)
	random := rand.New(rand.NewPCG(4, 5))
	damage := map[string]func(file *os.File) error{
		"all pages are zeros": func(file *os.File) error {
			_, err := file.WriteAt(make([]byte, len(whole)-2*page), 2*page)
			return err
		},
		"all pages are ones": func(file *os.File) error {
			_, err := file.WriteAt(bytes.Repeat([]byte{0xFF}, len(whole)-2*page), 2*page)
			return err
		},
		"both metas are gone": func(file *os.File) error {
			_, err := file.WriteAt(make([]byte, 2*page), 0)
			return err
		},
		"it is truncated":            func(file *os.File) error { return file.Truncate(2 * page) },
		"it is truncated to nothing": func(file *os.File) error { return file.Truncate(0) },
	}
	for i := range 20 {
		damage[fmt.Sprintf("all pages are noise %d", i)] = func(file *os.File) error {
			noise := bytes.Clone(whole[2*page:])
			for at := 16; at < len(noise); at++ {
				if at%page >= 8 {
					noise[at] = byte(random.Uint32())
				}
			}
			_, err := file.WriteAt(noise, 2*page)
			return err
		}
	}
	for name, spoil := range damage {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "market.db")
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := store.OpenDB(path)
			if err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(spoil(file), file.Close()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				wantStorage(t, db.View(readAll), path)
				wantStorage(t, db.Update(func(tx *bbolt.Tx) error { return errors.Join(readAll(tx), fill(50)(tx)) }), path)
			}
			// Nothing more is written, whatever it is.
			wantStorage(t, db.Update(func(*bbolt.Tx) error { return nil }), path)
			for range 2 {
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			if !use(t, path) { // the lock was given up
				t.Fatal("it cannot be opened again")
			}
		})
	}
}

func wantStorage(t testing.TB, err error, path string) {
	t.Helper()
	wantReason(t, err, shared.ReasonStorage)
	if e := shared.AsError(err); e.Metadata["path"] != path || !strings.Contains(e.Hint, "move it away") {
		t.Fatalf("%+v", e)
	}
}

func TestAPanicInATransactionLosesNoLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "market.db")
	db, err := store.OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := db.Update(func(*bbolt.Tx) error { return broken }); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if err := db.Update(fill(10)); err != nil { // an error alone is no damage
		t.Fatal(err)
	}
	var none []byte
	wantStorage(t, db.View(func(*bbolt.Tx) error { none[0]++; return nil }), path)
	if err := db.View(readAll); err != nil {
		t.Fatal(err)
	}
	wantStorage(t, db.Update(func(*bbolt.Tx) error { none[0]++; return nil }), path)
	if err := db.View(readAll); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzOpenDB is given any file at all.
func FuzzOpenDB(f *testing.F) {
	whole := database(f, 30)
	for _, size := range []int{0, 100, page, 2 * page, 4 * page, len(whole)} {
		f.Add(whole[:size], uint32(0), uint64(0))
	}
	f.Add(whole, uint32(16+16), uint64(5))
	f.Fuzz(func(t *testing.T, data []byte, at uint32, value uint64) {
		// The checksums of the first pages would keep most changes from being seen.
		if len(data) >= 2*page && int(at) < len(data)-8 {
			binary.NativeEndian.PutUint64(data[at:], value)
			valid(data, 0)
			valid(data, 1)
		}
		path := filepath.Join(t.TempDir(), "market.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		use(t, path)
	})
}

// BenchmarkOpenDB opens a database of 100,000 entries of 400 bytes; inspect is the
// part that finds damage.
func BenchmarkOpenDB(b *testing.B) {
	path := filepath.Join(b.TempDir(), "market.db")
	if err := os.WriteFile(path, database(b, 100_000), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			db, err := store.OpenDB(path)
			if err != nil {
				b.Fatal(err)
			}
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("inspect", func(b *testing.B) {
		for b.Loop() {
			if err := store.Inspect(path); err != nil {
				b.Fatal(err)
			}
		}
	})
}
