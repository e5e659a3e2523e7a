package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"ggen.dev/marketplace/shared"
)

// Partial is a download in progress: a blob of which some chunks are here. Only
// chunks that match their digests are recorded, so it may be filled by strangers.
// Its methods may be called concurrently.
//
// All Partials of one digest that are open at the same time are one: they share
// what is written, and any of them may commit. Nothing is synced before Commit.
// That is safe, because a process that opens the download again believes its
// file nothing: it hashes every chunk.
type Partial struct {
	*partial
	closeOnce sync.Once
}

// partial is what all open handles of one digest share.
type partial struct {
	store     *Store
	digest    shared.Digest
	size      int64
	chunkSize int
	sums      [][sha256.Size]byte

	handles int // open Partials; guarded by store.mu

	loading sync.Once
	loadErr error

	// mu guards the fields below. Writers of chunks hold it shared while they
	// write to the file, so that it cannot be committed or closed under them.
	mu      sync.RWMutex
	file    *os.File // nil once it is committed, discarded or closed
	state   state
	have    []bool
	missing int

	whole summing
}

// summing hashes the content while it comes, as far as it is here without a gap. A
// goroutine does it that ends where the gap begins; whoever closes the download
// waits for it.
type summing struct {
	mu   sync.Mutex // guards the fields below; taken after partial.mu
	next int        // chunks that are hashed
	// running is closed when the goroutine ends. Nobody but it uses sum and buffer, or, while
	// there is none (nil), Commit.
	running chan struct{}
	err     error // why it ended before its time
	sum     hash.Hash
	buffer  []byte // for one chunk: the goroutine may end and begin with each of them
}

type state int

const (
	filling state = iota
	committed
	discarded
	closed
)

// Partial opens the download of a blob, or goes on with one that is on disk or
// open already. chunks are the digests of its chunks, each of chunkSize bytes but
// the last. If the blob is here already, nothing is missing and Commit succeeds.
// The whole size is charged to the quota at once.
//
// Errors: INVALID_ARGUMENT when the numbers do not fit together, or when the
// download is open with other chunks; STORAGE_FULL; STORAGE.
func (s *Store) Partial(digest shared.Digest, size int64, chunkSize int, chunks []shared.Digest) (*Partial, error) {
	p, err := newPartial(s, digest, size, chunkSize, chunks)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if open := s.partials[digest]; open == nil {
		s.partials[digest] = p
	} else if open.size != size || open.chunkSize != chunkSize || !slices.Equal(open.sums, p.sums) {
		s.mu.Unlock()
		return nil, shared.NewError(shared.ReasonInvalidArgument, "download of %s: it is running already with other chunks", digest)
	} else {
		p = open
	}
	p.handles++
	s.mu.Unlock()

	handle := &Partial{partial: p}
	p.loading.Do(func() { p.loadErr = p.load() })
	if p.loadErr != nil {
		return nil, errors.Join(p.loadErr, handle.Close())
	}
	return handle, nil
}

func newPartial(s *Store, digest shared.Digest, size int64, chunkSize int, chunks []shared.Digest) (*partial, error) {
	if _, err := shared.ParseDigest(string(digest)); err != nil {
		return nil, err
	}
	if size < 0 || chunkSize <= 0 || int64(len(chunks)) != chunksOf(size, chunkSize) {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "download of %s: %d bytes are not %d chunks of %d", digest, size, len(chunks), chunkSize)
	}
	p := &partial{store: s, digest: digest, size: size, chunkSize: chunkSize, sums: make([][sha256.Size]byte, len(chunks)), have: make([]bool, len(chunks)), missing: len(chunks), whole: summing{sum: sha256.New()}}
	for i, chunk := range chunks {
		if _, err := shared.ParseDigest(string(chunk)); err != nil {
			return nil, fmt.Errorf("download of %s: chunk %d: %w", digest, i, err)
		}
		p.sums[i] = chunk.Sum()
	}
	return p, nil
}

// chunksOf is ceil(size/chunkSize), without overflow.
func chunksOf(size int64, chunkSize int) int64 {
	n := size / int64(chunkSize)
	if size%int64(chunkSize) != 0 {
		n++
	}
	return n
}

func (p *partial) path() string { return filepath.Join(p.store.partial(), p.digest.Hex()) }

