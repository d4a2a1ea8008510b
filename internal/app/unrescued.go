package app

import (
	"math"

	"e2qcow/image"
	"e2qcow/internal/ranges"
	"e2qcow/scan"
)

// Unrescued returns a part as long as its filesystem, and bad with what is missing
// behind the end of the part: a disk that ddrescue has not read so far ends early.
func (p *Part) Unrescued(bad []scan.Range) (*Part, []scan.Range) {
	sb := SuperblockAt(p.Disk)
	if sb == nil || sb.BlocksCount() > math.MaxInt64/uint64(sb.BlockSize()) {
		return p, bad
	}
	end, size := p.Disk.Size(), int64(sb.BlocksCount())*int64(sb.BlockSize())
	if size <= end {
		return p, bad
	}
	longer := *p
	longer.Disk = &unrescued{p.Disk, size}
	return &longer, ranges.Join(append(bad[:len(bad):len(bad)], scan.Range{Start: end, End: math.MaxInt64}))
}

// An unrescued is an image whose end is missing.
type unrescued struct {
	img  image.Image
	size int64
}

// Size returns the length that the image should have, in bytes.
func (u *unrescued) Size() int64 { return u.size }

// ReadAt reads what there is of the image.
func (u *unrescued) ReadAt(p []byte, off int64) (int, error) { return u.img.ReadAt(p, off) }

// NextRun returns the next run of what there is.
func (u *unrescued) NextRun(off int64) (start, end int64, err error) { return u.img.NextRun(off) }

// Advice returns that of the image.
func (u *unrescued) Advice() image.Advice { return image.AdviceOf(u.img) }

// Damage returns that of the image.
func (u *unrescued) Damage() error { return image.DamageOf(u.img) }
