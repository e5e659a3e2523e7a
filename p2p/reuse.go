package p2p

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

// maxRelatives is how many other releases of a package are looked through for files
// that a new one has, too.
const maxRelatives = 3

// assembly is an archive on its way into the store. It implements [transfer.Sink]:
// what the index determines and the files that are here in other archives do not have to
// come from peers.
//
// A chunk that is unknown altogether is one piece. One of which some files are here is a
// piece for each run of files between them, or, if one of its missing files goes on in
// another chunk, a single piece from the first missing byte to the last. Whatever a
// piece is verified by, digests of files or the chunk's, its sender alone is to blame:
// what is from here was verified before.
type assembly struct {
	partial *store.Partial
	index   *archive.Index
	local   map[shared.Digest]place
	blobs   []*store.Blob
	pieces  []piece

	mu   sync.Mutex    // guards the fields below
	open map[int]*open // chunks of which some pieces are here
	done []bool        // pieces that were written
}

// place is where the content of a file is on this machine.
type place struct {
	blob   *store.Blob
	offset int64
}

// piece is what is fetched at once.
type piece struct {
	transfer.Piece
	chunk    int
	whole    bool              // it is the whole chunk
	contents []archive.Content // whole files that verify it; none: the chunk's digest does
}

// open is a chunk that is not complete.
type open struct {
	data []byte
	left int // pieces
}

// assemble prepares to fetch the archive of a release, with what is here of it.
func (e *Engine) assemble(ctx context.Context, rel *catalog.Release, ix *archive.Index) (*assembly, error) {
	partial, err := e.store.Partial(ix.Digest, ix.Size, archive.ChunkSize, ix.Chunks)
	if err != nil {
		return nil, err
	}
	a := &assembly{partial: partial, index: ix, local: map[shared.Digest]place{}, open: map[int]*open{}}
	if missing := partial.Missing(); len(missing) > 0 {
		for _, other := range e.relatives(rel) {
			a.borrow(ctx, e, other)
		}
		for _, chunk := range missing {
			if err := a.plan(chunk); err != nil {
				return nil, errors.Join(err, a.Close())
			}
		}
	}
	a.done = make([]bool, len(a.pieces))
	return a, nil
}

// relatives are the other releases of a package that are here, newest first.
func (e *Engine) relatives(rel *catalog.Release) (held []*catalog.Release) {
	for _, p := range e.packagesOf(rel.Name) {
		if p.Publisher != rel.Publisher {
			continue
		}
		for _, other := range p.Releases {
			if other.Archive.Digest != rel.Archive.Digest && e.store.Has(other.Archive.Digest) && len(held) < maxRelatives {
				held = append(held, other)
			}
		}
	}
	return held
}

// borrow finds files of the archive in another one that is here. They are verified: a
// damaged disk must not look like a peer that lies.
func (a *assembly) borrow(ctx context.Context, e *Engine, other *catalog.Release) {
	wanted := map[shared.Digest]bool{}
	for _, f := range a.index.Files {
		if _, ok := a.local[f.Digest]; f.Size > 0 && !ok {
			wanted[f.Digest] = true
		}
	}
	ix, err := e.readIndex(ctx, other)
	if err != nil {
		return // what is not here or damaged is of no use
	}
	blob, err := e.store.Open(other.Archive.Digest)
	if err != nil {
		return
	}
	a.blobs = append(a.blobs, blob)
	sum := sha256.New()
	for _, f := range ix.Files {
		if !wanted[f.Digest] {
			continue
		}
		sum.Reset()
		if n, err := io.Copy(sum, io.NewSectionReader(blob, f.Offset, f.Size)); err == nil && n == f.Size && shared.DigestFromSum([32]byte(sum.Sum(nil))) == f.Digest {
			a.local[f.Digest] = place{blob, f.Offset}
			delete(wanted, f.Digest)
		}
	}
}

