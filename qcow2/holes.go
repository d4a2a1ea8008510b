package qcow2

import "io"

// holes find the bytes of a file that are not zero, as lseek with SEEK_DATA
// does. They are those of a reader that has NextRun, as an image.Image has; of
// any other there are none.
type holes interface {
	NextRun(off int64) (start, end int64, err error)
}

func holesOf(r io.ReaderAt) holes {
	h, _ := r.(holes)
	return h
}

// holeIn reports whether the n bytes of the file from off on are known to be a
// hole: tables of a sparse file may be as long as the file says.
func holeIn(h holes, off, n int64) bool {
	if h == nil {
		return false
	}
	start, _, err := h.NextRun(off)
	return err == nil && start-off >= n || err == io.EOF
}
