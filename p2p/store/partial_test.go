package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

// chunked cuts data as an index does.
func chunked(data []byte, size int) (digest shared.Digest, length int64, chunks []shared.Digest) {
	for i := 0; i < len(data); i += size {
		chunks = append(chunks, shared.DigestOf(data[i:min(len(data), i+size)]))
	}
	return shared.DigestOf(data), int64(len(data)), chunks
}

func piece(data []byte, size, i int) []byte { return data[i*size : min(len(data), (i+1)*size)] }

func TestPartial(t *testing.T) {
	const size = 1000
	data := random(t, 4500)
	digest, length, chunks := chunked(data, size)
	start := func(t *testing.T, s *store.Store) *store.Partial {
		t.Helper()
		p, err := s.Partial(digest, length, size, chunks)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	write := func(t *testing.T, p *store.Partial, chunks ...int) {
		t.Helper()
		for _, i := range chunks {
			if err := p.WriteChunk(i, piece(data, size, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("becomes a blob when all chunks are there", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, 0)
		p := start(t, s)
		write(t, p, 4, 0, 2, 1)
		wantReason(t, p.Commit(), shared.ReasonInvalidArgument)
		if missing := p.Missing(); len(missing) != 1 || missing[0] != 3 {
			t.Fatalf("missing %v", missing)
		}
		write(t, p, 3, 3)
		for range 2 {
			if err := p.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(content(t, s, digest), data) {
			t.Fatal("wrong content")
		}
		wantUsage(t, s, 1, length)
		wantEmptyFolder(t, dir, "partial")
	})
	t.Run("an empty blob has no chunks", func(t *testing.T) {
		s := open(t, t.TempDir(), 0)
		p, err := s.Partial(shared.DigestOf(nil), 0, size, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.Commit(), p.Close()); err != nil || !s.Has(shared.DigestOf(nil)) {
			t.Fatal(err)
		}
	})
	t.Run("wrong bytes are refused and not recorded", func(t *testing.T) {
		p := start(t, open(t, t.TempDir(), 0))
		bad := bytes.Clone(piece(data, size, 1))
		bad[7]++
		wantReason(t, p.WriteChunk(1, bad), shared.ReasonIntegrity)
		wantReason(t, p.WriteChunk(1, bad[:10]), shared.ReasonIntegrity)
		wantReason(t, p.WriteChunk(0, piece(data, size, 1)), shared.ReasonIntegrity)
		wantReason(t, p.WriteChunk(5, nil), shared.ReasonInvalidArgument)
		wantReason(t, p.WriteChunk(-1, nil), shared.ReasonInvalidArgument)
		if len(p.Missing()) != 5 {
			t.Fatalf("missing %v", p.Missing())
		}
	})
	t.Run("goes on after Close with what is there", func(t *testing.T) {
		dir := t.TempDir()
		p := start(t, open(t, dir, 0))
		write(t, p, 1, 4)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		wantReason(t, p.WriteChunk(0, piece(data, size, 0)), shared.ReasonInvalidArgument)
		p = start(t, open(t, dir, 0))
		if got := fmt.Sprint(p.Missing()); got != "[0 2 3]" {
			t.Fatalf("missing %s", got)
		}
	})
	t.Run("a chunk that was damaged on disk is missing again", func(t *testing.T) {
		dir := t.TempDir()
		p := start(t, open(t, dir, 0))
		write(t, p, 0, 1, 2, 3, 4)
		_ = p.Close()
		path := filepath.Join(dir, "partial", digest.Hex())
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[2100]++
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(start(t, open(t, dir, 0)).Missing()); got != "[2]" {
			t.Fatalf("missing %s", got)
		}
	})
	t.Run("a file of another length is dropped", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, length)
		if err := os.WriteFile(filepath.Join(dir, "partial", digest.Hex()), []byte("short"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := len(start(t, s).Missing()); got != 5 {
			t.Fatalf("missing %d", got)
		}
	})
	t.Run("callers share it", func(t *testing.T) {
		s := open(t, t.TempDir(), length)
		first, second := start(t, s), start(t, s)
		var group sync.WaitGroup
		for i := range chunks {
			group.Go(func() { write(t, first, i) })
			group.Go(func() { write(t, second, i) })
		}
		group.Wait()
		_ = first.Close()
		if len(second.Missing()) != 0 {
			t.Fatalf("missing %v", second.Missing())
		}
		if err := second.Commit(); err != nil {
			t.Fatal(err)
		}
		third := start(t, s)
		if len(third.Missing()) != 0 || third.Commit() != nil {
			t.Fatal("what is a blob already is not complete")
		}
	})
	t.Run("other chunks for the same digest are refused meanwhile", func(t *testing.T) {
		s := open(t, t.TempDir(), 0)
		start(t, s)
		_, _, others := chunked(data, 900)
		_, err := s.Partial(digest, length, 900, others)
		wantReason(t, err, shared.ReasonInvalidArgument)
	})
	t.Run("chunks that do not make the blob are found out", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, 0)
		other := shared.DigestOf([]byte("other"))
		p, err := s.Partial(other, length, size, chunks)
		if err != nil {
			t.Fatal(err)
		}
		write(t, p, 0, 1, 2, 3, 4)
		wantReason(t, p.Commit(), shared.ReasonIntegrity)
		_ = p.Close()
		if s.Has(other) {
			t.Fatal("it became a blob")
		}
		wantEmptyFolder(t, dir, "partial")
	})
	t.Run("a discarded one starts anew", func(t *testing.T) {
		s := open(t, t.TempDir(), length)
		p := start(t, s)
		write(t, p, 0)
		if err := p.Discard(); err != nil {
			t.Fatal(err)
		}
		if again := start(t, s); len(again.Missing()) != 5 {
			t.Fatalf("missing %v", again.Missing())
		}
	})
	t.Run("numbers that do not fit are refused", func(t *testing.T) {
		s := open(t, t.TempDir(), 0)
		for _, tc := range []struct {
			digest    shared.Digest
			length    int64
			chunkSize int
			chunks    []shared.Digest
		}{
			{"x", length, size, chunks},
			{digest, -1, size, nil},
			{digest, length, 0, chunks},
			{digest, length, size, chunks[1:]},
			{digest, 1 << 62, 1 << 30, nil},
			{digest, length, size, append(chunks[:4:4], "x")},
		} {
			_, err := s.Partial(tc.digest, tc.length, tc.chunkSize, tc.chunks)
			wantReason(t, err, shared.ReasonInvalidArgument)
		}
	})
}

const fillerEnv = "GGEN_TEST_FILL_STORE"

// Content that both processes of TestPartialSurvivesSIGKILL know.
func killContent() []byte { return bytes.Repeat([]byte("0123456789abcdef"), 1<<18) } // 4 MiB

const killChunk = 64 << 10

// fillForever is the process that gets killed: it writes chunks, says so, and
// leaves the last one half written in the file.
func fillForever(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	s, err := store.Open(dir, store.Options{})
	fail(err)
	data := killContent()
	digest, length, chunks := chunked(data, killChunk)
	p, err := s.Partial(digest, length, killChunk, chunks)
	fail(err)
	for i := range 10 {
		fail(p.WriteChunk(i, piece(data, killChunk, i)))
	}
	file, err := os.OpenFile(filepath.Join(dir, "partial", digest.Hex()), os.O_WRONLY, 0)
	fail(err)
	_, err = file.WriteAt(piece(data, killChunk, 10)[:1234], 10*killChunk)
	fail(err)
	fmt.Println("filled")
	select {} // wait to be killed
}

func TestPartialSurvivesSIGKILL(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^$")
	child.Env = append(os.Environ(), fillerEnv+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, _, err := bufio.NewReader(out).ReadLine()
	if killErr := child.Process.Kill(); killErr != nil {
		t.Fatal(killErr)
	}
	_ = child.Wait() // it was killed
	if err != nil || string(line) != "filled" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	data := killContent()
	digest, length, chunks := chunked(data, killChunk)
	p, err := open(t, dir, 0).Partial(digest, length, killChunk, chunks)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	missing := p.Missing()
	if len(missing) != len(chunks)-10 || missing[0] != 10 {
		t.Fatalf("missing %v", missing)
	}
	for _, i := range missing {
		if err := p.WriteChunk(i, piece(data, killChunk, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestBlobThatComesAnotherWay(t *testing.T) {
	data := random(t, 300)
	digest, length, chunks := chunked(data, 100)
	for _, tc := range []struct {
		name   string
		before bool // the download is closed before the blob comes
	}{{"replaces a download that rests", true}, {"replaces a download that is open when it is closed", false}} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, 0)
			p, err := s.Partial(digest, length, 100, chunks)
			if err != nil {
				t.Fatal(err)
			}
			if tc.before {
				_ = p.Close()
			}
			put(t, s, data)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			wantEmptyFolder(t, dir, "partial")
			if charged := must(s.Charged()); charged != length {
				t.Fatalf("%d bytes are charged for %d", charged, length)
			}
		})
	}
}

// BenchmarkPartial64MiB takes a download whose chunks arrive in their order, and makes it
// a blob: everything but the network.
func BenchmarkPartial64MiB(b *testing.B) {
	const size, chunk = 64 << 20, 256 << 10
	s, data := open(b, b.TempDir(), 0), random(b, size)
	digest, length, chunks := chunked(data, chunk)
	b.SetBytes(size)
	for b.Loop() {
		p, err := s.Partial(digest, length, chunk, chunks)
		if err != nil {
			b.Fatal(err)
		}
		for i := range chunks {
			if err := p.WriteChunk(i, piece(data, chunk, i)); err != nil {
				b.Fatal(err)
			}
		}
		if err := errors.Join(p.Commit(), p.Close(), s.Delete(digest)); err != nil {
			b.Fatal(err)
		}
	}
}
