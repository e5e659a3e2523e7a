// Package store keeps content on disk: blobs, which are files named by the
// SHA-256 of what is in them, and partial blobs, which are downloads that are
// not finished. It also opens the engine's database ([OpenDB]), which tells the
// version of everything in the home ([SchemaVersion]).
//
// A blob appears whole or not at all: it is written to a temporary file, synced,
// renamed, and its folder is synced. What a peer sent is verified chunk by chunk
// before a [Partial] records it, and as a whole before it becomes a blob.
//
// The time of a blob's file is when somebody wanted it last; [Store.Evict] removes those
// that nobody has wanted for longest. The store does not decide what must stay (the engine
// does), does not fetch (package transfer does) and does not know what is in a blob
// (package archive does). It trusts that no other process works in its folder: the engine's lock
// sees to that. Reading a blob does not verify it again; [Store.Verify] does.
//
// Layout, all folders 0700 and all files 0600:
//
//	blobs/ab/<64 hex digits>   finished; ab are the first two digits
//	partial/<64 hex digits>    unfinished: a sparse file of the final length
//	tmp/                       emptied by Open
//
// # To change what is on disk
//
// Whatever an older engine could misread or spoil (a bucket, a key, the layout
// above, a key or mark file) needs a new schema version. Raise [SchemaVersion] and
// append one step to migrations that takes the version before it to the new one.
// Steps stay for ever, and a released one never changes: it must not use the types
// of today. All steps of an upgrade run in one transaction, after the database was
// copied to market.db.v<old>.bak; a crash leaves the old state or the new one. A
// step that changes other files must leave what the old version reads in place
// until the transaction is through, and bear being run again. Never change where
// the version itself is: market.db, bucket meta, key schema, a decimal number.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ggen.dev/marketplace/shared"
)

const (
	// partialMaxAge is how long an unfinished download that nobody touches is kept.
	// It is the lifetime of the cold cache: what nobody wanted for a week may be
	// fetched again from the start.
	partialMaxAge = 7 * 24 * time.Hour

	// touchEvery is how exactly the time of the last use is known: a file that is read
	// all the time need not be written to as often.
	touchEvery = time.Minute

	// copyBuffer is the unit in which content is written, hashed and charged to
	// the quota. From 64 KiB on, SHA-256 is the limit and not the calls.
	copyBuffer = 256 << 10
)

// Options tune a [Store]; the zero value is ready to use.
type Options struct {
	// MaxBytes bounds blobs and unfinished downloads together, in bytes of
	// content. 0: no bound but the disk's.
	MaxBytes int64
}

// Store is an open folder of blobs. Its methods may be called concurrently. It
// holds no files open by itself and needs no Close.
type Store struct {
	dir string
	max int64

	// mu guards the fields below and the moment in which a blob appears or
	// disappears, so that the two always agree. Nothing is synced under it.
	mu       sync.Mutex
	counted  bool  // count and used are known
	count    int   // blobs
	used     int64 // bytes of blobs, of unfinished downloads, and reserved by running Puts
	stored   int64 // bytes of blobs alone
	partials map[shared.Digest]*partial
}

// Open opens the folder, creates it if it is missing, and removes what an
// earlier process left behind: temporary files, and downloads that were not
// touched for a week.
//
// Errors: INVALID_ARGUMENT for a negative quota; STORAGE, STORAGE_FULL.
func Open(dir string, opts Options) (*Store, error) {
	if opts.MaxBytes < 0 {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "open store: the quota is %d bytes", opts.MaxBytes)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "open store %s: %w", dir, err)
	}
	s := &Store{dir: dir, max: opts.MaxBytes, partials: map[shared.Digest]*partial{}}
	for _, folder := range []string{s.blobs(), s.partial(), s.Scratch()} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, s.failure("open store", err)
		}
	}
	if err := s.sweep(time.Now()); err != nil {
		return nil, s.failure("clean up store", err)
	}
	return s, nil
}

