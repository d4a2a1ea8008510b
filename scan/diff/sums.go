package diff

import (
	"errors"
	"hash/maphash"
	"io"
	"sync"

	"e2qcow/ext"
	"e2qcow/image"
)

// sums holds a checksum of each unit of bytes that a scan has read. The hash is
// seeded anew for each comparison: nobody can make two blocks that have the
// same one, and by chance 2⁻⁶⁴ of all pairs do.
type sums struct {
	unit int64 // bytes
	seed maphash.Seed

	mu    sync.Mutex
	pages map[uint64]*sumPage
}

// A sumPage has the sums of sumsPerPage units that follow each other.
type sumPage struct {
	have uint32
	sum  [sumsPerPage]uint64
}

const (
	sumsPerPage = 32

	// maxSumPages bounds the memory of the sums of one image to 18 MB. What has
	// none is read again.
	maxSumPages = 1 << 16
)

func newSums(unit int64) *sums {
	return &sums{unit: unit, seed: maphash.MakeSeed(), pages: make(map[uint64]*sumPage)}
}

// fork returns empty sums that can be compared with s.
func (s *sums) fork() *sums {
	return &sums{unit: s.unit, seed: s.seed, pages: make(map[uint64]*sumPage)}
}

// note takes in what was read from off.
func (s *sums) note(p []byte, off int64) {
	if skip := (s.unit - off%s.unit) % s.unit; skip < int64(len(p)) {
		p, off = p[skip:], off+skip
	} else {
		return
	}
	for int64(len(p)) >= s.unit {
		var page sumPage
		n := uint64(off / s.unit)
		number := n / sumsPerPage
		for ; int64(len(p)) >= s.unit && n/sumsPerPage == number; n++ {
			i := n % sumsPerPage
			page.sum[i] = maphash.Bytes(s.seed, p[:s.unit])
			page.have |= 1 << i
			p, off = p[s.unit:], off+s.unit
		}
		s.merge(number, &page)
	}
}

func (s *sums) merge(number uint64, page *sumPage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pages[number]
	if p == nil {
		if len(s.pages) == maxSumPages {
			return
		}
		p = new(sumPage)
		s.pages[number] = p
	}
	for i := range p.sum {
		if page.have>>i&1 != 0 {
			p.sum[i] = page.sum[i]
		}
	}
	p.have |= page.have
}

// get returns the sum of a unit, and whether there is one.
func (s *sums) get(n uint64) (uint64, bool) {
	p := s.pages[n/sumsPerPage]
	if p == nil || p.have>>(n%sumsPerPage)&1 == 0 {
		return 0, false
	}
	return p.sum[n%sumsPerPage], true
}

// compareSums compares the bytes [start, end) of two images by their sums.
// known is false where they do not tell.
func compareSums(a, b *sums, start, end int64) (equal, known bool) {
	if a == nil || b == nil {
		return false, false
	}
	equal = true
	for n := start / a.unit; n*a.unit < end; n++ {
		x, ok := a.get(uint64(n))
		y, also := b.get(uint64(n))
		if !ok || !also {
			return false, false
		}
		if x != y {
			if a.unit > end-start {
				return false, false // it may be another block of the unit
			}
			equal = false
		}
	}
	return equal, true
}

// equalPage returns how many bytes from off on, at the start of a page of sums,
// are equal by the whole page; 0 where the page does not tell.
func equalPage(a, b *sums, off int64) int64 {
	if a == nil || b == nil || off%(a.unit*sumsPerPage) != 0 {
		return 0
	}
	n := uint64(off / a.unit / sumsPerPage)
	p, q := a.pages[n], b.pages[n]
	if p == nil || q == nil || p.have != 1<<sumsPerPage-1 || *p != *q {
		return 0
	}
	return a.unit * sumsPerPage
}

// blockSizeOf returns the block size that the primary superblock names, for
// what is summed together; it need not be right.
func blockSizeOf(src Source) int64 {
	buf := make([]byte, ext.SuperblockSize)
	if n, _ := src.Reader.ReadAt(buf, ext.SuperblockOffset); n == len(buf) {
		if sb, err := ext.DecodeSuperblock(buf); err == nil && sb.BlockSize() != 0 {
			return int64(sb.BlockSize())
		}
	}
	return 4096
}

// A summed reader keeps the sums of what is read from it.
type summed struct {
	io.ReaderAt
	sums *sums
}

func (r summed) ReadAt(p []byte, off int64) (int, error) { return r.ReadFor(p, off, image.Again) }

func (r summed) ReadFor(p []byte, off int64, use image.Use) (int, error) {
	n, err := image.ReadFor(r.ReaderAt, p, off, use)
	if err == nil || errors.Is(err, io.EOF) {
		r.sums.note(p[:n], off)
	}
	return n, err
}

func (r summed) Advice() image.Advice { return image.AdviceOf(r.ReaderAt) }

// A summedImage is a summed reader of an image.
type summedImage struct {
	summed
	img image.Image
}

func (r summedImage) Size() int64 { return r.img.Size() }

func (r summedImage) NextRun(off int64) (start, end int64, err error) { return r.img.NextRun(off) }

func (r summedImage) NextData(off int64) (start, end int64, err error) {
	return image.Data(r.img).NextRun(off)
}

// sumReader returns r as a reader that keeps sums.
func sumReader(r io.ReaderAt, s *sums) io.ReaderAt {
	if img, ok := r.(image.Image); ok {
		return summedImage{summed{r, s}, img}
	}
	return summed{r, s}
}
