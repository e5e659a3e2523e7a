package p2p_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// killedHome is the environment variable that makes this test binary an engine in
// that folder, see publishAndWait.
const killedHome = "GGEN_TEST_ENGINE_HOME"

const killedRequest = "the-same"

// publishAndWait says that it begins, publishes the tar stream that stands in its
// input, prints the receipt, and waits until it is killed.
func publishAndWait(home string) error {
	e, err := p2p.Open(context.Background(), p2p.Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		return err
	}
	if _, err := fmt.Println("begin"); err != nil {
		return err
	}
	receipt, err := e.Publish(context.Background(), shared.PublishRequest{RequestID: killedRequest}, os.Stdin, nil)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(receipt); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// killed runs such an engine, kills it when it has answered, or some time after it
// began, and gives its answer, if there was one.
func killed(t *testing.T, home string, tree []byte, answered bool, later time.Duration) *shared.PublishReceipt {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), killedHome+"="+home)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "begin" {
		t.Fatalf("it began with %q", lines.Text())
	}
	if _, err := in.Write(tree); err != nil {
		t.Fatal(err)
	}
	var receipt *shared.PublishReceipt
	read := func() {
		if err := json.Unmarshal(lines.Bytes(), &receipt); err != nil {
			t.Errorf("it answered %q", lines.Text())
		}
	}
	if answered && lines.Scan() {
		read()
	} else {
		<-time.After(later)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if receipt == nil && lines.Scan() {
		read()
	}
	_ = child.Wait() // it was killed
	return receipt
}

// TestARequestSurvivesAKill kills the engine while it publishes and after it has
// done so. The same request must then have the same answer, and one log entry.
func TestARequestSurvivesAKill(t *testing.T) {
	tree, err := io.ReadAll(files(t, "package.toml", manifest("killed", "1.0.0"), "templates/a.tmpl", strings.Repeat("content", 1000)))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(6, 7))
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	answers := 0
	for round := range rounds {
		home := t.TempDir()
		first := killed(t, home, tree, round%4 == 0, time.Duration(random.IntN(30_000))*time.Microsecond)
		if first != nil {
			answers++
		}
		for range 2 {
			again := repeat(t, home, tree)
			if again.LogSize != 1 || again.Unchanged {
				t.Fatalf("round %d: %+v", round, again)
			}
			if first != nil && !reflect.DeepEqual(again, *first) {
				t.Fatalf("round %d: it was %+v, and is %+v", round, *first, again)
			}
			first = &again
		}
		e, end := opened(t, home)
		if next := publish(t, e, "next", "1.0.0"); next.LogSize != 2 {
			t.Fatalf("round %d: the log has %d entries, not 2", round, next.LogSize)
		}
		end()
	}
	t.Logf("%d of %d had answered", answers, rounds)
}

// opened starts an engine that ends before the test does.
func opened(t *testing.T, home string) (e *p2p.Engine, end func()) {
	t.Helper()
	e, err := p2p.Open(t.Context(), p2p.Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	return e, func() {
		t.Helper()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func repeat(t *testing.T, home string, tree []byte) shared.PublishReceipt {
	t.Helper()
	e, end := opened(t, home)
	defer end()
	receipt, err := e.Publish(t.Context(), shared.PublishRequest{RequestID: killedRequest}, bytes.NewReader(tree), nil)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

func TestARequestThatComesTwiceAtOnce(t *testing.T) {
	e := open(t, t.TempDir())
	receipts := make([]shared.PublishReceipt, 8)
	var group sync.WaitGroup
	for i := range receipts {
		tree := files(t, "package.toml", manifest("twice", "1.0.0"))
		group.Go(func() {
			var err error
			if receipts[i], err = e.Publish(t.Context(), shared.PublishRequest{RequestID: "r"}, tree, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, receipt := range receipts {
		if !reflect.DeepEqual(receipt, receipts[0]) || receipt.Unchanged || receipt.LogSize != 1 {
			t.Errorf("got %+v and %+v", receipt, receipts[0])
		}
	}
	if next := publish(t, e, "next", "1.0.0"); next.LogSize != 2 {
		t.Errorf("the log has %d entries, not 2", next.LogSize)
	}
}

// TestARequestThatFailedMayBeTriedAgain uses one ID until it succeeds.
func TestARequestThatFailedMayBeTriedAgain(t *testing.T) {
	e := open(t, t.TempDir())
	req := shared.PublishRequest{RequestID: "r"}
	if _, err := e.Publish(t.Context(), req, files(t, "package.toml", "nonsense"), nil); err == nil {
		t.Fatal("nonsense was published")
	}
	publish(t, e, "taken", "1.0.0")
	if _, err := e.Publish(t.Context(), req, files(t, "package.toml", manifest("taken", "1.0.0")), nil); err == nil {
		t.Fatal("a release was changed")
	}
	receipt, err := e.Publish(t.Context(), req, files(t, "package.toml", manifest("good", "1.0.0")), nil)
	if err != nil || receipt.LogSize != 2 {
		t.Fatalf("%+v, %v", receipt, err)
	}
}
