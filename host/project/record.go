package project

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Record enters what an engine has put in place into ggen.lock and the receipts.
// The caller holds [Place.Lock] since before it read the lockfile for the install.
// A package that somebody had asked for before stays requested. Errors: LOCKFILE,
// STORAGE, STORAGE_FULL; INTERNAL when the engine's receipt makes no sense.
func (p Place) Record(packages []shared.InstalledPackage) error {
	lock, err := p.ReadLockfile()
	if err != nil {
		return err
	}
	before, err := p.List()
	if err != nil {
		return err
	}
	requested := map[string]bool{}
	for _, pkg := range before {
		requested[pkg.Name] = pkg.Requested
	}
	for _, pkg := range packages {
		if key, err := checkLocked(pkg.LockedPackage); err != nil {
			return shared.NewError(shared.ReasonInternal, "the engine installed %q with a wrong %s: %w", pkg.Name, key, err)
		}
		if pkg.Path != p.path(pkg.Name) {
			return shared.NewError(shared.ReasonInternal, "the engine installed %s to %s instead of %s", pkg.Name, pkg.Path, p.path(pkg.Name))
		}
		lock = lock.With(pkg.LockedPackage)
	}
	root, err := p.open()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // every write has been synced by itself
	for _, pkg := range packages {
		receipt := Receipt{
			Name: pkg.Name, Version: pkg.Version, Publisher: pkg.Publisher, Digest: pkg.Digest,
			Title: pkg.Title, Description: pkg.Description, Requested: pkg.Requested || requested[pkg.Name],
		}
		if err := p.writeReceipt(root, receipt); err != nil {
			return err
		}
	}
	return writeLockfile(root, lock)
}

// path is where a package lies.
func (p Place) path(name string) string { return filepath.Join(p.Packages(), name) }

// Removal is what [Place.Remove] did.
type Removal struct {
	Removed []shared.LockedPackage
	Unused  []string // dependencies that nothing needs any more
	// Kept names the [packs] entries of ggen.toml that were left alone because
	// they do not point at the removed folder.
	Kept []string
}

// Remove takes packages out of the place: the folder, the receipt, the entry in
// ggen.lock and, in a project, the line in [packs]. It refuses to take away what
// another installed package needs, unless force. Either all of the named packages
// can be removed or nothing is touched. The caller holds [Place.Lock]. Errors:
// NOT_FOUND, UNSATISFIABLE (metadata needed_by), LOCKFILE, STORAGE,
// INVALID_MANIFEST for a ggen.toml that cannot be edited.
func (p Place) Remove(names []string, force bool) (Removal, error) {
	lock, err := p.ReadLockfile()
	if err != nil {
		return Removal{}, err
	}
	before := unneeded(p, lock)
	var removal Removal
	after := lock
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		pkg, found := lock.Get(name)
		if !found {
			return Removal{}, shared.NewError(shared.ReasonNotFound, "remove %s: it is not installed in %s", name, p.root).
				WithHint("`ggen marketplace list` shows what is")
		}
		if needing := lock.NeededBy(name, names); len(needing) > 0 && !force {
			return Removal{}, shared.NewError(shared.ReasonUnsatisfiable, "remove %s: it is needed by %s", name, strings.Join(needing, ", ")).
				WithHint("remove those as well, or use --force").With("needed_by", strings.Join(needing, ","))
		}
		removal.Removed = append(removal.Removed, pkg)
		after = after.Without(name)
	}
	root, err := p.open()
	if err != nil {
		return Removal{}, err
	}
	defer func() { _ = root.Close() }() // every write has been synced by itself
	manifest, err := p.editManifest(root, func(data []byte) ([]byte, error) {
		for _, pkg := range removal.Removed {
			edited, kept, err := RemovePack(data, pkg.Name, packPath(pkg.Name))
			if err != nil {
				return nil, manifestError(p.Manifest(), err)
			}
			if kept {
				removal.Kept = append(removal.Kept, pkg.Name)
			}
			data = edited
		}
		return data, nil
	})
	if err != nil {
		return Removal{}, err
	}
	discard, err := p.setAside(root, removal.Removed)
	if err != nil {
		return Removal{}, err
	}
	if err := writeLockfile(root, after); err != nil {
		return Removal{}, errors.Join(err, discard.undo())
	}
	if manifest != nil {
		if err := manifest(); err != nil {
			return Removal{}, err
		}
	}
	for _, pkg := range removal.Removed {
		if err := p.removeReceipt(root, pkg.Name); err != nil {
			return Removal{}, err
		}
	}
	for name, loose := range unneeded(p, after) {
		if loose && !before[name] {
			removal.Unused = append(removal.Unused, name)
		}
	}
	slices.Sort(removal.Unused)
	return removal, discard.finish()
}

// unneeded are the packages that came as dependencies and that no package which
// somebody asked for leads to any more.
func unneeded(p Place, lock Lockfile) map[string]bool {
	loose := map[string]bool{}
	var queue []string
	roots := lock.Roots()
	for _, pkg := range lock.Packages {
		requested := slices.Contains(roots, pkg.Name)
		if r, ok := p.receipt(pkg.Name); ok {
			requested = r.Requested
		}
		loose[pkg.Name] = !requested
		if requested {
			queue = append(queue, pkg.Name)
		}
	}
	for len(queue) > 0 {
		pkg, _ := lock.Get(queue[0])
		queue = queue[1:]
		for _, dep := range pkg.Dependencies {
			if loose[dep] {
				loose[dep] = false
				queue = append(queue, dep)
			}
		}
	}
	return loose
}

// trash holds folders that are on their way out: a rename is done or not, where
// the removal of a tree can stop half-way.
const trash = "trash"

type discarded struct {
	root  *os.Root
	dir   string
	moved [][2]string // from, to
}

func (p Place) setAside(root *os.Root, packages []shared.LockedPackage) (discarded, error) {
	d := discarded{root: root, dir: path.Join(p.managed, trash, rand.Text())}
	if err := root.MkdirAll(d.dir, 0o700); err != nil {
		return d, storageError("make the folder "+filepath.Join(p.root, d.dir), err)
	}
	for _, pkg := range packages {
		from, to := path.Join(p.managed, "packages", pkg.Name), path.Join(d.dir, pkg.Name)
		err := root.Rename(from, to)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone already: then only the records are left to remove
		}
		if err != nil {
			return d, errors.Join(storageError("remove "+p.path(pkg.Name), err), d.undo())
		}
		d.moved = append(d.moved, [2]string{from, to})
	}
	return d, nil
}

func (d discarded) undo() error {
	var errs []error
	for _, move := range d.moved {
		errs = append(errs, d.root.Rename(move[1], move[0]))
	}
	return errors.Join(errs...)
}

// finish also clears what an interrupted removal has left.
func (d discarded) finish() error {
	return storageError("remove the set-aside folders in "+d.root.Name(), d.root.RemoveAll(path.Dir(d.dir)))
}
