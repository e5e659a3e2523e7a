package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"ggen.dev/marketplace/shared"
)

// The canonical archive is, for each node in order, a header (one block of 512
// bytes, preceded by two or more for a name that USTAR cannot hold), the content
// and zeros up to the next block; then two blocks of zeros.
const (
	blockSize = 512
	endSize   = 2 * blockSize
)

// padding is the number of zeros behind a content of size bytes.
func padding(size int64) int64 { return -size & (blockSize - 1) }

// headers makes the headers of canonical archives. Their bytes come from
// archive/tar; the test of the golden digest notices if a new release of Go
// writes them in another way.
type headers struct{ buf bytes.Buffer }

// of returns the bytes that stand before a node's content. They are valid until
// the next call.
func (h *headers) of(n *node) ([]byte, error) {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: n.path, Size: n.size, Mode: 0o644}
	switch {
	case n.dir:
		header.Typeflag, header.Name, header.Mode = tar.TypeDir, n.path+"/", 0o755
	case n.executable:
		header.Mode = 0o755
	}
	h.buf.Reset()
	if err := tar.NewWriter(&h.buf).WriteHeader(header); err != nil {
		return nil, fmt.Errorf("archive %q: %w", n.path, err)
	}
	return h.buf.Bytes(), nil
}

// length is that of what of returns. A path that fits into a header of 1988 (POSIX.1-1988,
// ustar) takes one block, and most do.
func (h *headers) length(n *node) (int64, error) {
	if len(n.path) < 100 && n.size < 1<<33 && !strings.ContainsFunc(n.path, func(r rune) bool { return r < ' ' || r > '~' }) {
		return blockSize, nil
	}
	header, err := h.of(n)
	return int64(len(header)), err
}

// archiveSize is the size of the canonical archive of nodes, in bytes.
func archiveSize(nodes []*node) (int64, error) {
	var h headers
	size := int64(endSize)
	for _, n := range nodes {
		header, err := h.length(n)
		if err != nil {
			return 0, err
		}
		size += header + n.size + padding(n.size)
	}
	return size, nil
}

// opener gives the content of a file.
type opener func(*node) (io.ReadCloser, error)

// writeArchive writes the archive of nodes, which are canonical, and describes it.
func writeArchive(ctx context.Context, out io.Writer, nodes []*node, open opener) (*Index, error) {
	index := &Index{Format: 1, ChunkSize: ChunkSize}
	chunks := newChunker()
	hashing := newAside(chunks)
	defer hashing.wait()
	sum := sha256.New()
	s := newStreamer(ctx, io.MultiWriter(out, hashing))
	for _, n := range nodes {
		sum.Reset()
		offset, err := s.node(n, open, sum)
		if err != nil {
			return nil, err
		}
		entry := File{Path: n.path, Size: n.size, Executable: n.executable, Dir: n.dir, Offset: offset}
		if !n.dir {
			entry.Digest = digestOf(sum)
		}
		index.Files = append(index.Files, entry)
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	hashing.wait()
	index.Size = s.n
	index.Digest, index.Chunks = chunks.finish()
	return index, nil
}

// digestArchive computes the digest that writeArchive would give, and no more.
func digestArchive(ctx context.Context, nodes []*node, open opener) (shared.Digest, error) {
	whole := sha256.New()
	hashing := newAside(whole)
	defer hashing.wait()
	s := newStreamer(ctx, hashing)
	for _, n := range nodes {
		if _, err := s.node(n, open, nil); err != nil {
			return "", err
		}
	}
	if err := s.end(); err != nil {
		return "", err
	}
	hashing.wait()
	return digestOf(whole), nil
}

// streamer writes a canonical archive in large pieces.
type streamer struct {
	headers headers
	w       *bufio.Writer
	n       int64
}

func newStreamer(ctx context.Context, w io.Writer) *streamer {
	return &streamer{w: bufio.NewWriterSize(&untilDone{ctx.Err, w}, ChunkSize)}
}

// node writes a header, content and padding, and tells where the content begins.
// A sum that is not nil is fed with the content.
func (s *streamer) node(n *node, open opener, sum hash.Hash) (offset int64, err error) {
	header, err := s.headers.of(n)
	if err != nil {
		return 0, err
	}
	if err := s.write(header); err != nil {
		return 0, err
	}
	offset = s.n
	if n.dir {
		return offset, nil
	}
	content, err := open(n)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	var r io.Reader = &io.LimitedReader{R: content, N: n.size}
	if sum != nil {
		r = io.TeeReader(r, sum)
	}
	copied, err := s.w.ReadFrom(r)
	s.n += copied
	if err != nil {
		return 0, fmt.Errorf("archive %q: %w", n.path, err)
	}
	if copied != n.size || !ended(content) {
		return 0, shared.NewError(shared.ReasonInvalidPackage, "%q changed while it was read", n.path).
			WithHint("wait until nothing writes to the folder, and run the command again").With("path", n.path)
	}
	return offset, s.write(make([]byte, padding(n.size)))
}

func (s *streamer) end() error {
	if err := s.write(make([]byte, endSize)); err != nil {
		return err
	}
	return s.w.Flush()
}

func (s *streamer) write(p []byte) error {
	n, err := s.w.Write(p)
	s.n += int64(n)
	return err
}

// ended tells whether r has nothing more. A file that cannot be read has not.
func ended(r io.Reader) bool {
	n, err := r.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, io.EOF)
}

