package publisher_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age/armor"
	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// doc describes a root document to be signed.
type doc struct {
	keys      []*publisher.Key
	threshold int
	recovery  *publisher.Key
	recovers  bool
	noKeep    bool
	signers   []*publisher.Key
}

func chainOf(t testing.TB, docs ...doc) (publisher.Chain, error) {
	t.Helper()
	var signed [][]byte
	for i, d := range docs {
		root := publisher.Root{Version: i + 1, Threshold: max(1, d.threshold), Recovers: d.recovers}
		for _, key := range d.keys {
			root.Keys = append(root.Keys, key.Public())
		}
		if d.recovery != nil {
			root.Recovery = publisher.RecoveryHash(d.recovery.Public())
		}
		if i > 0 && !d.noKeep {
			root.Keep = &publisher.Keep{Size: int64(i), Hash: tlog.RecordHash([]byte{byte(i)})}
		}
		raw, err := publisher.SignRoot(root, d.signers...)
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, raw)
	}
	return publisher.ParseChain(signed)
}

func TestChainOfRoots(t *testing.T) {
	k := make([]*publisher.Key, 6)
	for i := range k {
		k[i] = newKey(t)
	}
	recovery, other := newKey(t), newKey(t)
	first := doc{keys: k[:3], threshold: 2, recovery: recovery, signers: k[:2]}
	for name, c := range map[string]struct {
		docs []doc
		ok   bool
	}{
		"one document":                           {[]doc{first}, true},
		"too few of its own keys":                {[]doc{{keys: k[:3], threshold: 2, signers: k[:1]}}, false},
		"one key twice":                          {[]doc{{keys: k[:3], threshold: 2, signers: []*publisher.Key{k[0], k[0]}}}, false},
		"signed by both thresholds":              {[]doc{first, {keys: k[2:5], threshold: 2, signers: []*publisher.Key{k[1], k[2], k[3]}}}, true},
		"by too few of the old":                  {[]doc{first, {keys: k[3:6], threshold: 2, signers: []*publisher.Key{k[0], k[3], k[4]}}}, false},
		"by too few of the new":                  {[]doc{first, {keys: k[3:6], threshold: 2, signers: []*publisher.Key{k[0], k[1], k[3]}}}, false},
		"without a word on the log":              {[]doc{first, {keys: k[:1], noKeep: true, signers: k[:2]}}, false},
		"a recovery":                             {[]doc{first, {keys: k[3:4], recovers: true, signers: []*publisher.Key{recovery, k[3]}}}, true},
		"a recovery without its own keys":        {[]doc{first, {keys: k[3:4], recovers: true, signers: []*publisher.Key{recovery}}}, false},
		"a recovery by another key":              {[]doc{first, {keys: k[3:4], recovers: true, signers: []*publisher.Key{other, k[3]}}}, false},
		"a recovery by the ordinary keys":        {[]doc{first, {keys: k[:2], recovers: true, signers: k[:2]}}, false},
		"the recovery key for what recovers not": {[]doc{first, {keys: k[3:4], signers: []*publisher.Key{recovery, k[3]}}}, false},
		"a first document that recovers":         {[]doc{{keys: k[:1], recovers: true, signers: k[:1]}}, false},
		"a recovery where no key is named":       {[]doc{{keys: k[:1], signers: k[:1]}, {keys: k[:1], recovers: true, signers: []*publisher.Key{k[0], recovery}}}, false},
	} {
		chain, err := chainOf(t, c.docs...)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, publisher.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && len(chain.Order()) != len(c.docs) {
			t.Errorf("%s: order %q", name, chain.Order())
		}
	}
}

