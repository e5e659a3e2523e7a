package p2p_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// large publishes a package of some megabytes that does not compress.
func large(t *testing.T, e *p2p.Engine, name string) shared.PublishReceipt {
	t.Helper()
	random := make([]byte, 3<<20)
	_, _ = rand.Read(random) // never fails
	receipt, err := e.Publish(t.Context(), shared.PublishRequest{}, files(t, "package.toml", manifest(name, "1.0.0"), "data.bin", string(random)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// damage flips a byte in the middle of every blob of a home that has at least so many.
func damage(t *testing.T, home string, least int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(home, "content", "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) < least {
			return err
		}
		data[len(data)/2] ^= 1
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reopen starts an engine again: what one has verified within the last hour it believes.
func reopen(t *testing.T, e *p2p.Engine, home string) *p2p.Engine {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, home)
}

// TestWhatADiskHasDamagedIsNotServed: who has it is not taken for a liar.
func TestWhatADiskHasDamagedIsNotServed(t *testing.T) {
	for name, kind := range map[string]struct {
		publish func(t *testing.T, e *p2p.Engine)
		least   int // bytes of the blobs that are damaged
	}{
		"in one answer":  {func(t *testing.T, e *p2p.Engine) { t.Helper(); publish(t, e, "rotten", "1.0.0") }, 0},
		"chunk by chunk": {func(t *testing.T, e *p2p.Engine) { t.Helper(); large(t, e, "rotten") }, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			homeA := t.TempDir()
			a := open(t, homeA)
			kind.publish(t, a)
			damage(t, homeA, kind.least)
			a = reopen(t, a, homeA)
			b := open(t, t.TempDir(), address(t, a))
			knows(t, b, "rotten")
			_, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "rotten"}}, Root: t.TempDir(), Trust: true}, nil)
			if !errors.Is(err, shared.ReasonUnavailable) && !errors.Is(err, shared.ReasonPeersFailed) {
				t.Errorf("got %v", err)
			}
			if known, ok := peerOf(t, b, peerID(t, a)); !ok || known.BannedFor != "" || known.Outcomes["wrong-content"] != 0 {
				t.Errorf("known of it: %+v", known)
			}
		})
	}
	t.Run("a damaged chunk is dropped with its package, and the rest comes from others", func(t *testing.T) {
		homeA := t.TempDir()
		a := open(t, homeA)
		want := large(t, a, "rotten")
		b := open(t, t.TempDir(), address(t, a))
		knows(t, b, "rotten")
		install := func(e *p2p.Engine) (shared.InstallReceipt, error) {
			return e.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "rotten"}}, Root: t.TempDir(), Trust: true}, nil)
		}
		if _, err := install(b); err != nil {
			t.Fatal(err)
		}
		damage(t, homeA, 1<<20)
		a = reopen(t, a, homeA)
		c := open(t, t.TempDir(), address(t, a), address(t, b))
		knows(t, c, "rotten")
		connected(t, c, 2)
		receipt, err := install(c)
		if err != nil || receipt.Packages[0].Digest != want.Digest {
			t.Fatalf("%+v, %v", receipt, err)
		}
		if known, ok := peerOf(t, c, peerID(t, a)); !ok || known.BannedFor != "" {
			t.Errorf("known of it: %+v", known)
		}
	})
}

func TestContentComesFromSeveralPeersAndOnlyFromHonestOnes(t *testing.T) {
	a := open(t, t.TempDir())
	homeB := t.TempDir()
	b, c := open(t, homeB, address(t, a)), open(t, t.TempDir(), address(t, a))
	want := large(t, a, "heavy")
	install := func(e *p2p.Engine) (shared.InstallReceipt, error) {
		knows(t, e, "heavy")
		return e.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "heavy"}}, Root: t.TempDir(), Trust: true}, nil)
	}
	for _, e := range []*p2p.Engine{b, c} {
		if _, err := install(e); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("three peers serve one download", func(t *testing.T) {
		d := open(t, t.TempDir(), address(t, a), address(t, b), address(t, c))
		connected(t, d, 3)
		receipt, err := install(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := receipt.Packages[0]; got.Peers < 2 || got.Fetched != want.Size {
			t.Fatalf("%d bytes came from %d peers", got.Fetched, got.Peers)
		}
	})
	t.Run("a peer whose copy is damaged is found out and banned, and the download succeeds", func(t *testing.T) {
		damage(t, homeB, 1<<20)
		p2p.ServeUnverified(t, b)
		d := open(t, t.TempDir(), address(t, a), address(t, b), address(t, c))
		connected(t, d, 3)
		receipt, err := install(d)
		if err != nil {
			t.Fatal(err)
		}
		if receipt.Packages[0].Digest != want.Digest {
			t.Fatalf("installed %s", receipt.Packages[0].Digest)
		}
		peers, err := d.Peers(t.Context(), shared.PeerQuery{})
		if err != nil {
			t.Fatal(err)
		}
		liar := peerID(t, b)
		for _, p := range peers.Peers {
			// B may have been too slow to be asked for the damaged chunk at all; whoever
			// is banned must be B.
			if p.Reputation == 0 && p.ID != liar {
				t.Fatalf("the honest peer %s is banned", p.ID)
			}
		}
	})
	t.Run("an own copy that is damaged is dropped and fetched again", func(t *testing.T) {
		receipt, err := install(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := receipt.Packages[0]; got.Digest != want.Digest || got.Fetched == 0 {
			t.Fatalf("installed %+v", got)
		}
	})
}

func peerID(t *testing.T, e *p2p.Engine) string {
	t.Helper()
	status, err := e.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.PeerID
}

func TestALateUploadIsNoRelease(t *testing.T) {
	e := open(t, t.TempDir())
	whole := files(t, "package.toml", manifest("cut", "1.0.0"), "a", string(bytes.Repeat([]byte("x"), 1<<20)))
	half := make([]byte, 512<<10)
	if _, err := whole.Read(half); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Publish(t.Context(), shared.PublishRequest{}, bytes.NewReader(half), nil); !errors.Is(err, shared.ReasonInvalidPackage) {
		t.Fatalf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(t.TempDir())); err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
}
