package plugins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Install copies an engine into $GGEN_HOME/plugins, with its checksum and, if there
// is one, its signature, after it has checked all of them. sum, if it is not empty,
// is the engine's SHA-256 in hexadecimal digits; otherwise its .sha256 says. The
// engine is used from then on if it is the newest and plugins.lock allows it; what
// is returned says so, or why not.
//
// Errors: INVALID_ARGUMENT for a name or sum that is none, ENGINE_INVALID for an
// engine that is not what it should be, and those of [Find] and [Use].
func Install(ctx context.Context, s Search, file, sum string) (Candidate, error) {
	c, ok := parseName(filepath.Base(file))
	if !ok {
		return Candidate{}, shared.NewError(shared.ReasonInvalidArgument, "%s is not named like an engine", file).
			WithHint("engines are named ggen-engine-marketplace_v<version>_p<protocol>_<os>_<arch>, on Windows with .exe")
	}
	c.Path = file
	var err error
	if c.Digest, err = expectedSum(file, sum); err != nil {
		return Candidate{}, err
	}
	var installed Candidate
	err = locked(ctx, s, func() error {
		r, err := load(s)
		if err != nil {
			return err
		}
		if r.compareLocked(&c); c.standing == broken {
			return c.refusal()
		}
		old, err := r.used()
		if err != nil {
			return err
		}
		if err := r.copyIn(&c); err != nil {
			return err
		}
		if installed, err = r.at(filepath.Join(s.installed(), filepath.Base(file))); err != nil {
			return err
		}
		if !installed.Used || old.Path == "" || old.Version == installed.Version {
			return nil
		}
		return rewrite(s.Home, func(l *lockfile) error {
			l.choose(l.use, old.Version) // [Rollback] finds what this one has replaced
			return nil
		})
	})
	if err != nil {
		return Candidate{}, err
	}
	return installed, nil
}

func expectedSum(file, sum string) (shared.Digest, error) {
	if sum != "" {
		digest, err := parseSum(sum)
		if err != nil {
			return "", shared.NewError(shared.ReasonInvalidArgument, "%q is not a SHA-256", clip(sum)).WithHint("give its 64 hexadecimal digits")
		}
		return digest, nil
	}
	if _, err := os.Stat(file); err != nil {
		return "", shared.NewError(shared.ReasonInvalidArgument, "install an engine: %w", err)
	}
	digest, err := readChecksum(file)
	if err != nil {
		return "", shared.NewError(shared.ReasonEngineInvalid, "the engine %s cannot be installed: %w", file, err).
			WithHint("get the checksum from where you got the engine, or give it with --sha256; %s", fixChecksum(file)).With("path", file)
	}
	return digest, nil
}

// at is the candidate in a file.
func (r rules) at(path string) (Candidate, error) {
	found, err := r.find()
	if err != nil {
		return Candidate{}, err
	}
	i := slices.IndexFunc(found, func(c Candidate) bool { return c.Path == path })
	if i < 0 {
		return Candidate{}, shared.NewError(shared.ReasonStorage, "the engine %s has vanished again", path)
	}
	return found[i], nil
}

