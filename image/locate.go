package image

import (
	"io"
	"syscall"
)

// A File is a file of the operating system, such as an *os.File.
type File interface {
	// SyscallConn gives access to its descriptor.
	SyscallConn() (syscall.RawConn, error)
}

// A Locator is an image, or a reader of one, that knows which of its bytes lie in
// a file as they are. A sink may then share the blocks of that file.
type Locator interface {
	// Locate says where the bytes of the image from off on lie: the first n of
	// them, at most limit, begin at byte at of f. If f is nil, the first n bytes
	// are in no file, or not as a read returns them. read says that the caller has
	// read the bytes: some images learn only by that which bytes they lack, and
	// locate nothing before.
	Locate(off, limit int64, read bool) (f File, at, n int64)
}

// Locate locates bytes of r as Locator says. It returns no file if r is no
// Locator.
func Locate(r io.ReaderAt, off, limit int64, read bool) (f File, at, n int64) {
	if l, ok := r.(Locator); ok {
		return l.Locate(off, limit, read)
	}
	return nil, 0, limit
}
