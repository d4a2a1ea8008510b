package testfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// step is how much of two files is compared at a time.
const step = 64 << 10

// A sparse is a file whose holes are skipped.
type sparse struct {
	*os.File
	size int64
}

func openSparse(t testing.TB, path string) sparse {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return sparse{f, info.Size()}
}

// next returns where data is at or after off; the size, if there is none.
func (s sparse) next(t testing.TB, off int64) int64 {
	t.Helper()
	at, err := s.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return s.size
	}
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// at fills b with the bytes at off, zeros behind the end.
func (s sparse) at(t testing.TB, b []byte, off int64) {
	t.Helper()
	n, err := s.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	clear(b[n:])
}

// Size returns the length of a file in bytes.
func Size(t testing.TB, path string) int64 {
	t.Helper()
	return openSparse(t, path).size
}

// walk calls f with pieces of both files, of equal length, wherever one of
// them has data, until it returns false. What both have as a hole is skipped.
func walk(t testing.TB, a, b string, f func(off int64, a, b []byte) bool) {
	t.Helper()
	fa, fb := openSparse(t, a), openSparse(t, b)
	ba, bb := make([]byte, step), make([]byte, step)
	for off := int64(0); ; off += step {
		na, nb := fa.next(t, off), fb.next(t, off)
		if na == fa.size && nb == fb.size {
			return
		}
		if na == fa.size || nb < na && nb != fb.size {
			na = nb
		}
		off = na / step * step
		fa.at(t, ba, off)
		fb.at(t, bb, off)
		if !f(off, ba, bb) {
			return
		}
	}
}

// Difference returns the offset of the first byte that differs in the files,
// the length of the shorter where only that differs, and -1 where nothing does.
func Difference(t testing.TB, a, b string) int64 {
	t.Helper()
	first := int64(-1)
	walk(t, a, b, func(off int64, pa, pb []byte) bool {
		if bytes.Equal(pa, pb) {
			return true
		}
		i := 0
		for pa[i] == pb[i] {
			i++
		}
		first = off + int64(i)
		return false
	})
	if sa, sb := Size(t, a), Size(t, b); first < 0 && sa != sb {
		return min(sa, sb)
	}
	return first
}

// Missing returns the numbers of the blocks that are not zero in the file
// part and differ in whole, 10 of them at most.
func Missing(t testing.TB, part, whole string, blockSize int64) []int64 {
	t.Helper()
	var missing []int64
	zero := make([]byte, blockSize)
	walk(t, part, whole, func(off int64, p, w []byte) bool {
		for i := int64(0); i < step; i += blockSize {
			block := p[i : i+blockSize]
			if !bytes.Equal(block, zero) && !bytes.Equal(block, w[i:i+blockSize]) {
				missing = append(missing, (off+i)/blockSize)
			}
		}
		return len(missing) < 10
	})
	return missing
}

// Unlike returns those of the ranges in which the files differ.
func Unlike(t testing.TB, a, b string, ranges []Range) []Range {
	t.Helper()
	fa, fb := openSparse(t, a), openSparse(t, b)
	var unlike []Range
	for _, r := range ranges {
		pa, pb := make([]byte, r.End-r.Start), make([]byte, r.End-r.Start)
		fa.at(t, pa, r.Start)
		fb.at(t, pb, r.Start)
		if !bytes.Equal(pa, pb) {
			unlike = append(unlike, r)
		}
	}
	return unlike
}

// Canaries returns the offsets at which file contents are found, one for
// each 512 bytes that hold any.
func Canaries(t testing.TB, path string) []int64 {
	t.Helper()
	f := openSparse(t, path)
	buf := make([]byte, step+len(Canary))
	var found []int64
	for off := int64(0); ; off += step {
		if off = f.next(t, off); off == f.size {
			return found
		}
		off = off / step * step
		f.at(t, buf, off)
		for i := 0; i < step; {
			n := bytes.Index(buf[i:], []byte(Canary))
			if n < 0 || i+n >= step {
				break
			}
			found = append(found, off+int64(i+n))
			i = (i+n)/512*512 + 512
		}
	}
}