// copyIn puts an engine that hashes to c.Digest into the folder of installed ones.
// The engine itself comes last: nobody finds one without its checksum.
func (r rules) copyIn(c *Candidate) error {
	signature := r.keys.look(c.Path)
	if signature.why != "" {
		c.fail(signature.why, signature.fix)
		return c.refusal()
	}
	name := filepath.Base(c.Path)
	target := filepath.Join(r.search.installed(), name)
	if there, err := readChecksum(target); err == nil && there != c.Digest && exists(target) {
		c.fail(fmt.Sprintf("another file is installed as this version: %s is %s, and this one is %s", target, there, c.Digest),
			"if you want this one, remove the other first with `ggen marketplace plugin remove "+c.Version+"`")
		c.found, c.expected = c.Digest, there
		return c.refusal()
	}
	signatureText, err := readSmall(c.Path + signatureSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storageError("read the signature of "+c.Path, err)
	}
	from, err := openEngine(c.Path)
	if err != nil {
		return shared.NewError(shared.ReasonInvalidArgument, "install an engine: %w", err)
	}
	defer func() { _ = from.Close() }() // only read
	root, err := openFolder(r.search.installed())
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // only a handle
	return put(root, name, 0o755, func(to *os.File) error {
		found, authentic, err := hash(from, to, signature)
		switch {
		case err != nil:
			return err
		case found != c.Digest:
			c.differ(found)
		case r.keys.required() && !authentic:
			c.fail("its signature was not made for this file", installAgain)
		}
		if c.standing == broken {
			return c.refusal()
		}
		if err := replace(root, name+checksumSuffix, checksumLine(c.Digest, name), 0o644); err != nil {
			return err
		}
		if signatureText == nil {
			return gone(root.Remove(name + signatureSuffix))
		}
		return replace(root, name+signatureSuffix, signatureText, 0o644)
	})
}

// openFolder makes the folder of installed engines and clears what a process that
// died has left there. The caller holds the lock.
func openFolder(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, storageError("make "+dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, storageError("read "+dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, storageError("open "+dir, err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), temporaryPrefix) {
			_ = root.Remove(entry.Name()) // in nobody's way if it stays
		}
	}
	return root, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// gone is nil also if a file was not there to be removed.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Remove deletes a version from $GGEN_HOME/plugins, for every platform, with its
// small files, and returns the engines' paths. What plugins.lock knows about its
// digests stays. Errors: INVALID_ARGUMENT also for a version in use, NOT_FOUND,
// LOCKFILE, STORAGE, ENGINE_TIMEOUT, CANCELED, DEADLINE_EXCEEDED.
func Remove(ctx context.Context, s Search, version string) (removed []string, err error) {
	if version, err = parseVersion(version); err != nil {
		return nil, err
	}
	err = locked(ctx, s, func() error {
		r, err := load(s)
		if err != nil {
			return err
		}
		found, err := r.find()
		if err != nil {
			return err
		}
		elsewhere := false
		for _, c := range found {
			switch {
			case c.Version != version:
			case filepath.Dir(c.Path) != s.installed():
				elsewhere = true
			default:
				if err := r.inUse(c); err != nil {
					return err
				}
				removed = append(removed, c.Path)
			}
		}
		if len(removed) == 0 {
			return shared.NewError(shared.ReasonNotFound, "engine %s is not installed in %s", version, s.installed()).
				WithHint("`ggen marketplace plugin list` shows what is where; only what `plugin install` has put there can be removed")
		}
		if err := removeFiles(s.installed(), removed); err != nil || elsewhere || !slices.Contains(r.home.previous, version) {
			return err
		}
		return rewrite(s.Home, func(l *lockfile) error {
			l.previous = slices.DeleteFunc(l.previous, func(v string) bool { return v == version })
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return removed, nil
}

// inUse refuses to remove what commands would miss.
func (r rules) inUse(c Candidate) error {
	if c.Used || c.Version == r.home.use || c.Version == r.project.use {
		return shared.NewError(shared.ReasonInvalidArgument, "engine %s is in use", c.Version).
			WithHint("choose another one first with `ggen marketplace plugin use VERSION`").With("path", c.Path)
	}
	return nil
}

// removeFiles deletes engines, each before its checksum.
func removeFiles(dir string, paths []string) error {
	root, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // only a handle
	for _, path := range paths {
		for _, suffix := range []string{"", checksumSuffix, signatureSuffix} {
			if err := gone(root.Remove(filepath.Base(path) + suffix)); err != nil {
				return storageError("remove "+path+suffix, err)
			}
		}
	}
	return storageError("remove engines from "+dir, syncFolder(root))
}
