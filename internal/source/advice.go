package source

import (
	"e2qcow/image"
	"e2qcow/internal/storage"
)

// What a read asks of a device: so many of its largest requests as come to at
// least a megabyte, if that is not too much.
const (
	leastRequest = 1 << 20
	mostRequest  = 2 << 20
)

// The number of small reads at once on a device that does not rotate: it serves
// them in parallel. A rotating disk has one arm, which would move to and fro.
const solidDepth = 32

// adviseBy says how a device with that queue is best read, before anything has
// been measured.
func (s *Source) adviseBy(q storage.Queue) {
	s.advice = image.Advice{Request: requestOf(q.MaxRequest), Depth: solidDepth}
	s.meter = &meter{assumed: solid}
	if q.Rotational {
		s.advice.Depth = 1
		s.meter.assumed = rotational
	}
}

// requestOf returns the size of reads of a device that takes so many bytes at
// a time; where that is not known it is 0, and the reads those of a file.
func requestOf(most int64) int {
	most &^= page - 1
	if most <= 0 {
		return image.DefaultRequest
	}
	if most >= mostRequest {
		return mostRequest
	}
	return int((leastRequest + most - 1) / most * most)
}

// Advice returns how to read the source, by the measurements so far.
func (s *Source) Advice() image.Advice {
	if s.meter == nil {
		return image.AdviceOf(nil)
	}
	a := s.advice
	a.Bridge = min(max(s.meter.costs().bridge(), image.DefaultBridge), a.Request)
	return a
}

var _ image.Adviser = (*Source)(nil)