// Scratch is a folder for temporary files on the store's own file system, so
// that [Store.PutFile] can adopt them by a rename. The next Open empties it.
func (s *Store) Scratch() string { return filepath.Join(s.dir, "tmp") }

func (s *Store) blobs() string   { return filepath.Join(s.dir, "blobs") }
func (s *Store) partial() string { return filepath.Join(s.dir, "partial") }

// blobPath needs a valid digest.
func (s *Store) blobPath(digest shared.Digest) string {
	return filepath.Join(s.blobs(), digest.Hex()[:2], digest.Hex())
}

// Blob is an open blob. ReadAt may be called concurrently.
type Blob struct {
	file *os.File
	size int64
}

// ReadAt implements io.ReaderAt.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) { return b.file.ReadAt(p, off) }

// Size is the length in bytes.
func (b *Blob) Size() int64 { return b.size }

// Close releases the file. A blob that is deleted while it is open stays
// readable until then.
func (b *Blob) Close() error { return b.file.Close() }

// Open opens a blob for reading, which counts as a use of it. An error for which
// errors.Is(err, fs.ErrNotExist) holds means that it is not here; STORAGE that it cannot
// be read.
func (s *Store) Open(digest shared.Digest) (*Blob, error) {
	blob, used, err := s.open(digest)
	if err == nil && time.Since(used) > touchEvery {
		now := time.Now()
		_ = os.Chtimes(s.blobPath(digest), now, now) // it only seems to be older than it is
	}
	return blob, err
}

// open is Open without being a use; it tells the last one.
func (s *Store) open(digest shared.Digest) (_ *Blob, used time.Time, _ error) {
	if _, err := shared.ParseDigest(string(digest)); err != nil {
		return nil, used, err
	}
	file, err := os.Open(s.blobPath(digest))
	if err != nil {
		return nil, used, s.unreadable(digest, err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close() // only read from
		return nil, used, s.unreadable(digest, err)
	}
	return &Blob{file, info.Size()}, info.ModTime(), nil
}

func (s *Store) unreadable(digest shared.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s is not in the store: %w", digest, fs.ErrNotExist)
	}
	return s.failure(fmt.Sprintf("read blob %s", digest), err)
}

// Has tells whether the blob is here.
func (s *Store) Has(digest shared.Digest) bool {
	_, err := s.Size(digest)
	return err == nil
}

// Size is the length of a blob in bytes; its errors are those of [Store.Open].
func (s *Store) Size(digest shared.Digest) (int64, error) {
	if _, err := shared.ParseDigest(string(digest)); err != nil {
		return 0, err
	}
	info, err := os.Stat(s.blobPath(digest))
	if err != nil {
		return 0, s.unreadable(digest, err)
	}
	return info.Size(), nil
}

// Put stores what r yields until EOF. If want is not empty the content must
// have that digest. Content that is here already is read all the same, and not
// stored twice.
//
// Errors: INTEGRITY when the content is not want; STORAGE_FULL; STORAGE;
// CANCELED; and r's own. After an error nothing is stored.
func (s *Store) Put(ctx context.Context, r io.Reader, want shared.Digest) (_ shared.Digest, size int64, err error) {
	if want != "" {
		if _, err := shared.ParseDigest(string(want)); err != nil {
			return "", 0, err
		}
	}
	file, err := os.CreateTemp(s.Scratch(), "put-*")
	if err != nil {
		return "", 0, s.failure("store a blob", err)
	}
	reserved := int64(0)
	defer func() {
		_ = file.Close() // after success it is closed already
		if err != nil {
			_ = os.Remove(file.Name()) // else the next Open does it
			s.release(reserved)
		}
	}()
	hash := sha256.New()
	buffer := make([]byte, copyBuffer)
	for eof := false; !eof; {
		if err := ctx.Err(); err != nil {
			return "", 0, shared.AsError(err)
		}
		n, readErr := io.ReadFull(r, buffer)
		eof = errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF)
		if readErr != nil && !eof {
			return "", 0, fmt.Errorf("store a blob: read its content: %w", readErr)
		}
		if err := s.reserve(int64(n)); err != nil {
			return "", 0, err
		}
		reserved += int64(n)
		_, _ = hash.Write(buffer[:n]) // a hash takes everything
		if _, err := file.Write(buffer[:n]); err != nil {
			return "", 0, s.failure("store a blob", err)
		}
	}
	digest := shared.DigestFromSum([sha256.Size]byte(hash.Sum(nil)))
	if want != "" && digest != want {
		return "", 0, shared.NewError(shared.ReasonIntegrity, "store blob %s: the content is %s", want, digest)
	}
	if err := syncAndClose(file); err != nil {
		return "", 0, s.failure("store blob "+string(digest), err)
	}
	size = reserved
	adopted, err := s.adopt(file.Name(), digest, size)
	if adopted {
		reserved = 0
	}
	if err != nil {
		return "", 0, err
	}
	return digest, size, nil
}

