package plugins

import (
	"context"
	"path/filepath"
	"slices"

	"ggen.dev/marketplace/shared"
)

// Pinned is a version that a plugins.lock asks for, or no longer asks for.
type Pinned struct {
	Version   string   // empty: the lock file asked for none
	File      string   // the plugins.lock
	Platforms []string // of the digests that are recorded, such as linux_amd64; sorted
}

// lockFolder is where pins go: the project, or outside of one the home.
func (s Search) lockFolder() string {
	if s.Project != "" {
		return s.Project
	}
	return s.Home
}

// Pin makes the version that is used now the one that the project's plugins.lock,
// or outside of a project the home's, asks for, and records the digests of all
// files of that version, for whichever platform, that are found and have a checksum
// file. Each of them is verified. In a project the caller keeps other commands out
// of it.
//
// Errors: INVALID_ARGUMENT for the engine of [DevVariable], and those of [Choose].
func Pin(ctx context.Context, s Search) (Pinned, error) {
	pinned := Pinned{File: filepath.Join(s.lockFolder(), LockfileName)}
	err := locked(ctx, s, func() error {
		r, err := load(s)
		if err != nil {
			return err
		}
		found, err := r.find()
		if err != nil {
			return err
		}
		used, err := r.first(found)
		if err != nil {
			return err
		}
		if used.Development() {
			return shared.NewError(shared.ReasonInvalidArgument, "the engine of %s has no version that could be pinned", DevVariable).
				WithHint("unset %s first", DevVariable)
		}
		pinned.Version = used.Version
		same, err := r.verifiedFiles(found, used.Version)
		if err != nil {
			return err
		}
		return rewrite(s.lockFolder(), func(l *lockfile) error {
			l.use = used.Version
			for _, c := range same {
				l.add(c)
				pinned.Platforms = append(pinned.Platforms, c.platform())
			}
			return nil
		})
	})
	if err != nil {
		return Pinned{}, err
	}
	slices.Sort(pinned.Platforms)
	return pinned, nil
}

// verifiedFiles are the files of a version that have a checksum, one for each
// platform: that in the earliest place.
func (r rules) verifiedFiles(found []Candidate, version string) ([]Candidate, error) {
	var files []Candidate
	for _, c := range found {
		known := slices.ContainsFunc(files, func(f Candidate) bool { return f.platform() == c.platform() })
		if c.Version != version || c.Digest == "" || known {
			continue
		}
		if r.inspect(&c); c.standing != broken {
			r.verify(&c, false)
		}
		if c.standing == broken {
			return nil, c.refusal()
		}
		files = append(files, c)
	}
	return files, nil
}

// Unpin makes the project's plugins.lock, or outside of a project the home's, ask
// for no version. The digests stay. Errors: LOCKFILE, STORAGE, ENGINE_TIMEOUT,
// CANCELED, DEADLINE_EXCEEDED.
func Unpin(ctx context.Context, s Search) (Pinned, error) {
	pinned := Pinned{File: filepath.Join(s.lockFolder(), LockfileName)}
	before, err := readLockfile(s.lockFolder())
	if err != nil || before.use == "" {
		return pinned, err
	}
	err = change(ctx, s, s.lockFolder(), func(l *lockfile) error {
		pinned.Version, l.use = l.use, ""
		return nil
	})
	return pinned, err
}
