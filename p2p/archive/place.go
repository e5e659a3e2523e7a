package archive

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
)

// place is a folder that is replaced as a whole, and its hidden siblings. All of
// them lie in root, so that every step is one rename.
type place struct {
	root *os.Root
	name string
}

// Kinds of hidden siblings, part of their names.
const (
	incoming = "new-"  // being filled
	previous = "old-"  // moved aside until the new one stands
	trash    = "gone-" // being removed
)

// hidden is a name beside the place that nobody else uses.
func (p *place) hidden(kind string) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return "." + p.name + "." + kind + hex.EncodeToString(random[:])
}

// kindOf tells what a sibling is; empty for what is not ours.
func (p *place) kindOf(sibling string) string {
	rest, ours := strings.CutPrefix(sibling, "."+p.name+".")
	if !ours {
		return ""
	}
	for _, kind := range []string{incoming, previous, trash} {
		if random, ok := strings.CutPrefix(rest, kind); ok {
			if raw, err := hex.DecodeString(random); err == nil && len(raw) == 8 {
				return kind
			}
		}
	}
	return ""
}

// recover undoes what a crash interrupted: a folder that was moved aside, and
// whose successor never came, goes back; all other leftovers go.
func (p *place) recover() error {
	siblings, err := fs.ReadDir(p.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, s := range siblings {
		kind := p.kindOf(s.Name())
		if kind == "" {
			continue
		}
		if _, err := p.root.Lstat(p.name); kind == previous && errors.Is(err, fs.ErrNotExist) {
			if err := p.root.Rename(s.Name(), p.name); err != nil {
				return err
			}
			continue
		}
		if err := p.remove(s.Name()); err != nil {
			return err
		}
	}
	return nil
}

// remove takes a sibling away. The rename comes first: should somebody still
// work on it against the rules, their next rename fails, and no half-removed
// folder can end up in the place.
func (p *place) remove(sibling string) error {
	gone := p.hidden(trash)
	if err := p.root.Rename(sibling, gone); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return p.root.RemoveAll(gone)
}

// swap puts the sibling in the place. Between the two renames of a replacement a
// crash leaves the old folder under its hidden name only; recover puts it back.
func (p *place) swap(sibling string) error {
	old := p.hidden(previous)
	err := p.root.Rename(p.name, old)
	replaced := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.root.Rename(sibling, p.name); err != nil {
		if replaced {
			err = errors.Join(err, p.root.Rename(old, p.name))
		}
		return err
	}
	if err := syncFolder(p.root, "."); err != nil {
		return err
	}
	if replaced {
		return p.remove(old)
	}
	return nil
}
