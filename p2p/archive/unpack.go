package archive

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Unpack writes the archive's files to the folder dest, which appears whole or
// not at all: everything goes to a hidden sibling first, and a rename puts it in
// place. An existing dest is moved aside, and removed when the new one stands.
// Every file and the whole archive are verified against the index. Callers must
// not unpack to one dest twice at a time.
//
// Errors: INTEGRITY, STORAGE_FULL, STORAGE.
func Unpack(ctx context.Context, r io.Reader, ix *Index, dest string) (err error) {
	parent, name := filepath.Dir(dest), filepath.Base(dest)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return storage(err)
	}
	root, err := os.OpenRoot(parent)
	if err != nil {
		return storage(err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	temporary := hidden(name)
	if err := root.Mkdir(temporary, 0o755); err != nil {
		return storage(err)
	}
	defer func() { err = errors.Join(err, storage(root.RemoveAll(temporary))) }()
	if err := extract(ctx, r, ix, root, temporary); err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	return swap(root, temporary, name)
}

// hidden is a name beside name that nobody else uses.
func hidden(name string) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return "." + name + "." + hex.EncodeToString(random[:])
}

// swap puts temporary in the place of name. Between the two renames of a
// replacement a crash leaves the old folder under its hidden name only: the lock
// file still has what belongs there, and the next install puts it back.
func swap(root *os.Root, temporary, name string) error {
	old := hidden(name)
	err := root.Rename(name, old)
	replaced := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return storage(err)
	}
	if err := root.Rename(temporary, name); err != nil {
		if replaced {
			err = errors.Join(err, root.Rename(old, name))
		}
		return storage(err)
	}
	if err := syncFolder(root, "."); err != nil {
		return err
	}
	if replaced {
		return storage(root.RemoveAll(old))
	}
	return nil
}

func extract(ctx context.Context, r io.Reader, ix *Index, root *os.Root, dir string) error {
	whole := sha256.New()
	counted := &counter{w: whole}
	limited := io.LimitReader(r, ix.Size+1)
	stream := io.TeeReader(limited, counted)
	tr := tar.NewReader(stream)
	made := map[string]bool{".": true}
	for _, f := range ix.Files {
		if err := ctx.Err(); err != nil {
			return shared.AsError(err)
		}
		header, err := tr.Next()
		if err != nil {
			return corrupt("the archive ends before %s: %v", f.Path, err)
		}
		if err := matches(header, f); err != nil {
			return err
		}
		if err := makeFolders(root, dir, f, made); err != nil {
			return err
		}
		if f.Dir {
			continue
		}
		if err := extractFile(root, path.Join(dir, f.Path), f, tr); err != nil {
			return err
		}
	}
	if _, err := tr.Next(); !errors.Is(err, io.EOF) {
		return corrupt("the archive holds more than its index says")
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return storage(err)
	}
	if got := shared.DigestFromSum([sha256.Size]byte(whole.Sum(nil))); counted.n != ix.Size || got != ix.Digest {
		return corrupt("the archive is %s (%d bytes), not %s (%d bytes)", got, counted.n, ix.Digest, ix.Size)
	}
	return nil
}

// matches holds a tar header against the index, which was verified.
func matches(header *tar.Header, f File) error {
	want := canonicalHeader(&node{path: f.Path, dir: f.Dir, executable: f.Executable, size: f.Size})
	if header.Name != want.Name || header.Typeflag != want.Typeflag || header.Size != want.Size || header.Mode != want.Mode {
		return corrupt("the archive holds %q where its index says %q", strings.ToValidUTF8(header.Name, "\uFFFD"), want.Name)
	}
	return nil
}

func makeFolders(root *os.Root, dir string, f File, made map[string]bool) error {
	folder := path.Dir(f.Path)
	if f.Dir {
		folder = f.Path
	}
	if made[folder] {
		return nil
	}
	if err := root.MkdirAll(path.Join(dir, folder), 0o755); err != nil {
		return storage(err)
	}
	made[folder] = true
	return nil
}

func extractFile(root *os.Root, name string, f File, content io.Reader) (err error) {
	mode := os.FileMode(0o644)
	if f.Executable {
		mode = 0o755
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return storage(err)
	}
	defer func() { err = errors.Join(err, storage(out.Close())) }()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), content); err != nil {
		return storage(err)
	}
	if got := shared.DigestFromSum([sha256.Size]byte(sum.Sum(nil))); got != f.Digest {
		return corrupt("%s is %s, not %s", f.Path, got, f.Digest)
	}
	return nil
}

// syncFolder makes a rename durable.
func syncFolder(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return storage(err)
	}
	// Some file systems cannot sync a folder; the rename itself is done.
	_ = dir.Sync()
	return storage(dir.Close())
}

func corrupt(format string, args ...any) error {
	return shared.NewError(shared.ReasonIntegrity, format, args...).WithHint("the copy is damaged: run the command again to fetch it anew")
}

// storage gives a disk error its reason; nil stays nil.
func storage(err error) error {
	if err == nil {
		return nil
	}
	var typed *shared.Error
	if full := diskError("the package", err); errors.As(full, &typed) {
		return full
	}
	return shared.NewError(shared.ReasonStorage, "%w", err)
}
