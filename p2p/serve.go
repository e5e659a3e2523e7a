package p2p

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

// This file serves content to other peers. Nothing leaves this machine that was not verified
// within the last hour: others would ban us for what a disk has done.

const (
	// auditLife is how long what was verified once is believed to be as it was: the
	// system keeps in memory what is wanted often, and hashing it again for each peer would cost
	// all downloads.
	auditLife = time.Hour

	// maxAudits bounds of how many blobs that is remembered; each has a byte for a chunk.
	maxAudits = 1024
)

// audits remember which parts of large blobs were verified lately. The zero value has none.
type audits struct {
	mu    sync.Mutex
	blobs map[shared.Digest]*audit
}

// audit is about one blob. Its fields but parts are not changed.
type audit struct {
	began  time.Time
	chunks []shared.Digest // nil: the whole was verified when it was written, or at once

	mu    sync.Mutex
	parts []bool // by chunk
}

// of gives what is known of a blob, or what begin finds out.
func (a *audits) of(digest shared.Digest, now time.Time, begin func() (*audit, error)) (*audit, error) {
	a.mu.Lock()
	known := a.blobs[digest]
	a.mu.Unlock()
	if known != nil && now.Sub(known.began) < auditLife {
		return known, nil
	}
	fresh, err := begin() // it may read much; two of the same are harmless
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.note(digest, fresh)
	return fresh, nil
}

// whole notes that all of a blob has just been verified, while it was written.
func (a *audits) whole(digest shared.Digest, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.note(digest, &audit{began: now})
}

// note remembers an audit. a.mu is held.
func (a *audits) note(digest shared.Digest, fresh *audit) {
	if len(a.blobs) >= maxAudits || a.blobs == nil {
		a.blobs = map[shared.Digest]*audit{}
	}
	a.blobs[digest] = fresh
}

func (a *audit) passed(chunk int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.parts[chunk]
}

func (a *audit) pass(chunk int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parts[chunk] = true
}

// openBlob serves other peers. What one answer holds, which lists of files do and most packages,
// is verified as a whole each time; of what is larger, every chunk when it is read.
func (e *Engine) openBlob(digest shared.Digest) (transfer.Blob, error) {
	blob, err := e.store.Open(digest)
	if err != nil {
		return nil, err
	}
	var readable transfer.Blob = blob
	if blob.Size() <= transfer.MaxRange {
		err = e.store.Verify(e.closing, digest)
	} else {
		var known *audit
		known, err = e.audits.of(digest, e.now(), func() (*audit, error) { return e.audit(digest, blob.Size()) })
		readable = &audited{Blob: blob, audit: known, damaged: func() { e.dropDamaged(digest) }}
	}
	if err != nil {
		_ = blob.Close() // only read from
		e.log.Warn("content that a peer asked for is not served", "error", err)
		return nil, fmt.Errorf("blob %s cannot be served: %w", digest, fs.ErrNotExist)
	}
	return metered{readable, e.served}, nil
}

// audit begins to verify a large blob: with the list of its chunks, or all of it at once
// if that is not here.
func (e *Engine) audit(digest shared.Digest, size int64) (*audit, error) {
	if rel := e.releaseWith(digest); rel != nil {
		if ix, err := e.readIndex(e.closing, rel); err == nil && ix.Size == size {
			return &audit{began: e.now(), chunks: ix.Chunks, parts: make([]bool, len(ix.Chunks))}, nil
		}
	}
	return &audit{began: e.now()}, e.store.Verify(e.closing, digest)
}

// releaseWith is a release whose package a blob is, if one is known.
func (e *Engine) releaseWith(archive shared.Digest) (found *catalog.Release) {
	e.catalog.All(func(_ string, pkg catalog.Package) {
		for _, rel := range pkg.Releases {
			if rel.Archive.Digest == archive {
				found = rel
			}
		}
	})
	return found
}

// dropDamaged removes a blob of which a part was found damaged.
func (e *Engine) dropDamaged(digest shared.Digest) {
	e.background(func(ctx context.Context) {
		if err := e.store.Verify(ctx, digest); err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
			e.log.Warn("content that a peer asked for is not served", "error", err)
		}
	})
}

// audited is a large blob whose chunks are verified when they are read first.
type audited struct {
	*store.Blob
	audit   *audit
	damaged func()
}

// ReadAt implements io.ReaderAt.
func (b *audited) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.Blob.ReadAt(p, off)
	if n < len(p) || n == 0 || b.audit.chunks == nil {
		return n, err
	}
	for at := off / archive.ChunkSize; at <= (off+int64(n)-1)/archive.ChunkSize; at++ {
		if b.audit.passed(at) {
			continue
		}
		start := at * archive.ChunkSize
		end := min(start+archive.ChunkSize, b.Size())
		if off > start || off+int64(n) < end { // a part of it: what is given must be of what is verified
			whole := make([]byte, end-start)
			if got, err := b.Blob.ReadAt(whole, start); got < len(whole) {
				return 0, err
			}
			if err := b.verify(at, whole); err != nil {
				return 0, err
			}
			copy(p[max(start-off, 0):], whole[max(off-start, 0):])
		} else if err := b.verify(at, p[start-off:end-off]); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// verify holds a chunk against the list.
func (b *audited) verify(chunk int64, data []byte) error {
	if want := b.audit.chunks[chunk]; shared.DigestOf(data) != want {
		b.damaged()
		return shared.NewError(shared.ReasonIntegrity, "chunk %d is damaged on disk: it is not %s", chunk, want)
	}
	b.audit.pass(chunk)
	return nil
}

// metered counts what is read of a blob for other peers.
type metered struct {
	transfer.Blob
	count func(bytes int64)
}

// served counts what was read for others.
func (e *Engine) served(bytes int64) {
	e.traffic.sent.add(bytes, e.now())
	e.meters.Served(bytes)
}

// ReadAt implements io.ReaderAt.
func (b metered) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.Blob.ReadAt(p, off)
	b.count(int64(n))
	return n, err
}
