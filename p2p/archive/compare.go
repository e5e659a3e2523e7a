package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Diff says how a folder differs from an index. The lists hold relative paths.
type Diff struct{ Modified, Missing, Extra []string }

// Empty tells whether there is no difference.
func (d Diff) Empty() bool { return len(d.Modified)+len(d.Missing)+len(d.Extra) == 0 }

// Compare holds a folder on disk against an index. Contents, executable bits and
// kinds count; times and owners do not.
func Compare(ctx context.Context, dir string, ix *Index) (Diff, error) {
	var diff Diff
	nodes, err := walk(dir, Limits{Files: 1 << 20})
	if err != nil {
		return diff, err
	}
	present := map[string]*node{}
	for _, n := range nodes {
		present[n.path] = n
	}
	for _, f := range ix.Files {
		if err := ctx.Err(); err != nil {
			return diff, shared.AsError(err)
		}
		n, ok := present[f.Path]
		delete(present, f.Path)
		switch {
		case !ok:
			diff.Missing = append(diff.Missing, f.Path)
		case n.dir != f.Dir || n.executable != f.Executable || n.size != f.Size:
			diff.Modified = append(diff.Modified, f.Path)
		case !f.Dir:
			digest, err := digestFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
			if err != nil {
				return diff, storage(err)
			}
			if digest != f.Digest {
				diff.Modified = append(diff.Modified, f.Path)
			}
		}
	}
	for name := range present {
		diff.Extra = append(diff.Extra, name)
	}
	slices.Sort(diff.Extra)
	return diff, nil
}

// DigestDir computes the digest that the canonical archive of a folder would
// have. Errors: INVALID_PACKAGE for what no package may hold, STORAGE.
func DigestDir(ctx context.Context, dir string) (shared.Digest, error) {
	nodes, err := walk(dir, DefaultLimits())
	if err != nil {
		return "", err
	}
	var open *os.File
	ix, err := writeCanonical(ctx, io.Discard, nodes, func(n *node) (io.Reader, error) {
		if open != nil {
			_ = open.Close() // only read
		}
		var err error
		open, err = os.Open(filepath.Join(dir, filepath.FromSlash(n.path)))
		return open, err
	})
	if open != nil {
		_ = open.Close() // only read
	}
	if err != nil {
		return "", storage(err)
	}
	return ix.Digest, nil
}

// walk lists the files and empty folders of a folder, sorted as in an archive.
func walk(dir string, limits Limits) ([]*node, error) {
	var nodes []*node
	parents := map[string]bool{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		rel = filepath.ToSlash(rel)
		if len(nodes) >= limits.Files {
			return shared.NewError(shared.ReasonLimitExceeded, "%s has more than %d files", dir, limits.Files)
		}
		if i := strings.LastIndexByte(rel, '/'); i >= 0 {
			parents[rel[:i]] = true
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n := &node{path: rel, dir: d.IsDir()}
		switch {
		case n.dir:
		case info.Mode().IsRegular():
			n.size, n.executable = info.Size(), info.Mode().Perm()&0o111 != 0
		default:
			return refuse(rel, "it is neither a regular file nor a folder")
		}
		nodes = append(nodes, n)
		return nil
	})
	if err != nil {
		return nil, storage(err)
	}
	nodes = slices.DeleteFunc(nodes, func(n *node) bool { return n.dir && parents[n.path] })
	slices.SortFunc(nodes, func(a, b *node) int { return strings.Compare(a.path, b.path) })
	return nodes, nil
}

func digestFile(name string) (digest shared.Digest, err error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return shared.DigestFromSum([sha256.Size]byte(sum.Sum(nil))), nil
}
