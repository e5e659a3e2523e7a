package popularity

import "time"

// SetClock lets a test pass the time.
func (b *Book) SetClock(now func() time.Time) { b.now = now }