// load opens the file and finds out what of it can be trusted.
func (p *partial) load() error {
	operation := fmt.Sprintf("open download of %s", p.digest)
	if held, err := p.store.Size(p.digest); err == nil {
		if held != p.size {
			return shared.NewError(shared.ReasonInvalidArgument, "%s: the blob is here and has %d bytes, not %d", operation, held, p.size)
		}
		p.state, p.missing = committed, 0
		return nil
	}
	existing, err := os.Lstat(p.path())
	if err == nil && (!existing.Mode().IsRegular() || existing.Size() != p.size) {
		p.store.mu.Lock()
		err = p.store.remove(p.path())
		p.store.mu.Unlock()
		existing = nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p.store.failure(operation, err)
	}
	fresh := existing == nil
	if fresh {
		if err := p.store.reserve(p.size); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(p.path(), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil && fresh {
		if err = file.Truncate(p.size); err != nil { // sparse: takes no space yet
			err = errors.Join(err, file.Close(), os.Remove(p.path()))
		}
	}
	if err != nil {
		if fresh {
			p.store.release(p.size)
		}
		return p.store.failure(operation, err)
	}
	p.file = file
	if !fresh {
		return p.recognise()
	}
	return nil
}

// recognise hashes every chunk in the file. Holes take as long as data: about a
// second for each gigabyte, once for a download that was interrupted.
func (p *partial) recognise() error {
	buffer := make([]byte, min(int64(p.chunkSize), p.size))
	for i := range p.sums {
		data := buffer[:p.lengthOf(i)]
		if _, err := p.file.ReadAt(data, int64(i)*int64(p.chunkSize)); err != nil {
			return p.store.failure(fmt.Sprintf("read download of %s", p.digest), err)
		}
		if sha256.Sum256(data) == p.sums[i] {
			p.have[i] = true
			p.missing--
		}
	}
	return nil
}

// lengthOf needs an existing chunk.
func (p *partial) lengthOf(i int) int {
	return int(min(int64(p.chunkSize), p.size-int64(i)*int64(p.chunkSize)))
}

// Missing lists the chunks that are not here yet, ascending.
func (p *partial) Missing() []int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	missing := make([]int, 0, p.missing)
	if p.state == committed {
		return missing
	}
	for i, have := range p.have {
		if !have {
			missing = append(missing, i)
		}
	}
	return missing
}

// WriteChunk records chunk i. Writing a chunk again does nothing. It keeps no
// reference to data.
//
// Errors: INTEGRITY when data is not chunk i; INVALID_ARGUMENT when there is no
// such chunk; STORAGE_FULL; STORAGE.
func (p *partial) WriteChunk(i int, data []byte) error {
	if i < 0 || i >= len(p.sums) {
		return shared.NewError(shared.ReasonInvalidArgument, "download of %s: there is no chunk %d; it has %d", p.digest, i, len(p.sums))
	}
	if len(data) != p.lengthOf(i) || sha256.Sum256(data) != p.sums[i] {
		return shared.NewError(shared.ReasonIntegrity, "download of %s: chunk %d does not match its digest", p.digest, i)
	}
	if err := p.write(i, data); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == filling && !p.have[i] {
		p.have[i] = true
		p.missing--
		if p.whole.at() == i {
			p.sumUp()
		}
	}
	return nil
}

// at is the chunk that is hashed next.
func (w *summing) at() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next
}

// sumUp has the content hashed up to the next gap. The channel is closed when that is done.
func (p *partial) sumUp() (done <-chan struct{}) {
	w := &p.whole
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == nil {
		ended := make(chan struct{})
		w.running, w.err = ended, nil
		go func() {
			defer close(ended)
			if w.buffer == nil {
				w.buffer = make([]byte, min(int64(p.chunkSize), p.size))
			}
			for {
				data := p.nextChunk(w.buffer)
				if data == nil {
					return
				}
				_, _ = w.sum.Write(data) // a hash takes everything
			}
		}()
	}
	return w.running
}

// nextChunk reads the chunk that is hashed next. If it is not there, or cannot be read,
// the goroutine that hashes has ended.
func (p *partial) nextChunk(buffer []byte) []byte {
	p.mu.RLock()
	defer p.mu.RUnlock()
	w := &p.whole
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.state == filling && w.next < len(p.have) && p.have[w.next] {
		data := buffer[:p.lengthOf(w.next)]
		if _, w.err = p.file.ReadAt(data, int64(w.next)*int64(p.chunkSize)); w.err == nil {
			w.next++
			return data
		}
	}
	w.running = nil
	return nil
}

// wait returns when nobody hashes.
func (w *summing) wait() {
	w.mu.Lock()
	running := w.running
	w.mu.Unlock()
	if running != nil {
		<-running
	}
}

