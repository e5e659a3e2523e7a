package reputation

import "time"

// Reliability is a part of the score, for tests of its law.
var Reliability = reliability

// SetClock gives a book another clock.
func (k *Book) SetClock(now func() time.Time) { k.now = now }
