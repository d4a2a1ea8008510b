package source

import (
	"e2qcow/internal/image"
	"e2qcow/internal/storage"
)

// What a read asks of a device: so many of its largest requests as come to at
// least a megabyte, if that is not too much.
const (
	leastRequest = 1 << 20
	mostRequest  = 2 << 20
)

// What a request costs, in bytes that could be read meanwhile. A disk that
// turns needs 8 ms to seek and reads 150 MB a second; what does not turn
// answers in 0.1 ms and reads 1.2 GB a second.
const (
	seekBytes   = 1 << 20
	answerBytes = 128 << 10
)

// How many small reads are asked for at once of what does not turn: it works on
// them side by side. A disk that turns has one arm, which would go to and fro.
const solidDepth = 32

// adviceOf says how a device with that queue is best read.
func adviceOf(q storage.Queue) image.Advice {
	a := image.Advice{Request: requestOf(q.MaxRequest), Bridge: answerBytes, Depth: solidDepth}
	if q.Rotational {
		a.Bridge, a.Depth = seekBytes, 1
	}
	return a
}

// requestOf returns the size of reads of a device that takes so many bytes at
// a time, 0 if that is not known.
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

// Advice returns how the source is best read.
func (s *Source) Advice() image.Advice {
	if s.advice == (image.Advice{}) {
		return image.AdviceOf(nil)
	}
	return s.advice
}

var _ image.Adviser = (*Source)(nil)
