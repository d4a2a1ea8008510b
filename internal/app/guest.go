package app

import (
	"errors"
	"fmt"
	"io"
	"math"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/qcow2"
)

// A Guest is the disk in a qcow2 image. Its errors name the source.
type Guest struct {
	img    guestDisk
	stream *qcow2.Stream // the same image if it comes through a pipe, otherwise nil
	name   string        // of the source
	behind []qcow2.Info  // the records of its backing files
}

// A guestDisk is a *qcow2.Image, or a *qcow2.Salvage of a damaged one.
type guestDisk interface {
	image.Image
	image.DataFinder
	Header() *qcow2.Header
}

// Header returns the header of the image.
func (g *Guest) Header() *qcow2.Header { return g.img.Header() }

// Size returns the size of the disk in bytes.
func (g *Guest) Size() int64 { return g.img.Size() }

// ReadAt reads as io.ReaderAt does.
func (g *Guest) ReadAt(p []byte, off int64) (int, error) {
	n, err := g.img.ReadAt(p, off)
	return n, g.named(err)
}

// NextRun returns the next run as image.Image says.
func (g *Guest) NextRun(off int64) (start, end int64, err error) {
	start, end, err = g.img.NextRun(off)
	return start, end, g.named(err)
}

// NextData returns the next run as image.DataFinder says.
func (g *Guest) NextData(off int64) (start, end int64, err error) {
	start, end, err = g.img.NextData(off)
	return start, end, g.named(err)
}

// Locate locates bytes as image.Locator says.
func (g *Guest) Locate(off, limit int64, read bool) (f image.File, at, n int64) {
	return image.Locate(g.img, off, limit, read)
}

// Damage returns the first contradiction found while the image was read.
func (g *Guest) Damage() error { return g.named(image.DamageOf(g.img)) }

// NextLost returns the next lost range as image.LossFinder says.
func (g *Guest) NextLost(off int64) (start, end int64, err error) { return image.NextLost(g.img, off) }

// named returns err with the name of the source.
func (g *Guest) named(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%s: %w", g.name, err)
}

// What an image holds, in the record of how the image was made.
const (
	Metadata  = "metadata"
	AllData   = "all data"
	Scrambled = "scrambled" // metadata without private data
	Undo      = "undo"      // bytes that an installation has overwritten
)

// info returns the valid part of the record of how the image was made; a nil
// guest has none. The image also lacks the blocks that a backing file lacks,
// and it is scrambled if a backing file is.
func (g *Guest) info() (qcow2.Info, bool) {
	if g == nil {
		return qcow2.Info{}, false
	}
	i, ok := infoOf(g.Header())
	for _, b := range g.behind {
		if b.Mode == Scrambled {
			i.Mode = Scrambled
		}
		i.Unreadable += min(b.Unreadable, math.MaxInt64-i.Unreadable)
		ok = ok || b.Mode == Scrambled || b.Unreadable > 0
	}
	return i, ok
}

// infoOf returns the record in the header of an image, if the record is valid.
func infoOf(h *qcow2.Header) (qcow2.Info, bool) {
	i, ok := h.Info()
	switch size := i.BlockSize; {
	case !ok, i.Unreadable < 0, size != 0 && (size < ext.MinBlockSize || size > ext.MaxBlockSize || size&(size-1) != 0):
		return qcow2.Info{}, false
	}
	return i, true
}
