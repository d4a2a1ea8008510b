// Package image holds the one idea that sources, filters and sinks share: an
// image is a size, the runs of it that are known, and a way to read them.
//
//	0                                                        Size
//	├──────┬███████┬──────────────┬███┬─────────────────────┤
//	       └ a run ┘              └ a run ┘      unknown: reads as zero
//
// A qcow2 file, the metadata of a filesystem and a whole device are all
// images; a qcow2 file, a raw file and a pipe are sinks for one. Any source
// goes to any sink.
//
// # How to call
//
// To write a source of your own, implement [Image]: three methods. qcow2.WriteFile
// and raw.WriteFile write it. To read all that an image knows:
//
//	for off := int64(0); ; {
//		start, end, err := img.NextRun(off)
//		if errors.Is(err, io.EOF) {
//			break
//		}
//		... // read from start to end
//		off = end
//	}
//
// The other interfaces are for sources that know more of themselves: which bytes
// are zero ([DataFinder]), how they are best read ([Adviser], [UseReader]), and
// whether they contradict themselves ([DamageReporter]).
package image

import "io"

// An Image is a size, the runs of it that are known, and a way to read them.
// All methods are safe for concurrent use.
type Image interface {
	// ReadAt reads as io.ReaderAt does. Bytes outside every run read as zero.
	io.ReaderAt

	// Size returns the length of the image in bytes.
	Size() int64

	// NextRun returns the bounds [start, end) in bytes of the first run of
	// known bytes at or after off, as lseek with SEEK_DATA and SEEK_HOLE does.
	// A run that begins before off and ends behind it is cut to begin at off.
	// Runs are disjoint, ascending, not empty, and lie within [0, Size).
	// At the end of the runs the error is io.EOF.
	NextRun(off int64) (start, end int64, err error)
}
