package p2p_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

const passphrase = "correct horse battery"

// copyKeys makes a home that has the keys of another one: a backup, or a theft.
func copyKeys(t *testing.T, from string) (to string) {
	t.Helper()
	to = t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "keys"), os.DirFS(filepath.Join(from, "keys"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(to, "keys", "node.key")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, pattern := range []string{"publisher*.key", "publisher.roots"} {
		names, err := filepath.Glob(filepath.Join(to, "keys", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.Chmod(name, 0o600); err != nil { // CopyFS adds permissions
				t.Fatal(err)
			}
		}
	}
	return to
}

func change(t *testing.T, e *p2p.Engine, c shared.KeyChange) shared.KeyReceipt {
	t.Helper()
	receipt, err := e.ChangeKeys(t.Context(), c)
	if err != nil {
		t.Fatalf("key %s: %v", c.Action, err)
	}
	return receipt
}

// withRecovery begins a publisher that has a recovery key, and returns that.
func withRecovery(t *testing.T, e *p2p.Engine) []byte {
	t.Helper()
	key, err := e.MakeKey(t.Context(), passphrase)
	if err != nil {
		t.Fatal(err)
	}
	change(t, e, shared.KeyChange{Action: shared.KeyInit, Recovery: key.Public})
	return key.Sealed
}

// sees tells the newest version of a package at a peer, "" if there is none.
func sees(t *testing.T, e *p2p.Engine, name string) string {
	t.Helper()
	details, err := e.Describe(t.Context(), shared.Ref{Name: name})
	if err != nil {
		return ""
	}
	return details.Version
}

func TestRotatedKeys(t *testing.T) {
	home := t.TempDir()
	a := open(t, home)
	b := open(t, t.TempDir(), address(t, a))
	connected(t, b, 1)
	publish(t, a, "one", "1.0.0")
	knows(t, b, "one")
	before, err := a.PublisherKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	thief := copyKeys(t, home)
	rotated := change(t, a, shared.KeyChange{Action: shared.KeyRotate})
	if rotated.Keys.Publisher != before.Publisher || rotated.Keys.Root != 2 || rotated.Keys.LogSize != 2 || rotated.Keys.Keys[0].Fingerprint == before.Keys[0].Fingerprint {
		t.Fatalf("%+v", rotated.Keys)
	}
	publish(t, a, "two", "1.0.0")
	knows(t, b, "two")
	c := open(t, t.TempDir(), address(t, b))
	knows(t, c, "one", "two") // who comes later follows the chain from its beginning
	if p, err := c.Prove(t.Context(), shared.Ref{Name: "two"}, ""); err != nil || len(p.Roots) != 2 || p.Publisher != before.Publisher {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = open(t, home, address(t, b)) // the new keys are still there
	publish(t, a, "three", "1.0.0")
	knows(t, c, "three")
	t.Run("the old key signs nothing that anybody takes", func(t *testing.T) {
		// The thief has the mark too; without it, the log would begin anew.
		if err := os.Remove(filepath.Join(thief, "keys", "publisher.key.mark")); err != nil {
			t.Fatal(err)
		}
		e := open(t, thief)
		publish(t, e, "evil", "1.0.0")
		d := open(t, t.TempDir(), address(t, c), address(t, e)) // hears from both
		connected(t, d, 2)
		knows(t, d, "three")
		publish(t, a, "four", "1.0.0")
		for _, honest := range []*p2p.Engine{a, b, c, d} {
			knows(t, honest, "four")
			if v := sees(t, honest, "evil"); v != "" {
				t.Errorf("evil %s is believed", v)
			}
		}
		// The thief's own engine learns that its key is worth nothing.
		eventually(t, "the thief has heard of the new keys", func() bool {
			_, err := e.Declare(t.Context(), shared.Statement{Kind: shared.StatementDeprecate, Package: "four"})
			return errors.Is(err, shared.ReasonUntrusted)
		})
	})
}

func TestRecovery(t *testing.T) {
	home := t.TempDir()
	a := open(t, home)
	recovery := withRecovery(t, a)
	b := open(t, t.TempDir(), address(t, a))
	connected(t, b, 1)
	publish(t, a, "one", "1.0.0")
	knows(t, b, "one")
	owner := address(t, a)
	stolen := copyKeys(t, home)

	// The thief is up to date, publishes, and locks the owner out.
	thief := open(t, stolen, address(t, b))
	knows(t, thief, "one")
	publish(t, thief, "one", "6.6.6")
	change(t, thief, shared.KeyChange{Action: shared.KeyRotate, Recovery: "-"})
	publish(t, thief, "evil", "6.6.6")
	knows(t, b, "evil")
	eventually(t, "the owner is locked out", func() bool {
		_, err := a.Declare(t.Context(), shared.Statement{Kind: shared.StatementDeprecate, Package: "one"})
		return errors.Is(err, shared.ReasonUntrusted)
	})

	wrong := shared.KeyChange{Action: shared.KeyRecover, Sealed: [][]byte{recovery}, Passphrase: "not this passphrase", Keep: 1}
	if _, err := a.ChangeKeys(t.Context(), wrong); !errors.Is(err, shared.ReasonInvalidArgument) {
		t.Fatalf("got %v", err)
	}
	c := shared.KeyChange{Action: shared.KeyRecover, Sealed: [][]byte{recovery}, Passphrase: passphrase, Keep: 1, DryRun: true}
	if plan := change(t, a, c); plan.VoidTotal != 3 || len(plan.Void) != 3 || !strings.Contains(plan.Void[0].Text, "one@6.6.6") {
		t.Fatalf("%+v", plan)
	}
	knows(t, a, "evil") // nothing has changed
	c.DryRun = false
	if done := change(t, a, c); done.Keys.Root != 2 || done.Keys.LogSize != 2 {
		t.Fatalf("%+v", done)
	}
	for name, e := range map[string]*p2p.Engine{"the owner": a, "a peer": b} {
		eventually(t, name+" has forgotten what the thief said", func() bool {
			return sees(t, e, "evil") == "" && sees(t, e, "one") == "1.0.0"
		})
		if found, err := e.Search(t.Context(), shared.SearchQuery{Text: "evil"}); err != nil || found.Total != 0 {
			t.Errorf("%s finds %+v, %v", name, found, err)
		}
	}
	publish(t, a, "one", "1.1.0")
	eventually(t, "a peer follows the owner", func() bool { return sees(t, b, "one") == "1.1.0" })
	t.Run("the thief cannot come back", func(t *testing.T) {
		_ = thief.Close()
		again := open(t, stolen, address(t, b))
		eventually(t, "the thief's own engine knows", func() bool { return sees(t, again, "one") == "1.1.0" })
		if _, err := again.Declare(t.Context(), shared.Statement{Kind: shared.StatementDeprecate, Package: "one"}); !errors.Is(err, shared.ReasonUntrusted) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nor with who comes late", func(t *testing.T) {
		late := open(t, t.TempDir(), owner)
		eventually(t, "who comes late believes the owner", func() bool { return sees(t, late, "one") == "1.1.0" && sees(t, late, "evil") == "" })
	})
	t.Run("and the damage survives no restart", func(t *testing.T) {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = open(t, t.TempDir(), owner)
		eventually(t, "it knows the owner's", func() bool { return sees(t, b, "one") == "1.1.0" })
	})
}

// TestRecoveryEndsAQuarantine: a thief that signs a second log gets the publisher
// quarantined. The recovery says which log it is.
func TestRecoveryEndsAQuarantine(t *testing.T) {
	home := t.TempDir()
	a := open(t, home)
	recovery := withRecovery(t, a)
	stolen := copyKeys(t, home)
	publish(t, a, "one", "1.0.0")
	thief := open(t, stolen)
	publish(t, thief, "evil", "1.0.0")
	witness := open(t, t.TempDir(), address(t, a))
	knows(t, witness, "one")
	if _, err := witness.Bootstrap(t.Context(), []string{address(t, thief)}); err != nil {
		t.Fatal(err)
	}
	keys, err := a.PublisherKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the publisher is quarantined", func() bool {
		_, err := witness.ForkProof(t.Context(), keys.Publisher)
		return err == nil
	})
	change(t, a, shared.KeyChange{Action: shared.KeyRecover, Sealed: [][]byte{recovery}, Passphrase: passphrase, Keep: -1})
	publish(t, a, "two", "1.0.0")
	knows(t, witness, "one", "two")
	if _, err := witness.ForkProof(t.Context(), keys.Publisher); !errors.Is(err, shared.ReasonNotFound) {
		t.Errorf("it is still accused: %v", err)
	}
	// Who has believed the thief alone changes sides.
	eventually(t, "the thief's engine follows", func() bool { return sees(t, thief, "evil") == "" && sees(t, thief, "two") == "1.0.0" })
}

func TestSeveralKeys(t *testing.T) {
	a := open(t, t.TempDir())
	change(t, a, shared.KeyChange{Action: shared.KeyInit, Add: 2, Threshold: 2})
	publish(t, a, "one", "1.0.0")
	keys, err := a.PublisherKeys(t.Context())
	if err != nil || len(keys.Keys) != 3 || keys.Threshold != 2 || keys.Root != 1 {
		t.Fatalf("%+v, %v", keys, err)
	}
	if _, err := a.ExportKey(t.Context(), "", passphrase); !errors.Is(err, shared.ReasonAmbiguous) {
		t.Errorf("got %v", err)
	}
	if _, err := a.ExportKey(t.Context(), keys.Keys[0].Fingerprint, "short"); !errors.Is(err, shared.ReasonInvalidArgument) {
		t.Errorf("got %v", err)
	}
	var exported [][]byte
	for _, key := range keys.Keys[:2] {
		sealed, err := a.ExportKey(t.Context(), key.Fingerprint, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		exported = append(exported, sealed.Sealed)
	}
	home := t.TempDir()
	b := open(t, home, address(t, a))
	change(t, b, shared.KeyChange{Action: shared.KeyImport, Sealed: exported[:1], Passphrase: passphrase})
	knows(t, b, "one")
	if _, err := b.Declare(t.Context(), shared.Statement{Kind: shared.StatementDeprecate, Package: "one"}); !errors.Is(err, shared.ReasonUntrusted) || !strings.Contains(err.Error(), "1 of the keys") {
		t.Fatalf("one key of two: %v", err)
	}
	imported := change(t, b, shared.KeyChange{Action: shared.KeyImport, Sealed: exported[1:], Passphrase: passphrase})
	if imported.Keys.Publisher != keys.Publisher {
		t.Fatalf("%+v", imported)
	}
	publish(t, b, "two", "1.0.0")
	knows(t, a, "two")
	t.Run("are private to their home", func(t *testing.T) {
		names, err := filepath.Glob(filepath.Join(home, "keys", "publisher*.key"))
		if err != nil || len(names) < 2 {
			t.Fatalf("%v, %v", names, err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	})
	for name, c := range map[string]struct {
		change shared.KeyChange
		reason shared.Reason
	}{
		"init again":               {shared.KeyChange{Action: shared.KeyInit}, shared.ReasonInvalidArgument},
		"unknown action":           {shared.KeyChange{Action: "melt"}, shared.ReasonInvalidArgument},
		"more must sign than can":  {shared.KeyChange{Action: shared.KeyRotate, Threshold: 4}, shared.ReasonInvalidArgument},
		"drop all":                 {shared.KeyChange{Action: shared.KeyRotate, Drop: []string{"*"}}, shared.ReasonInvalidArgument},
		"drop an unknown one":      {shared.KeyChange{Action: shared.KeyRotate, Drop: []string{"ffff"}}, shared.ReasonNotFound},
		"include no key":           {shared.KeyChange{Action: shared.KeyRotate, Include: []string{"x"}}, shared.ReasonInvalidArgument},
		"too many":                 {shared.KeyChange{Action: shared.KeyRotate, Add: 17}, shared.ReasonInvalidArgument},
		"import nothing":           {shared.KeyChange{Action: shared.KeyImport}, shared.ReasonInvalidArgument},
		"import no key":            {shared.KeyChange{Action: shared.KeyImport, Sealed: [][]byte{[]byte("x")}, Passphrase: passphrase}, shared.ReasonInvalidArgument},
		"recover without a key":    {shared.KeyChange{Action: shared.KeyRecover}, shared.ReasonInvalidArgument},
		"recover with another one": {shared.KeyChange{Action: shared.KeyRecover, Sealed: exported[:1], Passphrase: passphrase, Keep: -1}, shared.ReasonUntrusted},
	} {
		before, err := a.PublisherKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.ChangeKeys(t.Context(), c.change); !errors.Is(err, c.reason) {
			t.Errorf("%s: got %v, want %s", name, err, c.reason)
		}
		if after, err := a.PublisherKeys(t.Context()); err != nil || after.Root != before.Root {
			t.Errorf("%s changed the keys: %+v, %v", name, after, err)
		}
	}
}

// TestAnImportedKeyWaitsForItsLog: a key on a new machine must not begin its log anew,
// which would contradict what it has signed elsewhere.
func TestAnImportedKeyWaitsForItsLog(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "one", "1.0.0")
	sealed, err := a.ExportKey(t.Context(), "", passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed.Sealed, []byte("PUBLISHER")) {
		t.Fatal("it is not encrypted")
	}
	b := open(t, t.TempDir())
	change(t, b, shared.KeyChange{Action: shared.KeyImport, Sealed: [][]byte{sealed.Sealed}, Passphrase: passphrase})
	_, err = b.Publish(t.Context(), shared.PublishRequest{}, files(t, "package.toml", manifest("two", "1.0.0")), nil)
	if !errors.Is(err, shared.ReasonStorage) || !shared.AsError(err).Retryable {
		t.Fatalf("got %v, want STORAGE that may be tried again", err)
	}
	if _, err := b.Bootstrap(t.Context(), []string{address(t, a)}); err != nil {
		t.Fatal(err)
	}
	// And not only what others prove of it.
	eventually(t, "its catalogue has the log", func() bool {
		status, err := b.Status(t.Context())
		return err == nil && status.Releases == 1
	})
	publish(t, b, "two", "1.0.0")
	knows(t, a, "two")
	t.Run("a home that has published takes no other publisher", func(t *testing.T) {
		c := open(t, t.TempDir())
		publish(t, c, "mine", "1.0.0")
		if _, err := c.ChangeKeys(t.Context(), shared.KeyChange{Action: shared.KeyImport, Sealed: [][]byte{sealed.Sealed}, Passphrase: passphrase}); !errors.Is(err, shared.ReasonUntrusted) {
			t.Errorf("got %v", err)
		}
	})
}
