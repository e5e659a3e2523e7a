//go:build !linux && !darwin

package store

// Free is how many bytes this user may still write to the disk; negative if that is not
// known.
func (s *Store) Free() int64 { return -1 }
