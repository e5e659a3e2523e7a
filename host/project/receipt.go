package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"

	"ggen.dev/marketplace/shared"
)

// receiptFormat is the version of a receipt's document.
const receiptFormat = 1

// maxReceipt bounds a receipt, in bytes. A description has at most some kilobytes.
const maxReceipt = 64 << 10

// Receipt is what an install leaves beside ggen.lock for people: lists show it, and
// nothing depends on it. Titles and descriptions came from the publisher: clean
// them before printing.
type Receipt struct {
	Format      int                `json:"format"`
	Name        string             `json:"name"`
	Version     string             `json:"version"`
	Publisher   shared.PublisherID `json:"publisher"`
	Digest      shared.Digest      `json:"digest"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Requested   bool               `json:"requested"` // by a person, not as a dependency
}

// ParseReceipt reads a receipt; the name is the one it was filed under. A document
// that is damaged, too large or of another package is refused.
func ParseReceipt(name string, data []byte) (Receipt, error) {
	if len(data) > maxReceipt {
		return Receipt{}, errors.New("it is too large")
	}
	var r Receipt
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&r); err != nil {
		return Receipt{}, err
	}
	if r.Format != receiptFormat || r.Name != name {
		return Receipt{}, errors.New("it is no receipt of this package")
	}
	return r, nil
}

// Installed is a package of ggen.lock together with its receipt.
type Installed struct {
	shared.LockedPackage
	Title       string
	Description string
	Requested   bool
	Path        string // absolute
	Present     bool   // its folder exists
}

// List tells what is installed, by ggen.lock. Receipts only decorate: one that is
// missing, damaged or of another version counts for nothing, and then a package is
// taken for requested when no other one needs it. Errors: LOCKFILE, STORAGE.
func (p Place) List() ([]Installed, error) {
	lock, err := p.ReadLockfile()
	if err != nil {
		return nil, err
	}
	roots := map[string]bool{}
	for _, name := range lock.Roots() {
		roots[name] = true
	}
	installed := make([]Installed, 0, len(lock.Packages))
	for _, pkg := range lock.Packages {
		entry := Installed{
			LockedPackage: pkg, Requested: roots[pkg.Name],
			Path: p.path(pkg.Name), Present: p.Present(pkg.Name),
		}
		if r, ok := p.receipt(pkg.Name); ok && r.Digest == pkg.Digest {
			entry.Title, entry.Description, entry.Requested = r.Title, r.Description, r.Requested
		}
		installed = append(installed, entry)
	}
	return installed, nil
}

func (p Place) receipt(name string) (Receipt, bool) {
	data, err := p.read(p.receiptFile(name), maxReceipt)
	if err != nil || data == nil {
		return Receipt{}, false
	}
	r, err := ParseReceipt(name, data)
	return r, err == nil
}

// receiptFile is relative to the root, with slashes.
func (p Place) receiptFile(name string) string {
	return path.Join(p.managed, "receipts", name+".json")
}

func (p Place) writeReceipt(root *os.Root, r Receipt) error {
	r.Format = receiptFormat
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := root.MkdirAll(path.Join(p.managed, "receipts"), 0o755); err != nil {
		return storageError("make the folder for receipts in "+p.root, err)
	}
	return replace(root, p.receiptFile(r.Name), append(data, '\n'), 0o644)
}

func (p Place) removeReceipt(root *os.Root, name string) error {
	if err := root.Remove(p.receiptFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storageError("remove the receipt of "+name, err)
	}
	return nil
}
