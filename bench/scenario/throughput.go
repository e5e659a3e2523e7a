package scenario

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

// throughput measures the install of a package of so many bytes that do not compress from one
// peer on loopback: found, fetched, verified, stored and unpacked, with everything on disk. Its
// floors are the same bytes over a raw stream of the same transport, hashed as they come, and a
// file of them that is written and synced twice, as archive and as package.
func throughput(size int) func(r *Run) {
	return func(r *Run) {
		content := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{byte(r.Seed)}).Read(content) // never fails
		n := r.network()
		author := n.open(p2p.Config{})
		n.open(p2p.Config{}, 0)
		n.r.await("a connection", time.Millisecond, func() bool { return n.status(1).ConnectedPeers > 0 })
		raw := r.rawStream(content)
		for round := 0; r.Loop(); round++ {
			name := fmt.Sprint("large-", round)
			root := r.TempDir()
			r.Aside(func() {
				if _, err := author.Publish(r.Context(), shared.PublishRequest{}, oneFile(name, content), nil); err != nil {
					r.Fatal(err)
				}
				n.usable(n.engines[1], name)
				r.Took("install-stream-floor", raw())
				began := time.Now()
				for range 2 {
					r.written(filepath.Join(root, "floor"), content)
				}
				r.Took("install-disk-floor", time.Since(began))
			})
			began := time.Now()
			if _, err := n.engines[1].Install(r.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: name}}, Root: root, Trust: true}, nil); err != nil {
				r.Fatal(err)
			}
			r.Took("install", time.Since(began))
			content[0]++ // other content, so that nothing of it is there already
			for at := 0; at < size; at += 1 << 10 {
				content[at] ^= byte(round + 1)
			}
		}
	}
}

// oneFile is a package with its content in one file, as a tar stream.
func oneFile(name string, content []byte) io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	manifest := fmt.Appendf(nil, "[package]\nname = %q\nversion = \"1.0.0\"\ndescription = \"a package to measure with\"\n", name)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"package.toml", manifest}, {"content.bin", content}} {
		// Writing to memory does not fail.
		_ = w.WriteHeader(&tar.Header{Name: file.name, Size: int64(len(file.content)), Mode: 0o644, Typeflag: tar.TypeReg})
		_, _ = w.Write(file.content)
	}
	_ = w.Close()
	return &buf
}

// written writes a file and waits until it is on the disk.
func (r *Run) written(path string, content []byte) {
	f, err := os.Create(path)
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		r.Fatal(err)
	}
}

// rawStream connects two nodes on loopback over TCP. Each call of fetch has one send the
// content to the other, which hashes it, and is how long that took.
func (r *Run) rawStream(content []byte) (fetch func() time.Duration) {
	const raw = "/ggen-bench/raw"
	var hosts [2]host.Host
	for i := range hosts {
		hosts[i] = p2ptest.Open(r, node.Config{Identity: p2ptest.Identity(r), Listen: []string{"/ip4/127.0.0.1/tcp/0"}}).Host()
	}
	hosts[0].SetStreamHandler(raw, func(s network.Stream) {
		if _, err := s.Write(content); err != nil {
			_ = s.Reset() // the reader says so
			return
		}
		_ = s.Close()
	})
	if err := hosts[1].Connect(r.Context(), peer.AddrInfo{ID: hosts[0].ID(), Addrs: hosts[0].Addrs()}); err != nil {
		r.Fatal(err)
	}
	return func() time.Duration {
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		s, err := hosts[1].NewStream(ctx, hosts[0].ID(), raw)
		if err != nil {
			r.Fatal(err)
		}
		sum := sha256.New()
		if read, err := io.Copy(sum, s); err != nil || read != int64(len(content)) {
			r.Fatalf("%d of %d bytes came: %v", read, len(content), err)
		}
		return time.Since(began)
	}
}
