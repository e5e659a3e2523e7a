package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// node is a file or folder of a package.
type node struct {
	path       string
	dir        bool
	special    bool // neither; only package folders on disk have such
	executable bool
	size       int64
	spool      int64 // where the content lies in the spool file
}

// tree collects the nodes of one package and refuses those that some file system
// could not hold beside the others.
type tree struct {
	limits  Limits
	nodes   map[string]*node
	folded  map[string]string // folded path → path
	skipped map[string]bool
	bytes   int64 // of all files' contents
	// inspecting collects problems, to tell all of them; otherwise the first one ends.
	inspecting bool
	problems   []*shared.Error
}

func newTree(limits Limits) *tree {
	return &tree{limits: limits.orDefault(), nodes: map[string]*node{}, folded: map[string]string{}, skipped: map[string]bool{}}
}

// read collects what a tar stream holds, contents going to spool.
func (t *tree) read(ctx context.Context, r io.Reader, spool *os.File) error {
	src := &source{done: ctx.Err, r: r}
	disk := &disk{w: spool}
	tr := tar.NewReader(src)
	for {
		before := src.n
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			// Contents are read to their end below, so what was read now is padding
			// and the end mark. A stream that was cut between two files has
			// no end mark, and archive/tar says nothing.
			if src.n-before < endSize {
				return cutShort("after its last whole file")
			}
			break
		}
		if err != nil {
			return src.blame(err, "the package's files")
		}
		if err := t.add(header, src, tr, disk); err != nil && !t.collect(err) {
			return err
		}
		// Of what was skipped. A sparse file can claim any size and need no bytes for
		// it; what is beyond the limit, Next passes over without making it up.
		if _, err := io.CopyN(io.Discard, tr, t.limits.Bytes); err != nil && !errors.Is(err, io.EOF) {
			return src.blame(err, header.Name)
		}
	}
	if len(t.nodes) == 0 && len(t.problems) == 0 {
		return shared.NewError(shared.ReasonInvalidPackage, "the package holds no files")
	}
	return nil
}

// collect keeps an error that is about one file, when inspecting.
func (t *tree) collect(err error) bool {
	var problem *shared.Error
	if !t.inspecting || len(t.problems) >= maxProblems || !errors.As(err, &problem) ||
		problem.Reason != shared.ReasonInvalidPackage || problem.Metadata["path"] == "" {
		return false
	}
	t.problems = append(t.problems, problem)
	return true
}

func (t *tree) add(header *tar.Header, src *source, content io.Reader, out *disk) error {
	name := strings.TrimSuffix(strings.TrimPrefix(header.Name, "./"), "/")
	if name == "" || name == "." {
		return nil // the folder itself
	}
	if folder := excluded(name); folder != "" {
		t.skipped[folder] = true
		if len(t.skipped) > t.limits.Files {
			return t.tooMany()
		}
		return nil
	}
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeDir:
	case tar.TypeSymlink:
		return refuse(name, "it is a symbolic link (to %q)", header.Linkname).
			WithHint("packages hold regular files only: put a copy of the file in its place, or leave it out")
	default:
		return refuse(name, "it is neither a regular file nor a folder (%s)", typeName(header.Typeflag))
	}
	if what := secretByName(name); what != "" && header.Typeflag == tar.TypeReg {
		if err := CheckPath(name); err != nil {
			return err
		}
		return refuseSecret(name, what)
	}
	n := &node{path: name, dir: header.Typeflag == tar.TypeDir, executable: header.Mode&0o111 != 0, size: header.Size, spool: t.bytes}
	if n.dir {
		n.executable, n.size = false, 0
	}
	if err := t.place(n); err != nil {
		return err
	}
	if n.size > t.limits.Bytes-t.bytes {
		return shared.NewError(shared.ReasonLimitExceeded, "the package has more than %d bytes (at %q)", t.limits.Bytes, name).
			WithHint("leave out what can be generated, or split the package").
			With("limit", fmt.Sprint(t.limits.Bytes)).With("value", fmt.Sprint(t.bytes+n.size)).With("path", name)
	}
	t.bytes += n.size
	if n.dir {
		return nil
	}
	if _, err := io.Copy(out, content); err != nil {
		if out.err != nil {
			return storage(path.Dir(out.w.Name()), fmt.Errorf("keep %q: %w", name, err))
		}
		return src.blame(err, name)
	}
	what, err := secretByContent(name, io.NewSectionReader(out.w, n.spool, n.size))
	if err != nil {
		return storage(path.Dir(out.w.Name()), fmt.Errorf("read %q again: %w", name, err))
	}
	if what != "" {
		return refuseSecret(name, what)
	}
	return nil
}