func (p *partial) write(i int, data []byte) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	switch {
	case p.state == committed:
		return nil
	case p.state != filling:
		return shared.NewError(shared.ReasonInvalidArgument, "download of %s: it is closed", p.digest)
	case p.have[i]:
		return nil
	}
	if _, err := p.file.WriteAt(data, int64(i)*int64(p.chunkSize)); err != nil {
		return p.store.failure(fmt.Sprintf("write chunk %d of %s", i, p.digest), err)
	}
	return nil
}

// Commit makes the download a blob. All chunks must be here. If they match their
// digests but the whole does not, the list of chunks was wrong: that is an
// INTEGRITY error, and the download is discarded because it can never succeed.
// Other errors: INVALID_ARGUMENT while chunks are missing; STORAGE_FULL, STORAGE.
// Committing again does nothing.
func (p *partial) Commit() error {
	// The disk and the processor can work at the same time.
	synced := p.sync()
	<-p.sumUp()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.state == committed:
		return nil
	case p.state != filling:
		return shared.NewError(shared.ReasonInvalidArgument, "finish download of %s: it is closed", p.digest)
	case p.missing > 0:
		return shared.NewError(shared.ReasonInvalidArgument, "finish download of %s: %d of %d chunks are missing", p.digest, p.missing, len(p.sums))
	}
	if err := errors.Join(p.whole.err, <-synced); err != nil {
		return p.store.failure(fmt.Sprintf("finish download of %s", p.digest), err)
	}
	found := shared.DigestFromSum([sha256.Size]byte(p.whole.sum.Sum(nil)))
	if found != p.digest {
		return errors.Join(
			shared.NewError(shared.ReasonIntegrity, "finish download of %s: all chunks match, but the content is %s: its list of chunks is wrong", p.digest, found),
			p.discard())
	}
	adopted, err := p.store.adopt(p.path(), p.digest, p.size)
	if adopted {
		p.state = committed
		_ = p.file.Close() // synced before
		p.file = nil
		p.store.mu.Lock()
		p.store.forget(p) // whoever comes now looks whether the blob is still here
		p.store.mu.Unlock()
	}
	return err
}

// sync writes the file to disk if all chunks are here, and holds p.mu shared meanwhile.
func (p *partial) sync() <-chan error {
	synced := make(chan error, 1)
	p.mu.RLock() // given back by the goroutine
	if p.state != filling || p.missing > 0 {
		p.mu.RUnlock()
		synced <- nil
		return synced
	}
	go func() {
		defer p.mu.RUnlock()
		synced <- p.file.Sync()
	}()
	return synced
}

// forget makes sure that nobody joins p any more. s.mu is held.
func (s *Store) forget(p *partial) {
	if s.partials[p.digest] == p {
		delete(s.partials, p.digest)
	}
}

// Discard deletes what was downloaded, for everybody who has it open.
func (p *partial) Discard() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.discard()
}

func (p *partial) discard() error {
	if p.state != filling {
		return nil
	}
	p.state = discarded
	_ = p.file.Close() // the file goes away
	p.file = nil
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.store.forget(p) // together with the file, or the next one would open it
	if err := p.store.remove(p.path()); err != nil {
		return p.store.failure(fmt.Sprintf("discard download of %s", p.digest), err)
	}
	return nil
}

// Close lets go of the download and leaves it on disk, to go on later. It is
// idempotent.
func (p *Partial) Close() (err error) {
	p.closeOnce.Do(func() { err = p.letGo() })
	return err
}

// letGo gives one handle back; the last one closes the file.
func (p *partial) letGo() error {
	p.store.mu.Lock()
	p.handles--
	last := p.handles == 0
	if last {
		p.store.forget(p)
	}
	p.store.mu.Unlock()
	if !last {
		return nil
	}
	defer p.whole.wait() // it needs p.mu to end
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == filling {
		p.state = closed
	}
	if p.file == nil {
		return nil
	}
	err := p.file.Close()
	p.file = nil
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	if err := errors.Join(err, p.store.tidy(p.digest)); err != nil {
		return p.store.failure(fmt.Sprintf("close download of %s", p.digest), err)
	}
	return nil
}

// tidy removes the unfinished download of a blob that came another way, unless
// somebody has it open. s.mu is held.
func (s *Store) tidy(digest shared.Digest) error {
	if s.partials[digest] != nil || !s.Has(digest) {
		return nil
	}
	return s.remove(filepath.Join(s.partial(), digest.Hex()))
}

// remove deletes an unfinished download and no longer charges it. s.mu is held.
func (s *Store) remove(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.measure()
	}
	if err == nil {
		err = os.RemoveAll(path)
	}
	if err == nil {
		s.used -= info.Size()
	}
	return err
}
