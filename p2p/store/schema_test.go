package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

// writeRaw makes a database, or changes it, without the store's knowledge.
func writeRaw(t testing.TB, path string, write func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(write), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// fill puts n entries of 400 bytes and a small bucket, as a catalogue has them.
func fill(n int) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		logs, err := tx.CreateBucketIfNotExists([]byte("logs"))
		if err != nil {
			return err
		}
		inline, err := logs.CreateBucketIfNotExists([]byte("small"))
		if err != nil {
			return err
		}
		if err := inline.Put([]byte("key"), []byte("value")); err != nil {
			return err
		}
		entries, err := logs.CreateBucketIfNotExists([]byte("entries"))
		if err != nil {
			return err
		}
		for i := range n {
			if err := entries.Put(fmt.Appendf(nil, "%08d", i), bytes.Repeat([]byte{byte(i)}, 400)); err != nil {
				return err
			}
		}
		return entries.Put([]byte("large"), bytes.Repeat([]byte("x"), 20<<10))
	}
}

func schema(t testing.TB, db interface {
	View(func(*bbolt.Tx) error) error
},
) (version string, entries int) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket([]byte("meta")); meta != nil {
			version = string(meta.Get([]byte("schema")))
		}
		if logs := tx.Bucket([]byte("logs")); logs != nil {
			entries = logs.Bucket([]byte("entries")).Stats().KeyN
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return version, entries
}

