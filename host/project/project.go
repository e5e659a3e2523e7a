// Package project keeps what installing leaves in a user's folder: where packages
// go, ggen.lock, receipts, the [packs] table of ggen.toml, and the settings that a
// project or a user writes down.
//
// Every file is replaced as a whole (temporary file, fsync, rename, fsync of the
// folder) and, where two commands may meet, under a lock. Paths inside a project
// are opened through os.Root: a project is often somebody else's, and a symbolic
// link in it must not lead a write elsewhere.
//
// It does not resolve, fetch or unpack packages: an engine does that, and tells
// by its receipt what there is to record.
package project

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// The names of the files of a project.
const (
	ManifestName = "ggen.toml"
	LockfileName = "ggen.lock"
	// dotDir holds what ggen manages inside a project.
	dotDir = ".ggen"
)

// Place is where packages are installed: a project, or, outside of any, the
// user's home of ggen. The zero value is not usable; [Locate] makes one.
type Place struct {
	root    string // absolute; ggen.lock lies here
	managed string // folder of packages, receipts and the lock, relative to root
	project bool
}

// Locate finds the place for a command that was started in cwd. A folder given as
// explicit is the project, whatever it holds. Otherwise the nearest folder with a
// ggen.toml, from cwd upwards, is the project; a ggen.toml below a .ggen folder
// belongs to an installed package and does not count. Without a project the place
// is home. All three paths but explicit are absolute. Errors: INVALID_ARGUMENT.
func Locate(cwd, explicit, home string) (Place, error) {
	if explicit != "" {
		dir := explicit
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(cwd, dir)
		}
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Place{}, shared.NewError(shared.ReasonInvalidArgument, "the project folder %s does not exist", explicit)
		case err != nil:
			return Place{}, shared.NewError(shared.ReasonInvalidArgument, "open the project folder %s: %w", explicit, err)
		case !info.IsDir():
			return Place{}, shared.NewError(shared.ReasonInvalidArgument, "the project %s is not a folder", explicit)
		}
		return Place{root: filepath.Clean(dir), managed: dotDir, project: true}, nil
	}
	for dir := filepath.Clean(cwd); ; dir = filepath.Dir(dir) {
		if !managedBelow(dir) {
			if info, err := os.Stat(filepath.Join(dir, ManifestName)); err == nil && !info.IsDir() {
				return Place{root: dir, managed: dotDir, project: true}, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return Place{root: filepath.Clean(home), managed: "."}, nil
		}
	}
}

func managedBelow(dir string) bool {
	return slices.Contains(strings.Split(filepath.ToSlash(dir), "/"), dotDir)
}

// IsProject tells a project from the user's home.
func (p Place) IsProject() bool { return p.project }

// Root is the absolute folder that holds ggen.lock.
func (p Place) Root() string { return p.root }

// Packages is the absolute folder below which packages are installed.
func (p Place) Packages() string { return filepath.Join(p.root, p.managed, "packages") }

// Lockfile is the absolute path of ggen.lock.
func (p Place) Lockfile() string { return filepath.Join(p.root, LockfileName) }

// Manifest is the absolute path of the project's ggen.toml, which need not exist.
func (p Place) Manifest() string { return filepath.Join(p.root, ManifestName) }

// Present tells whether the folder of an installed package exists.
func (p Place) Present(name string) bool {
	info, err := os.Stat(filepath.Join(p.Packages(), name))
	return err == nil && info.IsDir()
}

// Prepare makes the folder for packages. It fails when a symbolic link on the way
// leads out of the place. Errors: STORAGE, STORAGE_FULL.
func (p Place) Prepare() error {
	root, err := p.open()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // nothing is written through the handle itself
	return storageError("make the folder "+p.Packages(), root.MkdirAll(filepath.Join(p.managed, "packages"), 0o755))
}

// open makes root if it is the home of ggen, which nobody else may read, and
// confines what follows to it.
func (p Place) open() (*os.Root, error) {
	if !p.project {
		if err := os.MkdirAll(p.root, 0o700); err != nil {
			return nil, storageError("make the folder "+p.root, err)
		}
	}
	root, err := os.OpenRoot(p.root)
	if err != nil {
		return nil, storageError("open the folder "+p.root, err)
	}
	return root, p.refuseLinks(root)
}

// refuseLinks returns an error if the folder of packages, or one above it in the
// place, is a symbolic link: a project that somebody sent could aim it at the
// user's own files. It closes root then.
func (p Place) refuseLinks(root *os.Root) error {
	for _, dir := range []string{p.managed, filepath.Join(p.managed, "packages")} {
		if info, err := root.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			_ = root.Close() // nothing was written
			return shared.NewError(shared.ReasonModified, "%s is a symbolic link", filepath.Join(p.root, dir)).
				WithHint("remove it: packages are kept in a real folder only").With("path", filepath.Join(p.root, dir))
		}
	}
	return nil
}

// read is [readBounded] for a place whose root need not exist.
func (p Place) read(name string, most int64) ([]byte, error) {
	root, err := os.OpenRoot(p.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storageError("open the folder "+p.root, err)
	}
	defer func() { _ = root.Close() }() // only read
	return readBounded(root, name, most)
}

func storageError(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case diskFull(err):
		return shared.NewError(shared.ReasonStorageFull, "%s: %w", doing, err).WithHint("free some space on that disk and try again")
	}
	return shared.NewError(shared.ReasonStorage, "%s: %w", doing, err)
}
