package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/e2i"
)

// errNoSuperblock says that there is nothing to find tables by.
var errNoSuperblock = errors.New("has no superblock that can be believed")

// writeNormal writes the normal image of the filesystem in img.
func (w *work) writeNormal(ctx context.Context, img image.Image) error {
	sb, group := w.superblock()
	if sb == nil {
		return fmt.Errorf("%s %w", w.input.src.Name(), errNoSuperblock)
	}
	n, err := e2i.New(img, img.Size(), sb, group, w.origin())
	if err != nil {
		return fmt.Errorf("%s: %w", w.input.src.Name(), err)
	}
	return w.writeRaw(ctx, n)
}

// superblock returns the superblock that was believed, and the group whose copy
// it is; nil where none was.
func (w *work) superblock() (*ext.Superblock, uint32) {
	if w.input.normal != nil {
		return w.input.normal.Superblock(), 0
	}
	return w.scan.Super(), w.scan.SuperGroup()
}

// origin returns what the header of a normal image says of where it comes from.
// The time is left out unless asked for: the same source gives the same bytes.
func (w *work) origin() e2i.Header {
	if w.input.normal != nil {
		return w.input.normal.Origin()
	}
	h := e2i.Header{DeviceName: w.source, Scrambled: w.input.scrambled()}
	h.Hostname, _ = os.Hostname() // as e2image, which has none either then
	var st unix.Stat_t
	if unix.Stat(w.source, &st) == nil {
		h.Device = uint32(st.Rdev)
	}
	if w.stamp {
		h.Time = time.Now()
	}
	return h
}
