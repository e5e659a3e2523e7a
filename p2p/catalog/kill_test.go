package catalog_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
)

// childHome is the environment variable that makes this test binary a publisher
// in that folder.
const childHome = "GGEN_TEST_PUBLISHER_HOME"

func TestMain(m *testing.M) {
	if home := os.Getenv(childHome); home != "" {
		if err := publishForever(home); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// publishForever publishes one release after another and prints the version of
// each one that was acknowledged.
func publishForever(home string) error {
	key, err := publisher.OpenKeyring(home)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(filepath.Join(home, "market.db"), 0o600, &bbolt.Options{Timeout: 10 * time.Second})
	if err != nil {
		return err
	}
	c, err := catalog.Open(db)
	if err != nil {
		return err
	}
	_, first := c.Count()
	for i := first; ; i++ {
		version := fmt.Sprintf("1.%d.0", i)
		if _, _, err := c.Publish(key, release("pack", version, version)); err != nil {
			return err
		}
		if _, err := fmt.Println(version); err != nil {
			return err
		}
	}
}

// TestKilledWhilePublishing kills a publisher with SIGKILL again and again. What it
// acknowledged must be there, it must be able to go on, and a peer that saw every
// state must never see two logs.
func TestKilledWhilePublishing(t *testing.T) {
	home, peer := t.TempDir(), open(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	acknowledged := map[string]bool{}
	for round := range rounds {
		child := exec.CommandContext(t.Context(), self)
		child.Env = append(os.Environ(), childHome+"="+home)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		// The kill hits wherever the child is while the parent has read so much.
		for range 3 + round*2 {
			if !lines.Scan() {
				break
			}
			acknowledged[lines.Text()] = true
		}
		killed := child.Process.Kill()
		for lines.Scan() {
			acknowledged[lines.Text()] = true
		}
		if err := child.Wait(); killed != nil || err == nil {
			t.Fatalf("round %d: the child was not killed: %v, %v", round, killed, err)
		}
		c, db := openAt(t, filepath.Join(home, "market.db"))
		id := c.Heads()[0].Publisher
		for version := range acknowledged {
			if c.Release("pack", id, version) == nil {
				t.Fatalf("round %d: %s was acknowledged and is gone", round, version)
			}
		}
		follow(t, peer, c)
		if a, b := c.Heads(), peer.Heads(); a[0] != b[0] {
			t.Fatalf("round %d: heads %v and %v", round, a, b)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acknowledged) < 3*rounds {
		t.Fatalf("only %d releases were acknowledged", len(acknowledged))
	}
}