// TestWhichChainIsBelieved: whoever has the recovery key wins, and of the rest whoever
// continues.
func TestWhichChainIsBelieved(t *testing.T) {
	owner, thief, fresh, recovery, mine := newKey(t), newKey(t), newKey(t), newKey(t), newKey(t)
	first := doc{keys: []*publisher.Key{owner}, recovery: recovery, signers: []*publisher.Key{owner}}
	stolen := doc{keys: []*publisher.Key{thief}, recovery: mine, signers: []*publisher.Key{owner, thief}}
	again := doc{keys: []*publisher.Key{thief}, recovers: true, signers: []*publisher.Key{mine, thief}}
	recovered := doc{keys: []*publisher.Key{fresh}, recovers: true, signers: []*publisher.Key{recovery, fresh}}
	of := func(docs ...doc) publisher.Chain {
		chain, err := chainOf(t, docs...)
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	ascending := []publisher.Chain{of(first), of(first, stolen), of(first, stolen, again), of(first, recovered)}
	for i, low := range ascending {
		for j, high := range ascending {
			_, replaces := high.Replaces(low)
			if replaces != (i < j) {
				t.Errorf("chain %d (%s) replaces chain %d (%s): %v", j, high.Order(), i, low.Order(), replaces)
			}
			if (high.Order() > low.Order()) != (i < j) {
				t.Errorf("order of %d, %d: %q, %q", j, i, high.Order(), low.Order())
			}
		}
	}
	stranger, err := chainOf(t, doc{keys: []*publisher.Key{thief}, signers: []*publisher.Key{thief}})
	if err != nil {
		t.Fatal(err)
	}
	if _, replaces := stranger.Replaces(ascending[0]); replaces {
		t.Error("another publisher's chain replaces one")
	}
}

func TestSeal(t *testing.T) {
	ring := ringOf(t, newKey(t))
	in := publisher.Sealed{Key: ring.Keys()[0], Chain: ring.Chain(), Mark: publisher.Mark{Publisher: ring.ID(), Size: 7, Hash: tlog.RecordHash(nil), Entries: [][]byte{{1}}}}
	const passphrase = "a passphrase of some length"
	sealed, err := publisher.Seal(in, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(sealed, []byte("-----BEGIN AGE ENCRYPTED FILE-----")) || len(sealed) > 4<<10 {
		t.Fatalf("%d bytes: %.60s", len(sealed), sealed)
	}
	out, err := publisher.Unseal(sealed, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if !out.Key.Public().Equal(in.Key.Public()) || out.Chain.ID != ring.ID() || out.Mark.Size != 7 || out.Mark.Hash != in.Mark.Hash || len(out.Mark.Entries) != 0 {
		t.Fatalf("%+v", out)
	}
	for name, open := range map[string]func() error{
		"short passphrase": func() error { _, err := publisher.Seal(in, "123456789"); return err },
		"wrong passphrase": func() error { _, err := publisher.Unseal(sealed, passphrase+"!"); return err },
		"no passphrase":    func() error { _, err := publisher.Unseal(sealed, ""); return err },
		"cut off":          func() error { _, err := publisher.Unseal(sealed[:len(sealed)/2], passphrase); return err },
		"no file":          func() error { _, err := publisher.Unseal(nil, passphrase); return err },
		"too long":         func() error { _, err := publisher.Unseal(make([]byte, publisher.MaxSealed+1), passphrase); return err },
		"costs too much":   func() error { _, err := publisher.Unseal(expensive(t), passphrase); return err },
	} {
		if err := open(); !errors.Is(err, shared.ReasonInvalidArgument) || shared.AsError(err).Hint == "" && name != "no passphrase" || strings.Contains(err.Error(), passphrase) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// expensive is a file that asks for scrypt with N = 2^30, a terabyte of memory.
func expensive(t testing.TB) []byte {
	t.Helper()
	body := base64.RawStdEncoding.EncodeToString(make([]byte, 32))
	salt := base64.RawStdEncoding.EncodeToString(make([]byte, 16))
	var file bytes.Buffer
	w := armor.NewWriter(&file)
	if _, err := fmt.Fprintf(w, "age-encryption.org/v1\n-> scrypt %s 30\n%s\n--- %s\n", salt, body, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func FuzzParseSealed(f *testing.F) {
	ring := ringOf(f, newKey(f))
	f.Add(publisher.PlainSealed(publisher.Sealed{Key: ring.Keys()[0], Chain: ring.Chain()}))
	f.Add([]byte("-----BEGIN GGEN PUBLISHER KEY-----\n-----END GGEN PUBLISHER KEY-----\n"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		if s, err := publisher.ParseSealed(plain); err == nil && (s.Key == nil || s.Mark.Size > 0 && s.Mark.Publisher != s.Chain.ID) {
			t.Fatalf("took %+v", s)
		}
	})
}

// TestBeaconsCountOncePerInterval: a head of the same log is news only when it is
// older by an hour, however often its publisher signs.
func TestBeaconsCountOncePerInterval(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	key := newKey(t)
	l, _ := appended(t, key, now, "1.0.0")
	for after, news := range map[time.Duration]bool{0: false, time.Minute: false, publisher.BeaconInterval - time.Second: false, publisher.BeaconInterval: true} {
		_, u, err := publisher.Append(ringOf(t, key), publisher.Log{Chain: l.Chain, Head: publisher.Head{Publisher: l.Chain.ID, Size: 1, Hash: l.Head.Hash}, Size: 1, Hashes: l.Hashes}, nil, now.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		ext, err := publisher.Extend(l, u, now.Add(after))
		if (err == nil) != news || err != nil && !errors.Is(err, publisher.ErrStale) {
			t.Errorf("after %s: %v", after, err)
		}
		if err == nil && (!ext.Log.Head.Time.Equal(now.Add(after)) || len(slices.Concat(ext.Raw)) != 0) {
			t.Errorf("after %s: %+v", after, ext)
		}
	}
}
