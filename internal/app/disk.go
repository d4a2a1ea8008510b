package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"e2qcow/image"
	"e2qcow/internal/cache"
	"e2qcow/internal/fuse"
	"e2qcow/internal/overlay"
)

// A Disk is a writable part of an image. An overlay of the whole image keeps
// the bytes that are written; the source never changes.
type Disk struct {
	part  image.Image // as it is now
	over  *overlay.Overlay
	start int64 // of the part
	ended atomic.Bool
}

var _ image.Image = (*Disk)(nil)

// NewDisk returns the size bytes from start of whole as a disk without changes.
func NewDisk(whole image.Image, start, size int64, opt overlay.Options) *Disk {
	over := overlay.New(whole, opt)
	return &Disk{part: image.Section(over, start, size), over: over, start: start}
}

// Size returns the size of the disk in bytes.
func (d *Disk) Size() int64 { return d.part.Size() }

// ReadAt reads as io.ReaderAt does.
func (d *Disk) ReadAt(b []byte, off int64) (int, error) { return d.part.ReadAt(b, off) }

// NextRun returns the next run as image.Image says.
func (d *Disk) NextRun(off int64) (start, end int64, err error) { return d.part.NextRun(off) }

// Close drops all changes.
func (d *Disk) Close() { d.over.Close() }

// cacheSize is the number of decoded bytes of a qcow2 image that are kept,
// because programs read a disk in small pieces.
const cacheSize = 64 << 20

// minCachePage is the smallest number of bytes that are decoded at once.
const minCachePage = 64 << 10

// Cached returns the disk in a source, with a cache of decoded clusters.
func (in *Input) Cached() image.Image {
	if in.Guest == nil {
		return in.Disk()
	}
	return cache.New(in.Guest, max(in.Guest.Header().ClusterSize(), minCachePage), cacheSize)
}

// End makes all further reads and writes through the file fail. The changes
// stay.
func (d *Disk) End() { d.ended.Store(true) }

// Served returns the disk as a file to serve. End ends the service.
func (d *Disk) Served() fuse.Disk { return served{d} }

// WriteAt writes as io.WriterAt does.
func (d *Disk) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off > d.Size() || int64(len(b)) > d.Size()-off {
		return 0, unix.ENOSPC
	}
	return d.over.WriteAt(b, d.start+off)
}

// Clear makes bytes zero.
func (d *Disk) Clear(off, n int64) error {
	if off < 0 || off > d.Size() || n > d.Size()-off {
		return unix.EINVAL
	}
	return d.over.Clear(d.start+off, n)
}

// NextData returns the next run that may hold bytes other than zero.
func (d *Disk) NextData(off int64) (start, end int64, err error) {
	return image.Data(d.part).NextRun(off)
}

// NextChange returns the next run that was changed; io.EOF where there is none.
func (d *Disk) NextChange(off int64) (start, end int64, err error) {
	start, end, err = d.over.NextChange(d.start + off)
	if err == nil && start-d.start >= d.Size() {
		err = io.EOF
	}
	if err != nil {
		return 0, 0, err
	}
	return max(start-d.start, off), min(end-d.start, d.Size()), nil
}

// Room returns the number of bytes of changes for which there is room now, and
// for which there was room at first.
func (d *Disk) Room() (free, all int64) { return d.over.Limit() - d.over.Used(), d.over.Limit() }

// Changed returns how many bytes were changed, in whole blocks, and in how many
// places.
func (d *Disk) Changed() (bytes, runs int64, err error) {
	for off := int64(0); ; {
		start, end, err := d.NextChange(off)
		if errors.Is(err, io.EOF) {
			return bytes, runs, nil
		}
		if err != nil {
			return 0, 0, err
		}
		bytes, runs, off = bytes+end-start, runs+1, end
	}
}

// Adopt gives the disk the contents of a copy that a command has written to.
func (d *Disk) Adopt(ctx context.Context, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < d.Size() {
		return fmt.Errorf("the command cut the disk to %d bytes", info.Size())
	}
	now, then := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < d.Size(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		start, err := nextEither(f, d, off)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		off = start - start%overlay.BlockSize
		a, b := now[:min(d.Size()-off, 1<<20)], then[:min(d.Size()-off, 1<<20)]
		if _, err := f.ReadAt(a, off); err != nil {
			return err
		}
		if n, err := d.ReadAt(b, off); n < len(b) {
			return err
		}
		for at := 0; at < len(a); at += overlay.BlockSize {
			block := a[at:min(len(a), at+overlay.BlockSize)]
			if bytes.Equal(block, b[at:at+len(block)]) {
				continue
			}
			if _, err := d.WriteAt(block, off+int64(at)); err != nil {
				return err
			}
		}
		off += int64(len(a))
	}
	return nil
}

// nextEither returns where the next data of a file or the disk begins.
func nextEither(f *os.File, d *Disk, off int64) (int64, error) {
	next, _, err := d.NextData(off)
	if errors.Is(err, io.EOF) {
		next, err = d.Size(), nil
	}
	if err != nil {
		return 0, err
	}
	data, err := f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		data, err = d.Size(), nil
	case errors.Is(err, unix.EINVAL): // the filesystem does not know of holes
		data, err = off, nil
	}
	if next = min(next, data); err == nil && next >= d.Size() {
		err = io.EOF
	}
	return next, err
}

// A served disk is the file, and fails when it is ended.
type served struct{ d *Disk }

// Size returns the size of the disk in bytes.
func (s served) Size() int64 { return s.d.Size() }

// NextData returns the next run that may hold bytes other than zero.
func (s served) NextData(off int64) (start, end int64, err error) { return s.d.NextData(off) }

// Room is that of the disk.
func (s served) Room() (free, all int64) { return s.d.Room() }

// ReadAt reads as io.ReaderAt does.
func (s served) ReadAt(b []byte, off int64) (int, error) {
	if s.d.ended.Load() {
		return 0, unix.EIO
	}
	return s.d.ReadAt(b, off)
}

// WriteAt writes as io.WriterAt does.
func (s served) WriteAt(b []byte, off int64) (int, error) {
	if s.d.ended.Load() {
		return 0, unix.EIO
	}
	return s.d.WriteAt(b, off)
}

// Clear makes bytes zero.
func (s served) Clear(off, n int64) error {
	if s.d.ended.Load() {
		return unix.EIO
	}
	return s.d.Clear(off, n)
}