// PutFile makes the file at path the blob digest, after checking that this is
// its content. The file is moved, not copied, so it must lie on the store's file
// system (see [Store.Scratch]), and nobody may write to it any more. After an
// error it is still where it was.
//
// Errors: INTEGRITY, STORAGE_FULL, STORAGE, CANCELED.
func (s *Store) PutFile(ctx context.Context, path string, digest shared.Digest) error {
	if _, err := shared.ParseDigest(string(digest)); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return shared.NewError(shared.ReasonStorage, "store blob %s from %s: %w", digest, path, err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0) // writable, or it cannot be synced everywhere
	if err != nil {
		return shared.NewError(shared.ReasonStorage, "store blob %s from %s: %w", digest, path, err)
	}
	defer func() { _ = file.Close() }() // after success it is closed already
	found, err := digestOf(ctx, file)
	if err != nil {
		return shared.AsError(fmt.Errorf("store blob %s from %s: %w", digest, path, err))
	}
	if found != digest {
		return shared.NewError(shared.ReasonIntegrity, "store blob %s from %s: the content is %s", digest, path, found)
	}
	if err := s.reserve(info.Size()); err != nil {
		return err
	}
	if err = file.Chmod(0o600); err == nil {
		err = syncAndClose(file)
	}
	if err != nil {
		s.release(info.Size())
		return s.failure("store blob "+string(digest), err)
	}
	adopted, err := s.adopt(path, digest, info.Size())
	if !adopted {
		s.release(info.Size())
	}
	return err
}

// adopt renames a synced file to be the blob. The caller has reserved size bytes
// for it. Once the file is adopted these are the blob's, or given back if the
// blob was here before; an error then means that a crash may still undo it.
func (s *Store) adopt(path string, digest shared.Digest, size int64) (adopted bool, err error) {
	folder := filepath.Dir(s.blobPath(digest))
	err = os.Mkdir(folder, 0o700)
	if err == nil {
		err = syncDir(s.blobs())
	} else if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err == nil {
		err = s.appear(path, digest, size)
	}
	if err != nil {
		return false, s.failure("store blob "+string(digest), err)
	}
	// Also when the blob was here before: whoever put it may not have come so far.
	if err := syncDir(folder); err != nil {
		return true, s.failure("store blob "+string(digest), err)
	}
	return true, nil
}

func (s *Store) appear(path string, digest shared.Digest, size int64) error {
	target := s.blobPath(digest)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.measure(); err != nil {
		return err
	}
	if _, err := os.Stat(target); err == nil {
		if err := os.Remove(path); err != nil {
			return err
		}
		s.used -= size
		return nil
	}
	if err := os.Rename(path, target); err != nil {
		return err
	}
	s.count++
	s.stored += size
	return s.tidy(digest)
}

