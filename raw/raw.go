// Package raw writes an image as the bytes of the disk that the image is of: a
// sparse file, to be mounted through a loop device or given to e2fsck. To restore
// an image, open the image and write the image's disk:
//
//	img, err := qcow2.Open(ctx, file, size, qcow2.OpenOptions{})
//	...
//	stats, err := raw.WriteFile(ctx, disk, img, raw.Options{})
//
// Any [image.Image] can be written: the View of a scan makes a raw file of
// metadata without a qcow2 image in between.
//
//	image    ├──────┬█run█┬──────────────┬█run█┬────┤ Size
//	file       hole   data      hole       data  hole     zeros in runs too
package raw

import (
	"context"
	"io"

	"e2qcow/image"
	"e2qcow/internal/raw"
)

// Options are the choices of writing. The zero Options are good.
type Options struct {
	// Threads is how many threads read and write. 0 is GOMAXPROCS.
	Threads int
	// Progress is called now and then, from one goroutine at a time, with how
	// many bytes of the image's runs have been read. It may be nil.
	Progress func(done, total int64)
}

// Stats are the measures of a file that was written.
type Stats struct {
	Size int64 // of the file, in bytes
	Data int64 // bytes that were written; the others are holes
}

// A File is what WriteFile writes to. An *os.File is one.
type File interface {
	// WriteAt may be called by several goroutines at once, for bytes that do not
	// overlap.
	io.WriterAt
	// Truncate sets the length of the file in bytes.
	Truncate(size int64) error
}

// WriteFile writes img to f, which must be empty, and gives f the size of img.
// Pages of 4 KiB that are zero are not written, so that they are holes where the
// filesystem has holes. WriteFile does not sync. An error is that of reading
// img, of writing f, or the cause of ctx; what f then holds is of no use.
func WriteFile(ctx context.Context, f File, img image.Image, opt Options) (Stats, error) {
	stats, err := raw.WriteFile(ctx, f, img, raw.Options(opt))
	return Stats(stats), err
}
