package plugins

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Choice is what plugins.lock of the home says about which version is used.
type Choice struct {
	Use      string   // the only version that may be used; empty: any
	Previous []string // that were used before, newest last, at most 10
	known    []string // versions whose files had been recorded
}

// Change is a choice that was made.
type Change struct {
	Old    Candidate // that was used before; no Path if none could be
	New    Candidate
	Former Choice // for [Restore]
}

// Use makes version, exactly as in the file's name, the only one that is used, and
// remembers the one that was. The engine is verified first, but one whose protocols
// are unknown is let pass: the caller asks it, replaces a running engine by it, and
// undoes the choice with [Restore] if either fails.
//
// Errors: INVALID_ARGUMENT, ENGINE_NOT_FOUND, ENGINE_INVALID, ENGINE_PROTOCOL,
// LOCKFILE also when the project decides, STORAGE, ENGINE_TIMEOUT, CANCELED,
// DEADLINE_EXCEEDED.
func Use(ctx context.Context, s Search, version string) (Change, error) {
	version, err := parseVersion(version)
	if err != nil {
		return Change{}, err
	}
	return choose(ctx, s, func(l *lockfile, old Candidate) error {
		l.choose(version, old.Version)
		return nil
	})
}

// Rollback goes back to the version that was used before. Errors: NOT_FOUND when
// there is none, and those of [Use].
func Rollback(ctx context.Context, s Search) (Change, error) {
	return choose(ctx, s, func(l *lockfile, _ Candidate) error {
		last := len(l.previous) - 1
		if last < 0 {
			return shared.NewError(shared.ReasonNotFound, "there is no version to go back to: %s knows of none that was used before", filepath.Join(s.Home, LockfileName)).
				WithHint("choose one with `ggen marketplace plugin use VERSION`")
		}
		l.use, l.previous = l.previous[last], l.previous[:last]
		return nil
	})
}

func parseVersion(text string) (string, error) {
	version := strings.TrimPrefix(text, "v")
	if !validVersion(version) {
		return "", shared.NewError(shared.ReasonInvalidArgument, "%q is not a version", clip(text)).
			WithHint("versions look like 1.2.3; `ggen marketplace plugin list` shows those that are there")
	}
	return version, nil
}

// choose changes the home's choice if an engine can be used then.
func choose(ctx context.Context, s Search, pick func(l *lockfile, old Candidate) error) (Change, error) {
	var done Change
	err := locked(ctx, s, func() error {
		r, err := load(s)
		if err != nil {
			return err
		}
		if err := r.homeDecides(); err != nil {
			return err
		}
		if done.Old, err = r.used(); err != nil {
			return err
		}
		done.Former = Choice{Use: r.home.use, Previous: slices.Clone(r.home.previous), known: r.home.versions()}
		if err := pick(&r.home, done.Old); err != nil {
			return err
		}
		if done.New, err = r.only(r.home.use); err != nil {
			return err
		}
		if r.verify(&done.New, false); done.New.standing == broken {
			return done.New.refusal()
		}
		return rewrite(s.Home, func(l *lockfile) error {
			l.use, l.previous = r.home.use, r.home.previous
			return nil
		})
	})
	if err != nil {
		return Change{}, err
	}
	return done, nil
}

// homeDecides refuses to change a choice of the home that would have no effect here.
func (r rules) homeDecides() error {
	if os.Getenv(DevVariable) != "" {
		return shared.NewError(shared.ReasonInvalidArgument, "%s names the engine to use, whatever %s says", DevVariable, LockfileName).
			WithHint("unset %s first", DevVariable)
	}
	if r.project.use != "" {
		return shared.NewError(shared.ReasonLockfile, "%s asks for engine %s, whatever the home says", filepath.Join(r.search.Project, LockfileName), r.project.use).
			WithHint("run `ggen marketplace plugin pin --remove` first, or leave the project")
	}
	return nil
}

// used is the candidate that is used now; it has no path if there is none.
func (r rules) used() (Candidate, error) {
	found, err := r.find()
	if err != nil || len(found) == 0 || !found[0].Used {
		return Candidate{}, err
	}
	return found[0], nil
}

// only is the candidate that is used when only this version may be.
func (r rules) only(version string) (Candidate, error) {
	found, err := r.find()
	if err != nil {
		return Candidate{}, err
	}
	i := versionHere(found, version)
	switch {
	case i < 0:
		return Candidate{}, shared.NewError(shared.ReasonEngineNotFound, "there is no engine %s for this platform in %s", version, r.search.where()).
			WithHint("`ggen marketplace plugin install FILE` puts one into %s", r.search.installed())
	case !found[i].Used && found[i].standing != unknown:
		return Candidate{}, found[i].refusal()
	}
	return found[i], nil
}

// Restore sets the home's choice back to a former one, whatever it is now. Errors:
// LOCKFILE, STORAGE, ENGINE_TIMEOUT, CANCELED, DEADLINE_EXCEEDED.
func Restore(ctx context.Context, s Search, former Choice) error {
	return change(ctx, s, s.Home, func(l *lockfile) error {
		failed := l.use
		l.use, l.previous = former.Use, former.Previous
		// A file that did not work is not held against the one that is put in its place.
		l.engines = slices.DeleteFunc(l.engines, func(e lockedEngine) bool {
			return e.version == failed && !slices.Contains(former.known, e.version)
		})
		return nil
	})
}
