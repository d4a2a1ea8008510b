package app

import (
	"context"
	"path/filepath"

	"e2qcow/image"
	"e2qcow/internal/cache"
	"e2qcow/internal/overlay"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
)

// cacheSize is how many bytes of a qcow2 image are kept decoded.
const cacheSize = 64 << 20

// minCachePage is the least that is decoded at once, in bytes.
const minCachePage = 64 << 10

// Cached returns img, which is read of in, so that small reads cost little:
// clusters of a qcow2 image are kept when they are decoded.
func (in *Input) Cached(img image.Image) image.Image {
	if in.Guest == nil {
		return img
	}
	return cache.New(img, max(in.Guest.Header().ClusterSize(), minCachePage), cacheSize)
}

// A ServedDisk is a disk that can be written to while its base stays as it is.
type ServedDisk struct{ *overlay.Overlay }

// Room returns how many bytes of changes can still be kept, and how many could be
// at first.
func (d ServedDisk) Room() (free, all int64) { return d.Limit() - d.Used(), d.Limit() }

// changesCluster is the size of the clusters of an image of changes: with it
// qemu opens disks of any size that there is.
const changesCluster = 64 << 10

// WriteChanges writes what is changed on d to a qcow2 image, whose backing file
// is the source of in.
func WriteChanges(ctx context.Context, to *target.Target, d ServedDisk, in *Input) error {
	backing, err := filepath.Rel(filepath.Dir(to.Name()), in.Src.Name())
	if err != nil {
		return err
	}
	format := "raw"
	if in.Guest != nil {
		format = "qcow2"
	}
	_, err = qcow2.WriteFile(ctx, to, d.Changes(changesCluster), qcow2.WriteOptions{
		Version:       3,
		ClusterSize:   changesCluster,
		MarkZeros:     true,
		BackingFile:   backing,
		BackingFormat: format,
		Info:          func() qcow2.Info { return qcow2.Info{Tool: Tool(), Mode: AllData} },
	})
	if err != nil {
		return err
	}
	return to.Commit()
}
