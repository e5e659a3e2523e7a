package publisher_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p/publisher"
)

// fuzzTime is what the parsers take for now, so that findings can be replayed.
var fuzzTime = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func FuzzParseUpdate(f *testing.F) {
	_, u := appended(f, newKey(f), fuzzTime, "1.0.0", "1.1.0")
	f.Add(u.Marshal())
	f.Add([]byte("gU1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := publisher.ParseUpdate(data)
		if err != nil {
			return
		}
		if again, err := publisher.ParseUpdate(u.Marshal()); err != nil || !bytes.Equal(again.Marshal(), u.Marshal()) {
			t.Fatalf("does not round-trip: %v", err)
		}
		_, _ = u.Verify(fuzzTime) // must not panic
		_, _ = publisher.Extend(publisher.Log{}, u, fuzzTime)
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add(entryOf(f, idOf(f, newKey(f)), typical("pack", "1.0.0"), fuzzTime))
	read := typical("read", "1.0.0")
	read.Readme = "Agent Memory Forge It remembers what agents saw & said, <lang> by <lang>."
	f.Add(entryOf(f, idOf(f, newKey(f)), read, fuzzTime))
	f.Add([]byte(`{"v":1,"kind":"yank","time":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := publisher.ParseEntry(data, fuzzTime)
		if err == nil && e.Kind == publisher.KindRelease && e.Release == nil {
			t.Fatal("a release without a release")
		}
		if err == nil && e.Release != nil && len(e.Release.Readme) > publisher.MaxReadme {
			t.Fatalf("a readme of %d bytes", len(e.Release.Readme))
		}
	})
}

func FuzzParseChain(f *testing.F) {
	root, err := publisher.NewRoot(newKey(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(root, []byte{})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, roots := range [][][]byte{{first}, {first, second}} {
			if chain, err := publisher.ParseChain(roots); err == nil && !chain.ID.Complete() {
				t.Fatal("a chain without an ID")
			}
		}
	})
}

func FuzzOpenHead(f *testing.F) {
	_, u := appended(f, newKey(f), fuzzTime, "1.0.0")
	chain, err := publisher.ParseChain(u.Roots)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(u.Head)
	f.Fuzz(func(t *testing.T, data []byte) {
		if head, err := publisher.OpenHead(data, chain, fuzzTime); err == nil && head.Publisher != chain.ID {
			t.Fatal("a head of another publisher")
		}
	})
}

// FuzzProven holds that whatever a peer lends is refused, or read as it would be written
// again, and that verifying it crashes nothing.
func FuzzProven(f *testing.F) {
	f.Add(publisher.Proven{Roots: [][]byte{[]byte("r")}, Head: []byte("h"), Entries: []publisher.ProvenEntry{{At: 3, Entry: []byte("e")}}}.Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := publisher.ParseProven(data)
		if err != nil {
			return
		}
		if again, err := publisher.ParseProven(p.Append(nil)); err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v is read again as %+v, %v", p, again, err)
		}
		_, _ = p.Verify(time.Now())
	})
}