// Delete removes a blob. It is no error if it is not here. Whoever has it open
// can go on reading.
func (s *Store) Delete(digest shared.Digest) error {
	if _, err := shared.ParseDigest(string(digest)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.blobPath(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if err = s.measure(); err == nil {
			err = os.Remove(s.blobPath(digest))
		}
	}
	if err != nil {
		return s.failure("delete blob "+string(digest), err)
	}
	s.count--
	s.used -= info.Size()
	s.stored -= info.Size()
	return nil
}

// Verify reads a blob and checks that it still has its digest. A damaged one is
// dropped, so that it is fetched again, and reported as INTEGRITY; other errors
// are those of [Store.Open] and CANCELED.
func (s *Store) Verify(ctx context.Context, digest shared.Digest) error {
	blob, _, err := s.open(digest)
	if err != nil {
		return err
	}
	found, err := digestOf(ctx, blob.file)
	_ = blob.Close() // only read from
	switch {
	case ctx.Err() != nil:
		return shared.AsError(ctx.Err())
	case err != nil:
		return s.failure(fmt.Sprintf("verify blob %s", digest), err)
	case found == digest:
		return nil
	}
	damaged := shared.NewError(shared.ReasonIntegrity, "blob %s is damaged on disk: its content is %s", digest, found).
		WithHint("it was dropped and will be fetched again when it is needed; check the disk if this happens often")
	if err := s.Delete(digest); err != nil {
		return errors.Join(damaged, err)
	}
	return damaged
}

// All yields the blobs that are here, in no order. Blobs that come or go
// meanwhile may be missed. An error ends the iteration.
func (s *Store) All() iter.Seq2[shared.Digest, error] {
	return func(yield func(shared.Digest, error) bool) {
		err := s.walk(func(digest shared.Digest, _ fs.DirEntry) bool { return yield(digest, nil) })
		if err != nil {
			yield("", s.failure("list blobs", err))
		}
	}
}

// Usage counts the blobs and their bytes. Unfinished downloads are not included,
// though they count against the quota.
func (s *Store) Usage() (count int, bytes int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.measure(); err != nil {
		return 0, 0, s.failure("measure store", err)
	}
	return s.count, s.stored, nil
}

// walk visits all blobs until visit returns false. Other files are not ours.
func (s *Store) walk(visit func(shared.Digest, fs.DirEntry) bool) error {
	folders, err := os.ReadDir(s.blobs())
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if !folder.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(s.blobs(), folder.Name()))
		if err != nil {
			return err
		}
		for _, file := range files {
			digest, err := shared.ParseDigest("sha256:" + file.Name())
			if err == nil && digest.Hex()[:2] == folder.Name() && !visit(digest, file) {
				return nil
			}
		}
	}
	return nil
}

// sweep removes leftovers of earlier processes.
func (s *Store) sweep(now time.Time) error {
	temporary, err := os.ReadDir(s.Scratch())
	if err != nil {
		return err
	}
	for _, entry := range temporary {
		if err := os.RemoveAll(filepath.Join(s.Scratch(), entry.Name())); err != nil {
			return err
		}
	}
	unfinished, err := os.ReadDir(s.partial())
	if err != nil {
		return err
	}
	for _, entry := range unfinished {
		digest, parseErr := shared.ParseDigest("sha256:" + entry.Name())
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if parseErr == nil && now.Sub(info.ModTime()) < partialMaxAge && !s.Has(digest) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.partial(), entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func digestOf(ctx context.Context, r io.Reader) (shared.Digest, error) {
	hash := sha256.New()
	buffer := make([]byte, copyBuffer)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := r.Read(buffer)
		_, _ = hash.Write(buffer[:n]) // a hash takes everything
		if errors.Is(err, io.EOF) {
			return shared.DigestFromSum([sha256.Size]byte(hash.Sum(nil))), nil
		}
		if err != nil {
			return "", err
		}
	}
}

func syncAndClose(file *os.File) error {
	if err := file.Sync(); err != nil {
		return err
	}
	return file.Close()
}
