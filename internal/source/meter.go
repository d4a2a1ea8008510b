package source

import (
	"sync"
	"time"
)

// The costs of a device are what a request takes, however few bytes it is of,
// and what each byte of a long one takes, in seconds.
type costs struct {
	request, byte float64
}

// What is assumed until it has been measured: a disk that turns seeks in 8 ms
// and reads 150 MB a second, what does not turn answers in 0.1 ms and reads
// 1.2 GB a second.
var (
	rotational = costs{8e-3, 1 / 150e6}
	solid      = costs{1e-4, 1 / 1.2e9}
)

// bridge returns how many bytes take as long to read as one more request.
func (c costs) bridge() int { return int(c.request / c.byte) }

// A meter measures the costs of a device by the reads of it. What a disk says
// of itself tells little of one behind a network, or of one whose requests are
// rationed.
type meter struct {
	assumed costs

	mu    sync.Mutex
	last  time.Time // when the last read ended
	small sample
	large sample
}

// A sample is what reads of one size came to.
type sample struct {
	reads, bytes int64
	busy         time.Duration // time in which at least one was under way
}

const (
	smallSample = 128 << 10 // the longest read whose length does not matter
	largeSample = 512 << 10 // the shortest whose number does not
	leastReads  = 32        // small ones that are believed
	leastBytes  = 16 << 20  // of large ones

	// fromCache is how soon a small read ends that no device was asked for.
	fromCache = 30 * time.Microsecond
)

// note counts a read of so many bytes.
func (m *meter) note(bytes int64, start, end time.Time) {
	if end.Sub(start) < fromCache {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if start.Before(m.last) {
		start = m.last
	}
	busy := max(end.Sub(start), 0)
	if end.After(m.last) {
		m.last = end
	}
	switch {
	case bytes <= smallSample:
		m.small.add(bytes, busy)
	case bytes >= largeSample:
		m.large.add(bytes, busy)
	}
}

func (s *sample) add(bytes int64, busy time.Duration) {
	s.reads++
	s.bytes += bytes
	s.busy += busy
}

// costs returns what has been measured, else what is assumed. The time of large
// reads is taken for that of their bytes, so that no more is read through gaps
// than comes as fast as the rest.
func (m *meter) costs() costs {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.assumed
	if m.small.reads >= leastReads && m.small.busy > 0 {
		c.request = m.small.busy.Seconds() / float64(m.small.reads)
	}
	if m.large.bytes >= leastBytes && m.large.busy > 0 {
		c.byte = m.large.busy.Seconds() / float64(m.large.bytes)
	}
	return c
}