// place files a node under its path, with its folders. Errors: INVALID_PACKAGE
// with metadata path, LIMIT_EXCEEDED.
func (t *tree) place(n *node) error {
	if err := CheckPath(n.path); err != nil {
		return err
	}
	if existing, twice := t.nodes[n.path]; twice {
		switch {
		case existing.dir && n.dir:
			return nil
		case existing.dir || n.dir:
			return refuse(n.path, "it is a file, and a folder too")
		}
		return refuse(n.path, "it occurs twice")
	}
	for dir := path.Dir(n.path); dir != "."; dir = path.Dir(dir) {
		if parent, ok := t.nodes[dir]; ok {
			if !parent.dir {
				return refuse(n.path, "%q is a file, and a folder too", dir)
			}
			break // and so are those above it
		}
		if err := t.enter(&node{path: dir, dir: true}); err != nil {
			return err
		}
	}
	return t.enter(n)
}

func (t *tree) enter(n *node) error {
	folded := foldPath(n.path)
	if other, ok := t.folded[folded]; ok {
		return refuse(n.path, "it differs from %q only in upper and lower case or in how a letter is written", other).
			WithHint("such names are one file on macOS and Windows: rename one")
	}
	t.folded[folded], t.nodes[n.path] = n.path, n
	if len(t.nodes) > t.limits.Files {
		return t.tooMany()
	}
	return nil
}

func (t *tree) tooMany() error {
	return shared.NewError(shared.ReasonLimitExceeded, "the package has more than %d files and folders", t.limits.Files).
		WithHint("leave out what can be generated, or split the package").With("limit", fmt.Sprint(t.limits.Files))
}

// sorted lists the files and the folders that are empty, by path.
func (t *tree) sorted() []*node {
	nodes := make([]*node, 0, len(t.nodes))
	for _, n := range t.nodes {
		nodes = append(nodes, n)
	}
	return canonical(nodes)
}

// canonical sorts nodes by path and drops the folders that are not empty.
func canonical(nodes []*node) []*node {
	occupied := map[string]bool{}
	for _, n := range nodes {
		occupied[path.Dir(n.path)] = true
	}
	nodes = slices.DeleteFunc(nodes, func(n *node) bool { return n.dir && occupied[n.path] })
	slices.SortFunc(nodes, func(a, b *node) int { return strings.Compare(a.path, b.path) })
	return nodes
}

// source reads from a sender, ends with its context, and remembers what went
// wrong: archive/tar does not tell a broken stream from a broken archive.
type source struct {
	done func() error // a context's Err
	r    io.Reader
	n    int64
	err  error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	if err := s.done(); err != nil {
		s.err = shared.AsError(err)
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// blame says whose fault a failure to read what is.
func (s *source) blame(err error, what string) error {
	what = strings.ToValidUTF8(what, "\uFFFD")
	switch {
	case s.err != nil:
		return fmt.Errorf("read %q: %w", what, s.err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return cutShort(fmt.Sprintf("in %q", what))
	}
	return shared.NewError(shared.ReasonInvalidPackage, "read %q: %w", what, err)
}

func cutShort(where string) error {
	return shared.NewError(shared.ReasonInvalidPackage, "the package's files end early, %s", where).
		WithHint("the upload was interrupted: run the command again")
}

// disk remembers that writing failed, so that it is not taken for reading.
type disk struct {
	w   *os.File
	err error
}

// Write implements io.Writer.
func (d *disk) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err != nil {
		d.err = err
	}
	return n, err
}
