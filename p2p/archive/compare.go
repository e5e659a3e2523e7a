package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Diff says how a folder differs from an index. The lists hold relative paths
// with slashes, sorted.
type Diff struct{ Modified, Missing, Extra []string }

// Empty tells whether there is no difference.
func (d Diff) Empty() bool { return len(d.Modified)+len(d.Missing)+len(d.Extra) == 0 }

// maxCompared bounds the files that Compare lists: a folder that a user filled
// with a build's output is to be described, a mounted archive of the world not.
const maxCompared = 1 << 20

// Compare holds a folder on disk against an index. Contents, executable bits and
// kinds count; times and owners do not. A link or device is never opened: it is a
// modified file, or an extra one. The difference is empty exactly if [DigestDir]
// gives the digest of the index. Errors: LIMIT_EXCEEDED for over a million files,
// STORAGE, the context's.
func Compare(ctx context.Context, dir string, ix *Index) (Diff, error) {
	var diff Diff
	nodes, err := walk(ctx, dir, maxCompared)
	if err != nil {
		return diff, fmt.Errorf("compare %s: %w", dir, err)
	}
	onDisk := map[string]*node{}
	for _, n := range nodes {
		onDisk[n.path] = n
	}
	parents := map[string]bool{} // of what the index lists
	for _, f := range ix.Files {
		forEachParent(f.Path, func(folder string) { parents[folder] = true })
		n := onDisk[f.Path]
		delete(onDisk, f.Path)
		same, err := sameAs(ctx, dir, n, f)
		switch {
		case err != nil:
			return diff, fmt.Errorf("compare %s: %w", dir, storage(dir, err))
		case same:
		case n == nil && f.Dir && hasContent(nodes, f.Path):
			// The folder is there and no longer empty: what it holds is extra.
		case n == nil:
			diff.Missing = append(diff.Missing, f.Path)
		default:
			diff.Modified = append(diff.Modified, f.Path)
		}
	}
	for name, n := range onDisk {
		if !n.dir || !parents[name] { // a folder that lost its files is not extra
			diff.Extra = append(diff.Extra, name)
		}
	}
	slices.Sort(diff.Extra)
	return diff, nil
}

// sameAs tells whether what is on disk, nil for nothing, is what the index lists.
func sameAs(ctx context.Context, dir string, n *node, f File) (bool, error) {
	if n == nil || n.special || n.dir != f.Dir || n.executable != f.Executable || n.size != f.Size {
		return false, nil
	}
	if f.Dir {
		return true, nil
	}
	digest, err := digestFile(ctx, filepath.Join(dir, filepath.FromSlash(f.Path)))
	return digest == f.Digest, err
}

// forEachParent calls visit with the folders above a path.
func forEachParent(name string, visit func(string)) {
	for i := strings.LastIndexByte(name, '/'); i >= 0; i = strings.LastIndexByte(name, '/') {
		name = name[:i]
		visit(name)
	}
}

// hasContent tells whether sorted nodes lie below a folder.
func hasContent(nodes []*node, folder string) bool {
	i, _ := slices.BinarySearchFunc(nodes, folder+"/", func(n *node, prefix string) int { return strings.Compare(n.path, prefix) })
	return i < len(nodes) && strings.HasPrefix(nodes[i].path, folder+"/")
}

// DigestDir computes the digest that the canonical archive of a folder has. It
// leaves nothing out, not even what [Pack] does: it is for folders that were
// installed. Errors: INVALID_PACKAGE with metadata path for links and devices and
// for files that change meanwhile, LIMIT_EXCEEDED beyond [DefaultLimits], STORAGE,
// the context's.
func DigestDir(ctx context.Context, dir string) (shared.Digest, error) {
	limits := DefaultLimits()
	nodes, err := walk(ctx, dir, limits.Files)
	if err != nil {
		return "", fmt.Errorf("digest %s: %w", dir, err)
	}
	var total int64
	for _, n := range nodes {
		if n.special {
			return "", refuse(n.path, "it is neither a regular file nor a folder")
		}
		if total += n.size; total > limits.Bytes {
			return "", shared.NewError(shared.ReasonLimitExceeded, "%s holds more than %d bytes", dir, limits.Bytes).
				With("limit", fmt.Sprint(limits.Bytes)).With("path", n.path)
		}
	}
	digest, err := digestArchive(ctx, nodes, func(n *node) (io.ReadCloser, error) {
		return os.Open(filepath.Join(dir, filepath.FromSlash(n.path)))
	})
	if err != nil {
		return "", fmt.Errorf("digest %s: %w", dir, storage(dir, err))
	}
	return digest, nil
}

// walk lists the files and empty folders of a folder as an archive has them.
func walk(ctx context.Context, dir string, most int) ([]*node, error) {
	var nodes []*node
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		if len(nodes) >= most {
			return shared.NewError(shared.ReasonLimitExceeded, "it has more than %d files and folders", most).With("limit", fmt.Sprint(most))
		}
		n := &node{path: filepath.ToSlash(rel), dir: d.IsDir(), special: !d.IsDir() && !d.Type().IsRegular()}
		if !n.dir && !n.special {
			info, err := d.Info()
			if err != nil {
				return err
			}
			n.size, n.executable = info.Size(), info.Mode().Perm()&0o111 != 0
		}
		nodes = append(nodes, n)
		return nil
	})
	if err != nil {
		return nil, storage(dir, err)
	}
	return canonical(nodes), nil
}

func digestFile(ctx context.Context, name string) (digest shared.Digest, err error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(&untilDone{ctx.Err, sum}, file); err != nil {
		return "", err
	}
	return digestOf(sum), nil
}
