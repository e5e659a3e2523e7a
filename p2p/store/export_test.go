package store

// Charged is what counts against the quota.
func (s *Store) Charged() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.measure()
	return s.used, err
}