// plan decides what of a missing chunk is fetched. A chunk of which everything is here
// is written at once.
func (a *assembly) plan(chunk int) error {
	data, runs, known, err := a.compose(chunk)
	if err != nil {
		return err
	}
	offset := int64(chunk) * archive.ChunkSize
	all := piece{Piece: transfer.Piece{Offset: offset, Length: len(data)}, chunk: chunk, whole: true}
	if len(runs) == 0 {
		err := a.partial.WriteChunk(chunk, data)
		if errors.Is(err, shared.ReasonIntegrity) { // an index whose chunks and files disagree
			a.pieces = append(a.pieces, all)
			return nil
		}
		return err
	}
	if !known {
		a.pieces = append(a.pieces, all)
		return nil
	}
	span := func(from, to int) piece {
		return piece{Piece: transfer.Piece{Offset: offset + int64(from), Length: to - from}, chunk: chunk}
	}
	first, last := runs[0], runs[len(runs)-1]
	if from, to := first[0], last[len(last)-1]; !from.Whole() || !to.Whole() {
		a.pieces = append(a.pieces, span(from.At, to.To))
		return nil
	}
	for _, run := range runs {
		p := span(run[0].At, run[len(run)-1].To)
		p.contents = run
		a.pieces = append(a.pieces, p)
	}
	return nil
}

// compose makes what is known of a chunk. Of the contents that are not here it tells the
// runs between those that are; known tells that there are some. Errors: STORAGE.
func (a *assembly) compose(chunk int) (data []byte, runs [][]archive.Content, known bool, err error) {
	offset := int64(chunk) * archive.ChunkSize
	data = make([]byte, min(archive.ChunkSize, a.index.Size-offset))
	contents, err := a.index.Skeleton(offset, data)
	if err != nil {
		return nil, nil, false, err
	}
	going := false // the last run
	for _, c := range contents {
		at, here := a.local[c.File.Digest]
		switch {
		case here:
			if _, err := at.blob.ReadAt(data[c.At:c.To], at.offset+c.From); err != nil {
				return nil, nil, false, shared.NewError(shared.ReasonStorage, "read %q, which is here: %w", c.File.Path, err)
			}
		case going:
			runs[len(runs)-1] = append(runs[len(runs)-1], c)
		default:
			runs = append(runs, []archive.Content{c})
		}
		going = !here
		known = known || here
	}
	return data, runs, known, nil
}

// Missing implements [transfer.Sink].
func (a *assembly) Missing() (missing []transfer.Piece) {
	for _, p := range a.pieces {
		missing = append(missing, p.Piece)
	}
	return missing
}

// Write implements [transfer.Sink].
func (a *assembly) Write(i int, data []byte) error {
	p := a.pieces[i]
	if p.whole {
		return a.partial.WriteChunk(p.chunk, data)
	}
	from := int(p.Offset - int64(p.chunk)*archive.ChunkSize)
	for _, c := range p.contents {
		if shared.DigestOf(data[c.At-from:c.To-from]) != c.File.Digest {
			return shared.NewError(shared.ReasonIntegrity, "%q is not what the index says", c.File.Path)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done[i] { // another peer has brought it meanwhile
		return nil
	}
	o := a.open[p.chunk]
	if o == nil {
		composed, _, _, err := a.compose(p.chunk)
		if err != nil {
			return err
		}
		o = &open{data: composed}
		for _, other := range a.pieces {
			if other.chunk == p.chunk {
				o.left++
			}
		}
	}
	if len(p.contents) == 0 {
		copy(o.data[from:], data)
	}
	for _, c := range p.contents { // and not what stands between them
		copy(o.data[c.At:], data[c.At-from:c.To-from])
	}
	if o.left > 1 {
		o.left--
		a.open[p.chunk], a.done[i] = o, true
		return nil
	}
	err := a.partial.WriteChunk(p.chunk, o.data)
	switch {
	case err == nil:
		delete(a.open, p.chunk)
		a.done[i] = true
	case errors.Is(err, shared.ReasonIntegrity) && len(p.contents) > 0: // all files are as they must be
		return shared.NewError(shared.ReasonStorage, "a file that was here has changed while it was read: %v", err).WithHint("run the command again")
	}
	return err
}

// Commit implements [transfer.Sink].
func (a *assembly) Commit() error { return a.partial.Commit() }

// Close implements [transfer.Sink].
func (a *assembly) Close() error {
	for _, blob := range a.blobs {
		_ = blob.Close() // only read
	}
	return a.partial.Close()
}
