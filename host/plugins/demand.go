package plugins

import (
	"os"
	"path/filepath"
)

// Demand is what an engine that runs already has to be, so that it may be used here.
type Demand struct {
	Development string // the file that [DevVariable] names; empty if it is not set
	Version     string // the only version that may be used; empty for any
	By          string // who says so, for people
}

// Demanded reads the lock files, which is all that may have changed for an engine that
// was verified when it was started. Errors: LOCKFILE, STORAGE.
func Demanded(s Search) (Demand, error) {
	if dev := os.Getenv(DevVariable); dev != "" {
		path, err := filepath.Abs(dev)
		if err != nil {
			path = dev
		}
		return Demand{Development: path, By: DevVariable}, nil
	}
	r := rules{search: s}
	var err error
	if r.home, err = readLockfile(s.Home); err != nil {
		return Demand{}, err
	}
	if s.Project != "" {
		if r.project, err = readLockfile(s.Project); err != nil {
			return Demand{}, err
		}
	}
	version, by := r.wanted()
	return Demand{Version: version, By: by}, nil
}
