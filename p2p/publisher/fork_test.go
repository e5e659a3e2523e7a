package publisher_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
)

// history lists n versions; from forkAt on they are others, unless it is negative.
func history(n int, forkAt int) []string {
	versions := make([]string, n)
	for i := range versions {
		versions[i] = fmt.Sprintf("1.%d.0", i)
		if forkAt >= 0 && i >= forkAt {
			versions[i] = fmt.Sprintf("6.%d.0", i)
		}
	}
	return versions
}

// upTo makes the update of entries from to end of a log, as a peer would send it.
func upTo(t testing.TB, l publisher.Log, last publisher.Update, all [][]byte, from, end int64) publisher.Update {
	t.Helper()
	u := publisher.Update{Roots: last.Roots, Head: last.Head, From: from, Entries: all[from:end]}
	var err error
	if from > 0 && from < l.Size {
		if u.Base.Hash, err = tlog.TreeHash(from, l.Hashes); err != nil {
			t.Fatal(err)
		}
		if u.Base.Proof, err = tlog.ProveTree(l.Size, from, l.Hashes); err != nil {
			t.Fatal(err)
		}
	}
	if end < l.Size {
		if u.Consistency, err = tlog.ProveTree(l.Size, end, l.Hashes); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := publisher.ParseUpdate(u.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// told is a log with all its entries.
type told struct {
	publisher.Log
	last publisher.Update
	all  [][]byte
}

func tell(t testing.TB, key *publisher.Key, now time.Time, versions []string) told {
	t.Helper()
	l, last := appended(t, key, now, versions...)
	x := told{Log: l, last: last}
	for _, version := range versions {
		x.all = append(x.all, entryOf(t, idOf(t, key), typical("pack", version), now))
	}
	return x
}

func (x told) update(t testing.TB, from, end int64) publisher.Update {
	t.Helper()
	return upTo(t, x.Log, x.last, x.all, from, end)
}

func convict(t *testing.T, err error) *publisher.EquivocationError {
	t.Helper()
	var forked *publisher.EquivocationError
	if !errors.As(err, &forked) {
		t.Fatalf("got %v, want equivocation", err)
	}
	if errors.Is(err, publisher.ErrInvalid) {
		t.Fatal("the sender is blamed")
	}
	return forked
}

// TestForks lets a peer that holds one of two logs hear of the other one.
func TestForks(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	key := newKey(t)
	ours := tell(t, key, now, history(7, -1))
	for _, size := range []int{1, 3, 5, 7, 8, 12, 16} {
		for _, forkAt := range []int{0, 2, 4, 6} {
			if forkAt >= size {
				continue
			}
			theirs := tell(t, key, now, history(size, forkAt))
			t.Run(fmt.Sprintf("their %d entries differ from entry %d on", size, forkAt), func(t *testing.T) {
				held := min(7, int64(size))
				for name, u := range map[string]publisher.Update{
					"what a peer sends who is asked for more": theirs.update(t, held, int64(size)),
					"everything":                theirs.update(t, 0, int64(size)),
					"what overlaps, with proof": theirs.update(t, 1, int64(size)),
					"the first page of several": theirs.update(t, 0, held),
				} {
					t.Run(name, func(t *testing.T) {
						_, err := publisher.Extend(ours.Log, u, now)
						forked := convict(t, err)
						_, _, err = publisher.ReadFork(u.Roots, forked.First.Signed, forked.Second.Signed, forked.Size, forked.FirstTree, forked.SecondTree)
						if err != nil {
							t.Fatalf("others are not convinced: %v", err)
						}
					})
				}
			})
		}
	}
	t.Run("without proof nobody is blamed, and the log is asked for", func(t *testing.T) {
		theirs := tell(t, key, now, history(12, 3))
		u := theirs.update(t, 7, 12)
		u.Base = publisher.Prefix{}
		if _, err := publisher.Extend(ours.Log, u, now); !errors.Is(err, publisher.ErrGap) || errors.Is(err, publisher.ErrInvalid) {
			t.Fatalf("got %v, want ErrGap", err)
		}
	})
	t.Run("an incomplete log remembers the head it is waiting for", func(t *testing.T) {
		ext, err := publisher.Extend(publisher.Log{}, ours.update(t, 0, 3), now)
		if err != nil {
			t.Fatal(err)
		}
		partial := ext.Log
		partial.Hashes = stored(ext.Hashes)
		theirs := tell(t, key, now, history(12, 5))
		_, err = publisher.Extend(partial, theirs.update(t, 3, 12), now)
		convict(t, err)
	})
}

func TestLiesAboutALogAreTheSenders(t *testing.T) {
	now := time.Now()
	key := newKey(t)
	ours := tell(t, key, now, history(3, -1))
	longer := tell(t, key, now, history(9, -1))
	fake := entryOf(t, idOf(t, key), typical("pack", "9.9.9"), now)
	for _, tc := range []struct {
		name  string
		lie   func(u *publisher.Update)
		start int64
	}{
		{"an entry that was not signed, from the beginning", func(u *publisher.Update) { u.Entries[4] = fake }, 0},
		{"an entry that was not signed, on a proven base", func(u *publisher.Update) { u.Entries[4] = fake }, 3},
		{"a base that is not under the head", func(u *publisher.Update) { u.Base.Hash[0] ^= 1 }, 3},
		{"a base before the first entry", func(u *publisher.Update) { u.Base.Proof = tlog.TreeProof{{}} }, 0},
		{"more entries than the head has", func(u *publisher.Update) { u.Entries = append(u.Entries, fake) }, 3},
		{"a page whose proof is another one's", func(u *publisher.Update) { u.Entries = u.Entries[:2] }, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := longer.update(t, tc.start, 9)
			u.Entries = slices.Clone(u.Entries)
			tc.lie(&u)
			if _, err := publisher.Extend(ours.Log, u, now); !errors.Is(err, publisher.ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
		})
	}
}

func TestForkProofsCannotBeForged(t *testing.T) {
	now := time.Now()
	key := newKey(t)
	ours, theirs, later := tell(t, key, now, history(5, -1)), tell(t, key, now, history(9, 2)), tell(t, key, now, history(9, -1))
	_, err := publisher.Extend(ours.Log, theirs.update(t, 5, 9), now)
	forked := convict(t, err)
	chain, err := publisher.ParseChain(theirs.last.Roots)
	if err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(e *publisher.EquivocationError){
		"two heads of one log":   func(e *publisher.EquivocationError) { e.Second = later.Head },
		"the same tree twice":    func(e *publisher.EquivocationError) { e.SecondTree = e.FirstTree },
		"an invented tree":       func(e *publisher.EquivocationError) { e.SecondTree.Hash[0] ^= 1 },
		"an invented first tree": func(e *publisher.EquivocationError) { e.FirstTree.Hash[0] ^= 1 },
		"another size":           func(e *publisher.EquivocationError) { e.Size-- },
		"a negative size":        func(e *publisher.EquivocationError) { e.Size = -1 },
		"no entries":             func(e *publisher.EquivocationError) { e.Size = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			forged := *forked
			forge(&forged)
			if err := forged.Check(chain); !errors.Is(err, publisher.ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
		})
	}
	if err := forked.Check(chain); err != nil {
		t.Fatal(err)
	}
}

// ringWith is a keyring in memory that holds a key of the newest document of a chain.
func ringWith(t testing.TB, chain publisher.Chain, key *publisher.Key) *publisher.Keyring {
	t.Helper()
	ring := ringOf(t, key)
	if err := ring.SetChain(chain); err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestChangeOfKeys(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	first, second, third := newKey(t), newKey(t), newKey(t)
	before := tell(t, first, now, history(2, -1))
	chain := before.Chain
	keep := publisher.Keep{Size: before.Size, Hash: before.Head.Hash}
	rotated := func(t *testing.T, to *publisher.Key, format int) publisher.Log {
		t.Helper()
		root, err := publisher.Rotate(chain, keep, first, to, format)
		if err != nil {
			t.Fatal(err)
		}
		longer, err := publisher.ParseChain(append(slices.Clone(chain.Signed()), root))
		if err != nil {
			t.Fatal(err)
		}
		l := before.Log
		l.Chain = longer
		return l
	}
	held := rotated(t, second, 1)
	ext, after, err := publisher.Append(ringWith(t, held.Chain, second), held, [][]byte{entryOf(t, chain.ID, typical("pack", "2.0.0"), now)}, now)
	if err != nil {
		t.Fatal(err)
	}
	l := ext.Log
	l.Hashes = append(slices.Clone(before.Hashes.(stored)), ext.Hashes...)
	t.Run("is followed", func(t *testing.T) {
		if ext, err := publisher.Extend(before.Log, after, now); err != nil || len(ext.Log.Chain.Roots) != 2 {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a sender who has not heard of it is not blamed", func(t *testing.T) {
		for _, u := range []publisher.Update{before.update(t, 0, 2), tell(t, first, now, history(9, -1)).update(t, 2, 9)} {
			if _, err := publisher.Extend(l, u, now); !errors.Is(err, publisher.ErrStale) {
				t.Fatalf("got %v, want ErrStale", err)
			}
			u.Roots = l.Chain.Signed()
			if _, err := publisher.Extend(l, u, now); !errors.Is(err, publisher.ErrStale) {
				t.Fatalf("with the new keys: got %v, want ErrStale", err)
			}
		}
	})
	t.Run("the old key convicts nobody of what it signs later", func(t *testing.T) {
		stolen := tell(t, first, now, history(9, 1))
		if _, err := publisher.Extend(l, stolen.update(t, 0, 9), now); !errors.Is(err, publisher.ErrStale) {
			t.Fatalf("got %v, want ErrStale", err)
		}
		if _, err := publisher.Extend(stolen.Log, after, now); errors.Is(err, publisher.ErrInvalid) || errors.As(err, new(*publisher.EquivocationError)) {
			t.Fatalf("got %v", err)
		}
		if _, _, err := publisher.ReadFork(l.Chain.Signed(), l.Head.Signed, stolen.Head.Signed, 3, publisher.Prefix{Hash: l.Head.Hash}, publisher.Prefix{Hash: stolen.Head.Hash}); !errors.Is(err, publisher.ErrInvalid) {
			t.Fatalf("got %v, want ErrInvalid", err)
		}
	})
	t.Run("two different ones are the publisher's fault", func(t *testing.T) {
		other := rotated(t, third, 1)
		_, u, err := publisher.Append(ringWith(t, other.Chain, third), other, [][]byte{entryOf(t, chain.ID, typical("pack", "3.0.0"), now)}, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := publisher.Extend(l, u, now); !errors.Is(err, publisher.ErrStale) {
			t.Fatalf("got %v, want ErrStale", err)
		}
	})
	t.Run("a format that is not known yet blames nobody", func(t *testing.T) {
		root, err := publisher.Rotate(chain, keep, first, second, 2)
		if err != nil {
			t.Fatal(err)
		}
		u := before.last
		u.Roots = append(slices.Clone(u.Roots), root)
		if _, err := u.Verify(now); !errors.Is(err, publisher.ErrStale) {
			t.Fatalf("got %v, want ErrStale", err)
		}
	})
	t.Run("a head that no key has signed is a lie", func(t *testing.T) {
		u := before.last
		u.Head = bytes.Replace(u.Head, []byte("\n2\n"), []byte("\n4\n"), 1)
		u.Roots = l.Chain.Signed()
		if _, err := publisher.Extend(l, u, now); !errors.Is(err, publisher.ErrInvalid) {
			t.Fatalf("got %v, want ErrInvalid", err)
		}
	})
}

func TestRootDocumentsAreUnambiguous(t *testing.T) {
	_, u := appended(t, newKey(t), time.Now(), "1.0.0")
	for from, to := range map[string]string{`{"root":`: `{"root":"e30=","root":`, `"root":`: `"Root":`} {
		root := strings.Replace(string(u.Roots[0]), from, to, 1)
		if _, err := publisher.ParseChain([][]byte{[]byte(root)}); !errors.Is(err, publisher.ErrInvalid) {
			t.Fatalf("%.40s: got %v, want ErrInvalid", root, err)
		}
	}
}

func TestHeadOfNoEntriesHasOneHash(t *testing.T) {
	now, key := time.Now(), newKey(t)
	_, u := appended(t, key, now, "1.0.0")
	chain, err := publisher.ParseChain(u.Roots)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := tlog.TreeHash(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for hash, want := range map[tlog.Hash]error{empty: nil, {1}: publisher.ErrInvalid} {
		head, err := publisher.SignHead(chain.ID, 0, hash, now, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := publisher.OpenHead(head.Signed, chain, now); !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
}
