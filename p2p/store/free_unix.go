//go:build linux || darwin

package store

import "golang.org/x/sys/unix"

// Free is how many bytes this user may still write to the disk; negative if that is not
// known.
func (s *Store) Free() int64 {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return -1
	}
	return int64(uint64(fs.Bavail) * uint64(fs.Bsize)) //nolint:unconvert // their types differ between systems
}
