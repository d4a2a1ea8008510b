package main

import (
	"context"
	"time"

	"e2qcow/image"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// writeQCOW2 writes img as a qcow2 image.
func (w *work) writeQCOW2(ctx context.Context, img image.Image) error {
	opt := w.qcow2
	opt.BlockSize = w.blockSize()
	opt.Dense = w.target.Kind() == target.Device
	if err := w.checkRoom(ctx, img, opt); err != nil {
		return err
	}
	opt.Progress = w.copying()
	opt.Info = w.info
	var (
		stats qcow2.Stats
		err   error
	)
	if w.target.Kind() == target.Stream {
		stats, err = qcow2.WriteStream(ctx, w.target, img, opt)
	} else {
		stats, err = qcow2.WriteFile(ctx, w.target, img, opt)
	}
	w.imageBytes, w.dataBytes = stats.FileSize, stats.FileSize
	return err
}

// blockSize returns the size of the pieces that the runs of the image are made
// of, 0 where that is not known.
func (w *work) blockSize() int {
	if w.scan != nil {
		return int(w.scan.BlockSize())
	}
	if i, ok := w.input.guest.info(); ok && i.BlockSize != 0 {
		return int(i.BlockSize)
	}
	if n := w.input.normal; n != nil {
		return int(n.Superblock().BlockSize())
	}
	if w.qcow2.Compression != qcow2.Uncompressed {
		return 0
	}
	return int(w.input.guest.Header().ClusterSize())
}

// info returns the record of how the image is made, when its source has been
// read. What was lost on the way to the source is lost here too.
func (w *work) info() qcow2.Info {
	_ = w.frozen.Thaw() // which who froze it asks for again
	i, ok := w.input.guest.info()
	i.UUID = "" // is that of an undo only
	if w.scramble.on() {
		i.Salt = w.scramble.saltText()
	}
	switch {
	case w.input.normal != nil:
		i.Mode, i.BlockSize = w.content(), int64(w.blockSize())
	case w.scan != nil:
		i.Mode, i.BlockSize = w.content(), int64(w.scan.BlockSize())
		i.Unreadable += blocksOf(w.scan.Unreadable(), i.BlockSize)
	case !ok, i.Mode != infoMetadata && i.Mode != infoScrambled:
		i.Mode = infoAllData
	}
	i.Tool, i.Time = toolName(), time.Time{}
	if w.stamp {
		i.Time = time.Now().UTC().Truncate(time.Second)
	}
	return i
}

// content returns what the image holds where that is no copy of a disk, as the
// record of an image says it. What is scrambled stays so on every way.
func (w *work) content() string {
	switch {
	case w.scramble.on() || w.input.scrambled():
		return infoScrambled
	case w.options.scan.Files:
		return infoAllData
	}
	return infoMetadata
}

// blocksOf returns how many blocks the ranges, which ascend, lie in.
func blocksOf(ranges []scan.Range, blockSize int64) int64 {
	n, next := int64(0), int64(0) // next: the first block not counted
	for _, r := range ranges {
		first, end := max(r.Start/blockSize, next), (r.End-1)/blockSize+1
		if first < end {
			n += end - first
			next = end
		}
	}
	return n
}
