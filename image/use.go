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

// A UseReader is a reader that does better when it knows the use.
type UseReader interface {
	ReadFor(p []byte, off int64, use Use) (int, error)
}

// ReadFor reads from r as io.ReaderAt does, and tells it the use if it wants
// to know.
func ReadFor(r io.ReaderAt, p []byte, off int64, use Use) (int, error) {
	if u, ok := r.(UseReader); ok {
		return u.ReadFor(p, off, use)
	}
	return r.ReadAt(p, off)
}
