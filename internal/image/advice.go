package image

import "io"

// A Use says what comes after a read.
type Use uint8

// The uses of what is read.
const (
	Again Use = iota // it will be asked for once more
	Last             // it was read before as Again, and is not needed after this
	Once             // it was not read before, and is not needed after this
)

// An Adviser is a reader that does better when it knows the use.
type Adviser interface {
	ReadFor(p []byte, off int64, use Use) (int, error)
}

// ReadFor reads from r as io.ReaderAt does, and tells it the use if it wants
// to know.
func ReadFor(r io.ReaderAt, p []byte, off int64, use Use) (int, error) {
	if a, ok := r.(Adviser); ok {
		return a.ReadFor(p, off, use)
	}
	return r.ReadAt(p, off)
}

// DefaultRequest is how many bytes one read should ask for where the reader
// does not say.
const DefaultRequest = 1 << 20

// RequestSize returns how many bytes one read from r should ask for at most:
// what r says by a method of that name.
func RequestSize(r io.ReaderAt) int {
	if s, ok := r.(interface{ RequestSize() int }); ok {
		return s.RequestSize()
	}
	return DefaultRequest
}

// DefaultBridge is the longest gap that is read through where the reader does
// not say: a request costs more than so many bytes even where nothing has to
// seek.
const DefaultBridge = 32 << 10

// Bridge returns how many bytes that nobody wants cost no more to read than a
// request does: what r says by a method of that name.
func Bridge(r io.ReaderAt) int {
	if b, ok := r.(interface{ Bridge() int }); ok {
		return b.Bridge()
	}
	return DefaultBridge
}
