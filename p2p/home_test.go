package p2p_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// picture is all that can be told of the files below a folder.
func picture(t *testing.T, folder string) map[string]string {
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

// TestTheHomeOfANewerEngine is refused, and every byte and time in it stays.
func TestTheHomeOfANewerEngine(t *testing.T) {
	home := t.TempDir()
	e, end := opened(t, home)
	publish(t, e, "pack", "1.0.0")
	end()
	db, err := bbolt.Open(filepath.Join(home, "market.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("schema"), []byte("7")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"whole", "without content", "without keys"} {
		t.Run(name, func(t *testing.T) {
			if folder, missing := strings.CutPrefix(name, "without "); missing {
				if err := os.RemoveAll(filepath.Join(home, folder)); err != nil {
					t.Fatal(err)
				}
			}
			before := picture(t, home)
			_, err := p2p.Open(t.Context(), p2p.Config{Home: home})
			if e := shared.AsError(err); !errors.Is(err, shared.ReasonStorage) || e.Metadata["schema"] != "7" || e.Metadata["supported"] != "1" || !strings.Contains(e.Hint, "plugin use") {
				t.Fatalf("%v: %+v", err, e)
			}
			if after := picture(t, home); !maps.Equal(before, after) {
				t.Fatalf("it was\n%v\nand is\n%v", before, after)
			}
		})
	}
}

// TestADamagedDatabaseCanBeReplaced does what the hint says.
func TestADamagedDatabaseCanBeReplaced(t *testing.T) {
	a, home := open(t, t.TempDir()), t.TempDir()
	publish(t, a, "theirs", "1.0.0")
	b, end := opened(t, home)
	before, err := b.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Bootstrap(t.Context(), []string{address(t, a)}); err != nil {
		t.Fatal(err)
	}
	knows(t, b, "theirs")
	end()

	path := filepath.Join(home, "market.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("garbage"), 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = p2p.Open(t.Context(), p2p.Config{Home: home})
	if e := shared.AsError(err); !errors.Is(err, shared.ReasonStorage) || e.Metadata["path"] != path || !strings.Contains(e.Hint, "move it away") {
		t.Fatalf("%v: %+v", err, e)
	}
	if err := os.Rename(path, path+".damaged"); err != nil {
		t.Fatal(err)
	}
	b = open(t, home, address(t, a))
	knows(t, b, "theirs")
	if after, err := b.Status(t.Context()); err != nil || after.Publisher != before.Publisher || after.PeerID != before.PeerID {
		t.Fatalf("%+v, %v; before %+v", after, err, before)
	}
}
