package image

import (
	"fmt"
	"io"
)

// A LostError says that a range of an image is lost: no read of it will do
// better, however small. It wraps the cause.
type LostError struct {
	Start, End int64 // bytes of the image; the read failed within them
	Err        error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("bytes %d-%d are lost: %v", e.Start, e.End-1, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// A LossFinder is an image that knows ranges of itself that are lost before they
// are read. They lie within its runs, and a read of them is a *LostError.
type LossFinder interface {
	// NextLost returns the bounds of the first lost range that ends behind off;
	// io.EOF where there is none. A range that begins before off is cut to begin
	// at off. The ranges are ascending and disjoint.
	NextLost(off int64) (start, end int64, err error)
}

// NextLost returns the next lost range of img, io.EOF where img is no LossFinder.
func NextLost(img Image, off int64) (start, end int64, err error) {
	if f, ok := img.(LossFinder); ok {
		return f.NextLost(off)
	}
	return 0, 0, io.EOF
}
