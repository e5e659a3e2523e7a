package store

import "go.etcd.io/bbolt"

// Charged is what counts against the quota.
func (s *Store) Charged() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.measure()
	return s.used, err
}

// OpenDBWith opens a database as an engine would whose schema is further steps on.
func OpenDBWith(path string, further ...func(*bbolt.Tx) error) (*DB, error) {
	steps := migrations
	for i, apply := range further {
		steps = append(steps[:len(steps):len(steps)], migration{from: SchemaVersion + i, apply: apply})
	}
	return openDB(path, steps)
}

// Inspect is what OpenDB does before it opens anything for writing.
func Inspect(path string) error { return inspect(path, migrations) }
