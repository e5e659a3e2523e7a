package publisher_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

func ringAt(t testing.TB, folder string) *publisher.Keyring {
	t.Helper()
	ring, err := publisher.OpenKeyring(folder)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func markOf(ring *publisher.Keyring, size int64, entries ...string) publisher.Mark {
	mark := publisher.Mark{Publisher: ring.ID(), Size: size, Hash: tlog.RecordHash([]byte(fmt.Sprint(size)))}
	for _, entry := range entries {
		mark.Entries = append(mark.Entries, []byte(entry))
	}
	return mark
}

func TestMark(t *testing.T) {
	t.Run("comes back with the keyring", func(t *testing.T) {
		folder := t.TempDir()
		key := ringAt(t, folder)
		want := markOf(key, 7, "a", "b")
		if err := key.SetMark(want); err != nil {
			t.Fatal(err)
		}
		got, err := ringAt(t, folder).Mark(key.ID())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v", got, err)
		}
		info, err := os.Stat(key.MarkPath())
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Fatalf("got mode %v, %v", info.Mode(), err)
		}
		if left, err := os.ReadDir(folder); err != nil || len(left) != 2 {
			t.Fatalf("left behind: %v, %v", left, err)
		}
	})
	t.Run("another key in the same folder leaves it alone", func(t *testing.T) {
		folder := t.TempDir()
		first := ringAt(t, folder)
		if err := first.SetMark(markOf(first, 7)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(folder, "publisher.key")); err != nil {
			t.Fatal(err)
		}
		second := ringAt(t, folder)
		if mark, err := second.Mark(second.ID()); err != nil || mark.Size != 0 {
			t.Fatalf("got %+v, %v; want none", mark, err)
		}
		if err := second.SetMark(markOf(second, 1)); err != nil {
			t.Fatal(err)
		}
		if mark, err := second.Mark(first.ID()); err != nil || mark.Size != 7 {
			t.Fatalf("got %+v, %v; want the first key's", mark, err)
		}
	})
	t.Run("of size 0 is removed", func(t *testing.T) {
		key := ringAt(t, t.TempDir())
		for _, size := range []int64{3, 0} {
			if err := key.SetMark(markOf(key, size)); err != nil {
				t.Fatal(err)
			}
		}
		if mark, err := key.Mark(key.ID()); err != nil || mark.Size != 0 {
			t.Fatalf("got %+v, %v", mark, err)
		}
	})
	t.Run("a keyring in memory has none", func(t *testing.T) {
		key := ringOf(t, newKey(t))
		if err := key.SetMark(markOf(key, 7)); err != nil {
			t.Fatal(err)
		}
		if mark, err := key.Mark(key.ID()); err != nil || mark.Size != 0 || key.MarkPath() != "" {
			t.Fatalf("got %+v, %v", mark, err)
		}
	})
	for _, content := range []string{"", "{}", `{"v":2,"marks":[]}`, `{"v":1,"v":1,"marks":[]}`, `{"v":1,"marks":[{"publisher":"x","size":1}]}`} {
		t.Run(fmt.Sprintf("damaged is STORAGE: %q", content), func(t *testing.T) {
			key := ringAt(t, t.TempDir())
			if err := os.WriteFile(key.MarkPath(), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := key.Mark(key.ID())
			if !errors.Is(err, shared.ReasonStorage) || !strings.Contains(err.Error(), key.MarkPath()) || shared.AsError(err).Hint == "" {
				t.Fatalf("got %v; want STORAGE that names the file, with a hint", err)
			}
			if err := key.SetMark(markOf(key, 1)); !errors.Is(err, shared.ReasonStorage) {
				t.Fatalf("it was overwritten: %v", err)
			}
		})
	}
}

func FuzzParseMarks(f *testing.F) {
	f.Add([]byte(`{"v":1,"marks":[{"publisher":"` + strings.Repeat("a", 64) + `","size":1,"hash":"` + tlog.Hash{}.String() + `","entries":["YQ=="]}]}`))
	f.Add([]byte(`{"v":1,"marks":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		marks, err := publisher.ParseMarks(data)
		for _, mark := range marks {
			if err != nil || mark.Size < 1 || int64(len(mark.Entries)) > mark.Size || !mark.Publisher.Complete() {
				t.Fatalf("took %+v, %v", mark, err)
			}
		}
	})
}

func TestKeyIsPrintedWithoutItsSecret(t *testing.T) {
	key := newKey(t)
	for name, value := range map[string]any{"pointer": key, "value": *key} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%T%v"} {
			text := fmt.Sprintf(verb, value)
			if verb == "%T%v" {
				text = fmt.Sprint(value)
			}
			if text != key.String() {
				t.Errorf("%s with %s: printed %q", name, verb, text)
			}
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", value)
		if !strings.Contains(log.String(), key.String()) {
			t.Errorf("%s logged: %s", name, log.String())
		}
	}
	// Package fmt calls no methods on unexported fields; it must find no bytes there.
	holder := struct{ key publisher.Key }{*key}
	for _, verb := range []string{"%v", "%+v", "%#v", "%d", "%x"} {
		if text := fmt.Sprintf(verb, holder); len(text) > 150 {
			t.Errorf("%s in a field: printed %d bytes", verb, len(text))
		}
	}
}
