package catalog_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

// TestPagesThatAreDamagedLater spoils the file under a catalogue that is in use:
// calls that need it fail, and what is in memory is still there.
func TestPagesThatAreDamagedLater(t *testing.T) {
	for name, spoil := range map[string]func(file *os.File, size int64) error{
		"zeros": func(file *os.File, size int64) error {
			_, err := file.WriteAt(make([]byte, size-8192), 8192)
			return err
		},
		"truncated": func(file *os.File, _ int64) error { return file.Truncate(8192) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "market.db")
			db, err := store.OpenDB(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			c, err := catalog.Open(db)
			if err != nil {
				t.Fatal(err)
			}
			key := newKey(t)
			for i := range 50 {
				publish(t, c, key, release("pack", fmt.Sprintf("1.%d.0", i), fmt.Sprint(i)))
			}
			id := c.Heads()[0].Publisher
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			info, err := file.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(spoil(file, info.Size()), file.Close()); err != nil {
				t.Fatal(err)
			}
			_, since := c.Since(id, 0, 1<<20)
			_, _, proof := c.Proof(id, 3)
			_, forks := c.Forks()
			_, _, again := c.Publish(key, release("pack", "2.0.0", "a"))
			pin := c.Pin(map[string]shared.PublisherID{"pack": id})
			_, opened := catalog.Open(db)
			for what, err := range map[string]error{"since": since, "proof": proof, "forks": forks, "publish": again, "pin": pin, "open": opened} {
				if e := shared.AsError(err); !errors.Is(err, shared.ReasonStorage) || e.Hint == "" {
					t.Errorf("%s: got %v", what, err)
				}
			}
			if found := c.Lookup("pack"); len(found) != 1 || len(found[0].Releases) != 50 {
				t.Errorf("the memory holds %v", found)
			}
		})
	}
}
