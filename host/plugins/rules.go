package plugins

import (
	"fmt"
	"path/filepath"

	"ggen.dev/marketplace/shared"
)

// rules are what candidates are judged by: what was asked for and what is known.
type rules struct {
	search        Search
	home, project lockfile // the project's is empty outside of one
	keys          keyring
}

func load(s Search) (rules, error) {
	r := rules{search: s}
	var err error
	if r.home, err = readLockfile(s.Home); err != nil {
		return rules{}, err
	}
	if s.Project != "" {
		if r.project, err = readLockfile(s.Project); err != nil {
			return rules{}, err
		}
	}
	r.keys, err = loadKeys(s.Home)
	return r, err
}

// wanted is the only version that may be used, and who says so. A project goes
// before the home. Empty means any.
func (r rules) wanted() (version, by string) {
	if r.project.use != "" {
		return r.project.use, "the project's " + LockfileName
	}
	return r.home.use, LockfileName
}

// locks are the lock files that digests are compared with.
func (r rules) locks() []namedLock {
	locks := []namedLock{{filepath.Join(r.search.Home, LockfileName), r.home}}
	if r.search.Project != "" {
		locks = append(locks, namedLock{filepath.Join(r.search.Project, LockfileName), r.project})
	}
	return locks
}

type namedLock struct {
	file string
	lockfile
}

// compareLocked fails a candidate whose version is known with another protocol or
// another digest. A checksum that matches the file is no excuse: whoever changes
// the one can change the other.
func (r rules) compareLocked(c *Candidate) {
	for _, lock := range r.locks() {
		why, expected := lock.contradicts(*c)
		if why == "" {
			continue
		}
		c.fail(fmt.Sprintf("%s, as %s says", why, lock.file),
			fmt.Sprintf("a released version never changes: install it again from where you trust it; if you know why it changed, delete the [[engine]] entry of %s in %s; if you build engines yourself, name yours in %s", c.Version, lock.file, DevVariable))
		if expected != "" {
			c.found, c.expected = c.Digest, expected
		}
		return
	}
}

// contradicts says how a file differs from what is known of its version; expected
// is empty unless the digest is what differs.
func (l *lockfile) contradicts(c Candidate) (why string, expected shared.Digest) {
	known := l.engine(c.Version)
	if known == nil {
		return "", ""
	}
	if known.protocol != c.Protocol {
		return fmt.Sprintf("its name says protocol %d, and version %s has protocol %d", c.Protocol, c.Version, known.protocol), ""
	}
	if want := known.digests[c.platform()]; want != "" && want != c.Digest {
		return fmt.Sprintf("it is %s, and version %s is %s", c.Digest, c.Version, want), want
	}
	return "", ""
}
