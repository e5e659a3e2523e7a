package p2p

import (
	"sync"
	"sync/atomic"
	"time"
)

// traffic is what this peer has moved since it started.
type traffic struct {
	received, sent meter
	hits, misses   atomic.Int64 // packages that were wanted: here, or to be fetched
}

// window is what the rates are of, in seconds.
const window = 60

// meter counts bytes, and how many of them came in the last minute. The zero value is
// ready.
type meter struct {
	mu      sync.Mutex // guards the fields below
	total   int64
	seconds [window]int64 // bytes in each of the last seconds, by the second modulo 60
	last    int64         // the second that was counted last
	most    int64         // the most bytes of any minute, as far as it was looked at
}

func (m *meter) add(n int64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now.Unix())
	m.total += n
	m.seconds[now.Unix()%window] += n
	m.most = max(m.most, m.sum())
}

func (m *meter) sum() (sum int64) {
	for _, n := range m.seconds {
		sum += n
	}
	return sum
}

// best is the highest rate of a minute, in bytes a second.
func (m *meter) best() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return float64(m.most) / window
}

// forget clears the seconds since the last count.
func (m *meter) forget(second int64) {
	for at := max(m.last+1, second-window+1); at <= second; at++ {
		m.seconds[at%window] = 0
	}
	m.last = max(m.last, second)
}

// read gives all bytes, and bytes a second over the last minute.
func (m *meter) read(now time.Time) (total int64, rate float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now.Unix())
	return m.total, float64(m.sum()) / window
}
