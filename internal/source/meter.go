package source

import (
	"sync"
	"time"
)

// The costs of a device are the time of a request, however short, and the time
// for each byte of a long request, in seconds.
type costs struct {
	request, byte float64
}

// The costs that are assumed before a measurement: a rotating disk seeks in 8
// ms and reads 150 MB a second; other devices answer in 0.1 ms and read 1.2 GB
// a second.
var (
	rotational = costs{8e-3, 1 / 150e6}
	solid      = costs{1e-4, 1 / 1.2e9}
)

// bridge returns how many bytes take as long to read as one more request.
func (c costs) bridge() int { return int(c.request / c.byte) }

// A meter measures the costs of a device by its reads. The properties in sysfs
// say little about a disk behind a network, or about one with limited requests.
type meter struct {
	assumed costs

	mu    sync.Mutex
	last  time.Time // when the last read ended
	small sample
	large sample
}

// A sample sums up reads of one size.
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

// costs returns the measured costs, or else the assumed ones. The whole time of
// large reads counts as the time of their bytes, so that gaps are read through
// only if that is fast.
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
