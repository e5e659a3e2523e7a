package archive

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"time"
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

// leftover is a hidden sibling of a place.
type leftover struct{ name, kind string }

var hiddenName = regexp.MustCompile(`^\.(.+)\.(` + incoming + `|` + previous + `|` + trash + `)[0-9a-f]{16}$`)

// leftovers lists the hidden siblings of all places in the root, by place.
func leftovers(root *os.Root) (map[string][]leftover, error) {
	siblings, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	found := map[string][]leftover{}
	for _, s := range siblings {
		if m := hiddenName.FindStringSubmatch(s.Name()); m != nil {
			found[m[1]] = append(found[m[1]], leftover{name: s.Name(), kind: m[2]})
		}
	}
	return found, nil
}

// recover undoes what a crash interrupted: a folder that was moved aside, and
// whose successor never came, goes back; all other leftovers go.
func (p *place) recover(left []leftover) error {
	for _, l := range left {
		if _, err := p.root.Lstat(p.name); l.kind == previous && errors.Is(err, fs.ErrNotExist) {
			if err := p.root.Rename(l.name, p.name); err != nil {
				return err
			}
			continue
		}
		if err := p.remove(l.name); err != nil {
			return err
		}
	}
	return nil
}

// abandonedAge is how long nothing must have come to a leftover of another place
// before it may be taken for abandoned. Unpacking takes seconds.
const abandonedAge = time.Hour

// sweep recovers places that nobody unpacks to. It is a favour to others: what
// cannot be swept now stays for the next time.
func sweep(root *os.Root, left map[string][]leftover) {
	for name, siblings := range left {
		if !slices.ContainsFunc(siblings, func(l leftover) bool { return inUse(root, l) }) {
			_ = (&place{root: root, name: name}).recover(siblings)
		}
	}
}

// inUse tells whether somebody may still work on a leftover. Who fills a folder
// holds its lock until it is in place; the age bridges the moment before the lock,
// and stands for it where folders cannot be locked. A folder that was moved aside
// is as old as its contents and nobody's: it belongs to who fills its successor.
func inUse(root *os.Root, l leftover) bool {
	if l.kind == previous {
		return false
	}
	info, err := root.Lstat(l.name)
	if err != nil || time.Since(info.ModTime()) < abandonedAge {
		return true
	}
	unlock, err := lockFolder(root, l.name)
	if err != nil {
		return true
	}
	unlock()
	return false
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