// untilDone is a writer that ends with its context.
type untilDone struct {
	done func() error // a context's Err
	w    io.Writer
}

// Write implements io.Writer.
func (u *untilDone) Write(p []byte) (int, error) {
	if err := u.done(); err != nil {
		return 0, shared.AsError(err)
	}
	return u.w.Write(p)
}

// maxAhead is how many pieces may wait for the hash, in memory; more would not
// help, since hashing is the slowest part.
const maxAhead = 2

// aside feeds a hash in a goroutine of its own, so that reading and hashing
// overlap. Its owner calls wait before it looks at the hash, and in any case.
type aside struct {
	w      io.Writer // never fails
	full   chan []byte
	free   chan []byte
	done   chan struct{}
	waited bool
}

func newAside(w io.Writer) *aside {
	a := &aside{w: w, full: make(chan []byte, maxAhead), free: make(chan []byte, maxAhead+2), done: make(chan struct{})}
	go func() {
		defer close(a.done)
		for p := range a.full {
			_, _ = a.w.Write(p) // hashes never fail
			a.free <- p
		}
	}()
	return a
}

// Write implements io.Writer; it never fails.
func (a *aside) Write(p []byte) (int, error) {
	var piece []byte
	select {
	case piece = <-a.free:
	default:
	}
	a.full <- append(piece[:0], p...)
	return len(p), nil
}

// wait returns when all that was written is hashed. It is idempotent; nothing may
// be written afterwards.
func (a *aside) wait() {
	if !a.waited {
		a.waited = true
		close(a.full)
	}
	<-a.done
}

// chunker digests a stream as a whole and in chunks.
type chunker struct {
	whole, part hash.Hash
	filled      int64
	chunks      []shared.Digest
}

func newChunker() *chunker { return &chunker{whole: sha256.New(), part: sha256.New()} }

// Write implements io.Writer; it never fails.
func (c *chunker) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		take := min(int64(len(p)), ChunkSize-c.filled)
		c.whole.Write(p[:take])
		// As long as there is only one chunk, the whole is that chunk: nine packages
		// in ten are smaller, and need one hash less.
		if len(c.chunks) > 0 {
			c.part.Write(p[:take])
		}
		p, c.filled = p[take:], c.filled+take
		if c.filled == ChunkSize {
			c.cut()
		}
	}
	return total, nil
}

func (c *chunker) cut() {
	if len(c.chunks) == 0 {
		c.chunks = append(c.chunks, digestOf(c.whole))
	} else {
		c.chunks = append(c.chunks, digestOf(c.part))
	}
	c.part.Reset()
	c.filled = 0
}

func (c *chunker) finish() (whole shared.Digest, chunks []shared.Digest) {
	if c.filled > 0 {
		c.cut()
	}
	return digestOf(c.whole), c.chunks
}

func digestOf(h hash.Hash) shared.Digest { return shared.DigestFromSum([sha256.Size]byte(h.Sum(nil))) }
