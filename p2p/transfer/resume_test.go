package transfer_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

const downloaderEnv = "GGEN_TEST_DOWNLOAD"

// runAsDownloader is the process that gets killed: it downloads from the peer and
// into the folder that its environment names.
func runAsDownloader() bool {
	dir, address, ok := strings.Cut(os.Getenv(downloaderEnv), "|")
	if !ok {
		return false
	}
	data := content(64 * chunkSize)
	from := must(peer.AddrInfoFromString(address))
	c := must(transfer.NewClient(must(newHost()), transfer.Config{StallTimeout: time.Hour}))
	s := must(store.Open(dir, store.Options{}))
	into := &target{store: s, want: transfer.Want{Digest: shared.DigestOf(data), Size: int64(len(data))}}
	for piece := range slices.Chunk(data, chunkSize) {
		into.chunks = append(into.chunks, shared.DigestOf(piece))
	}
	_, err := c.Fetch(context.Background(), into.want, into.open, candidates(*from), func(done, _ int64) { fmt.Println("have", done) })
	fmt.Println("end:", err)
	return true
}

func TestFetchResumesAfterSIGKILL(t *testing.T) {
	data := content(64 * chunkSize)
	digest := shared.DigestOf(data)
	gate := make(chan struct{})
	server := serving(t, digest, memory{data: data, before: func(off int64) error {
		if off >= 20*chunkSize {
			<-gate
		}
		return nil
	}}, transfer.Limits{})
	t.Cleanup(func() { close(gate) })
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), must(os.Executable()), "-test.run=^$")
	child.Env = append(os.Environ(), downloaderEnv+"="+dir+"|"+must(peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}))[0].String())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for enough := fmt.Sprintf("have %d", 20*chunkSize); lines.Scan(); {
		if lines.Text() == enough {
			break
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	into := newTarget(t, dir, data)
	stats, err := client(t, transfer.Config{}).Fetch(t.Context(), into.want, into.open, candidates(info(serving(t, digest, memory{data: data}, transfer.Limits{}))), nil)
	if err != nil {
		t.Fatal(err)
	}
	into.mustHold(t)
	if stats.Resumed != 20*chunkSize || stats.Fetched != 44*chunkSize {
		t.Fatalf("%+v", stats)
	}
}