// picture is all that can be told of the files below a folder but their contents'
// access times.
func picture(t testing.TB, folder string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var data []byte
		if info.Mode().IsRegular() {
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		seen[path] = fmt.Sprint(info.Mode(), info.ModTime(), info.Size(), shared.DigestOf(data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func wantSame(t testing.TB, before, after map[string]string) {
	t.Helper()
	for path := range after {
		if before[path] != after[path] {
			t.Errorf("%s was %q and is %q", path, before[path], after[path])
		}
	}
	if len(before) != len(after) {
		t.Errorf("there were %d files, and are %d", len(before), len(after))
	}
}

func TestNewerSchemaIsNotTouched(t *testing.T) {
	home := t.TempDir()
	path := filepath.Join(home, "market.db")
	db, err := store.OpenDBWith(path, fill(100), func(*bbolt.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := picture(t, home)
	_, err = store.OpenDB(path)
	wantReason(t, err, shared.ReasonStorage)
	e := shared.AsError(err)
	if e.Metadata["schema"] != "3" || e.Metadata["supported"] != "1" || e.Metadata["path"] != path ||
		!strings.Contains(e.Hint, "ggen marketplace plugin use") || !strings.Contains(e.Message, path) ||
		!strings.Contains(e.Message, "schema 3") || !strings.Contains(e.Message, "up to 1") {
		t.Fatalf("%+v", e)
	}
	wantSame(t, before, picture(t, home))
}

func TestMigration(t *testing.T) {
	t.Run("a database without a version is one of the first", func(t *testing.T) {
		for _, bucket := range []string{"logs", "forks", "pins", "reputation"} {
			path := filepath.Join(t.TempDir(), "market.db")
			writeRaw(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte(bucket)); return err })
			db, err := store.OpenDB(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.View(func(tx *bbolt.Tx) error {
				if version := tx.Bucket([]byte("meta")).Get([]byte("schema")); string(version) != "1" || tx.Bucket([]byte(bucket)) == nil {
					t.Errorf("%s: the version is %q", bucket, version)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			copied, err := bbolt.Open(path+".v0.bak", 0o600, &bbolt.Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := copied.View(func(tx *bbolt.Tx) error {
				if tx.Bucket([]byte(bucket)) == nil || tx.Bucket([]byte("meta")) != nil {
					t.Errorf("%s: the copy is not the old database", bucket)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := copied.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("a new one needs none and no copy", func(t *testing.T) {
		home := t.TempDir()
		db, err := store.OpenDBWith(filepath.Join(home, "market.db"), func(*bbolt.Tx) error { return errors.New("it ran") })
		if err != nil {
			t.Fatal(err)
		}
		if version, _ := schema(t, db); version != "2" {
			t.Errorf("the version is %q", version)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(home); err != nil || len(left) != 1 {
			t.Errorf("there are %v, %v", left, err)
		}
	})
	t.Run("a step that fails leaves the old state", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "market.db")
		writeRaw(t, path, fill(10))
		broken := errors.New("broken")
		for range 2 {
			_, err := store.OpenDBWith(path, fill(50), func(tx *bbolt.Tx) error { return errors.Join(tx.DeleteBucket([]byte("logs")), broken) })
			wantReason(t, err, shared.ReasonStorage)
			if !errors.Is(err, broken) || !strings.Contains(err.Error(), "from 2 to 3") {
				t.Fatal(err)
			}
			db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if version, entries := schema(t, db); version != "" || entries != 11 {
				t.Errorf("version %q, %d entries", version, entries)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		db, err := store.OpenDBWith(path, fill(50))
		if err != nil {
			t.Fatal(err)
		}
		if version, entries := schema(t, db); version != "2" || entries != 51 {
			t.Errorf("version %q, %d entries", version, entries)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a copy that cannot be made stops it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "market.db")
		writeRaw(t, path, fill(10))
		if err := os.Mkdir(path+".v0.bak", 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := store.OpenDB(path)
		wantReason(t, err, shared.ReasonStorage)
		if _, err := os.Stat(path + ".v0.bak.tmp"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the unfinished copy is left: %v", err)
		}
		if err := os.Remove(path + ".v0.bak"); err != nil {
			t.Fatal(err)
		}
		db, err := store.OpenDB(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// migratorEnv makes this test binary an engine that migrates the database there,
// and tells how far it is; see migrate.
const migratorEnv = "GGEN_TEST_MIGRATE"

const migratedEntries = 2000

func migrate(path string) error {
	say := func(what string) { _, _ = fmt.Println(what) }
	say("begin")
	db, err := store.OpenDBWith(path, func(tx *bbolt.Tx) error {
		say("copied")
		if err := fill(migratedEntries / 2)(tx); err != nil {
			return err
		}
		say("half")
		if err := fill(migratedEntries)(tx); err != nil {
			return err
		}
		say("whole")
		return nil
	})
	if err != nil {
		return err
	}
	say("done")
	return db.Close()
}

// TestKilledWhileMigrating kills a migration at each of its points, and some time
// behind. What is there afterwards must be the old state or the new one.
func TestKilledWhileMigrating(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for _, point := range []string{"begin", "copied", "half", "whole", "done"} {
		t.Run(point, func(t *testing.T) {
			old, moved := 0, 0
			for range rounds {
				path := filepath.Join(t.TempDir(), "market.db")
				writeRaw(t, path, fill(500))
				killAt(t, self, path, point, time.Duration(random.IntN(30_000))*time.Microsecond)
				db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				switch version, entries := schema(t, db); {
				case version == "" && entries == 501:
					old++
				case version == "2" && entries == migratedEntries+1:
					moved++
				default:
					t.Fatalf("version %q, %d entries", version, entries)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				again, err := store.OpenDBWith(path, fill(migratedEntries))
				if err != nil {
					t.Fatal(err)
				}
				if version, entries := schema(t, again); version != "2" || entries != migratedEntries+1 {
					t.Fatalf("then version %q, %d entries", version, entries)
				}
				copied, err := bbolt.Open(path+".v0.bak", 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				if version, entries := schema(t, copied); version != "" || entries != 501 {
					t.Fatalf("the copy has version %q, %d entries", version, entries)
				}
				if err := errors.Join(again.Close(), copied.Close()); err != nil {
					t.Fatal(err)
				}
				if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 2 {
					t.Fatalf("left are %v, %v", left, err)
				}
			}
			t.Logf("%d times the old state, %d times the new", old, moved)
		})
	}
}

// killAt starts a migration and kills it some time after it said that it is there.
func killAt(t *testing.T, self, path, point string, later time.Duration) {
	t.Helper()
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), migratorEnv+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == point {
			break
		}
	}
	<-time.After(later)
	_ = child.Process.Kill() // it may have ended
	_ = child.Wait()
}
