package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/e2i"
	"e2qcow/internal/signature"
	"e2qcow/internal/source"
	"e2qcow/qcow2"
	"e2qcow/scan/survey"
)

const infoHelp = `Usage: e2qcow info [OPTION...] SOURCE
Print what an image says of itself, how it was made and whether it is complete,
and what is known of the filesystem in it, or on a device or in a file. Without
a usable superblock: which copies there are, for -o, -b and -B.

`

// What info --json prints. Names are as lasting as those of jsonRecord. Fields
// of an image are left out if the source is not an image.
type jsonInfo struct {
	Image       string `json:"image"`
	FileSize    int64  `json:"file_size"`
	VirtualSize int64  `json:"virtual_size"`
	Format      string `json:"format"` // qcow2, e2image, sparse or raw
	*jsonQCOW2
	*jsonNormal
	*jsonSparse
	Scrambled  bool             `json:"scrambled"`
	Part       *jsonPart        `json:"part,omitempty"` // what of the source was looked at; nil for all
	Filesystem *app.Description `json:"filesystem,omitempty"`
	Partitions []app.Partition  `json:"partitions,omitempty"`
	Sectors    string           `json:"sectors,omitempty"` // the table counts other sectors than the device has
	Content    string           `json:"content,omitempty"` // the contents in place of a filesystem
	Hint       string           `json:"hint,omitempty"`    // what to do with such contents
	Unread     string           `json:"unread,omitempty"`  // why the contents are not known
	*jsonLost
	Map *survey.Map `json:"map,omitempty"` // as in report --json

	surveyed *survey.Data // with --map
}

// A part of a source, by -o or --partition.
type jsonPart struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"` // bytes
	Size   int64  `json:"size"`   // bytes
}

// What there is of a qcow2 image only.
type jsonQCOW2 struct {
	Version      int           `json:"version"`
	ClusterSize  int64         `json:"cluster_size"`
	Compression  string        `json:"compression"` // of compressed clusters
	RefcountBits uint          `json:"refcount_bits"`
	ExtendedL2   bool          `json:"extended_l2"`
	Snapshots    uint32        `json:"snapshots"`
	Dirty        bool          `json:"dirty"`
	Corrupt      bool          `json:"corrupt"`
	BackingFile  string        `json:"backing_file,omitempty"`
	BackingFmt   string        `json:"backing_format,omitempty"`
	Unsupported  string        `json:"unsupported,omitempty"` // the feature that makes the disk unreadable
	Clusters     *jsonClusters `json:"clusters,omitempty"`
	Complete     bool          `json:"complete"`             // neither the file nor its source lacks anything
	Incomplete   string        `json:"incomplete,omitempty"` // what is missing
	contradicts  bool          // its tables contradict each other
	Made         *qcow2.Info   `json:"made,omitempty"`

	Salvage *app.Salvageable `json:"salvage,omitempty"` // with --salvage
}

type jsonClusters struct {
	Plain      int64 `json:"plain"`
	Compressed int64 `json:"compressed"`
	Zero       int64 `json:"zero"`
}

// What there is of a normal image only.
type jsonNormal struct {
	Hostname   string    `json:"hostname"`
	DeviceName string    `json:"device_name"`
	Time       time.Time `json:"time,omitzero"`
}

// What there is of an Android sparse image only.
type jsonSparse struct {
	Unit     int64  `json:"chunk_block_size"` // bytes
	Chunks   uint32 `json:"chunks"`
	Checksum bool   `json:"checksum"` // it has one, which info does not compare
}

// info prints a description of an image, a device or a file.
func (t *Tool) info(c *cli.Context) error {
	place, err := parsePlace(c)
	if err != nil {
		return err
	}
	o := infoOptions{place, c.Bool(flagSearch), c.Bool(flagMap)}
	src, err := openImage(c, "info")
	if err != nil {
		return err
	}
	defer src.Close()
	f := app.FormatRaw
	if head, err := src.Head(app.HeadSize); err == nil { // else it is a dying disk
		if f, err = app.FormatOf(head); err != nil {
			f = app.FormatQCOW2 // the error then says that the source is not a qcow2 image
		}
	}
	i := &jsonInfo{Image: src.Name(), FileSize: src.Size(), VirtualSize: src.Size()}
	switch {
	case o.search && c.Bool(flagSalvage):
		return app.Usagef("--%s does not go with --%s: write what can be read to a file with -r --%[2]s, and search that file", flagSearch, flagSalvage)
	case o.search && f == app.FormatNormal:
		return app.Usagef("--%s needs a whole disk: it does not go with %s", flagSearch, signature.Normal)
	}
	switch f {
	case app.FormatNormal:
		err = i.normal(src)
	case app.FormatRaw:
		err = i.raw(c.Context, t, src, o)
	case app.FormatSparse:
		err = i.sparse(c.Context, t, src, o)
	default:
		if c.Bool(flagSalvage) {
			err = i.salvage(c.Context, t, src, o)
		} else {
			err = i.qcow2(c.Context, t, src, o)
		}
	}
	if err == nil && o.mapped && i.surveyed == nil {
		err = fmt.Errorf("%s: --%s needs a whole ext filesystem", src.Name(), flagMap)
	}
	switch {
	case err != nil:
		return err
	case c.Bool(flagJSON):
		err = app.EncodeJSON(t.Stdout, i)
	default:
		err = i.print(t.Stdout)
		if err == nil && i.surveyed != nil {
			err = t.printMap(i.surveyed)
		}
	}
	if err == nil && i.surveyed != nil && i.surveyed.Damage.Ranges > 0 {
		err = app.ErrUnreadable
	}
	if err == nil && i.jsonLost != nil && i.jsonLost.Unreadable > 0 {
		err = app.ErrUnreadable
	}
	return err
}

// normal describes a normal image.
func (i *jsonInfo) normal(src *source.Source) error {
	img, err := e2i.Open(src, src.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", src.Name(), err)
	}
	from := img.Origin()
	i.Format, i.VirtualSize, i.Scrambled = "e2image", img.Size(), from.Scrambled
	i.jsonNormal = &jsonNormal{from.Hostname, from.DeviceName, from.Time}
	i.Filesystem = app.Describe(img, img.Superblock())
	return nil
}

// sparse describes an Android sparse image and the disk in it.
func (i *jsonInfo) sparse(ctx context.Context, t *Tool, src *source.Source, o infoOptions) error {
	img, err := app.OpenSparse(ctx, src)
	if err != nil {
		return err
	}
	i.Format, i.VirtualSize = "sparse", img.Size()
	i.jsonSparse = &jsonSparse{img.BlockSize(), img.Chunks(), img.HasChecksum()}
	if o.search { // which reads all of it
		if err := img.Verify(ctx); err != nil {
			return err
		}
	}
	_, err = i.look(ctx, t, &app.Part{Disk: img, Name: src.Name()}, o)
	return err
}

// raw describes a disk. A file with unknown contents, in which no superblock is
// found, is not a disk.
func (i *jsonInfo) raw(ctx context.Context, t *Tool, src *source.Source, o infoOptions) error {
	i.Format = "raw"
	isDisk, err := i.look(ctx, t, &app.Part{Disk: src, Name: src.Name(), SectorSize: src.SectorSize()}, o)
	switch {
	case err != nil || isDisk || i.found():
		return err
	case i.Content != "" && i.Part != nil:
		return fmt.Errorf("%s: it looks like %s; %s", i.Part.Name, i.Content, i.Hint)
	case i.Content != "":
		return notImage(src, qcow2.ErrNotQcow2)
	case i.Part != nil:
		err = fmt.Errorf("%s: nothing known is there", i.Part.Name)
	default:
		err = notImage(src, qcow2.ErrNotQcow2)
	}
	if o.search {
		return fmt.Errorf("%w; no superblock is anywhere in it; name an image or a disk", err)
	}
	return fmt.Errorf("%w; no superblock is in the usual places either; --%s looks everywhere", err, flagSearch)
}

// qcow2 describes a qcow2 image and the disk in it.
func (i *jsonInfo) qcow2(ctx context.Context, t *Tool, src *source.Source, o infoOptions) error {
	i.Format = "qcow2"
	img, err := qcow2.Open(ctx, src, src.Size(), qcow2.OpenOptions{Unverified: true})
	var unsupported *qcow2.UnsupportedError
	switch {
	case err == nil:
		i.header(img.Header())
		err = i.complete(ctx, img)
		if err == nil && o.search && i.contradicts {
			return fmt.Errorf("%s: %s: --%s would read places that the tables contradict; get the image again; if this is the only copy, write what can be read to a file with -r --%s, and search that file", src.Name(), i.Incomplete, flagSearch, flagSalvage)
		}
		if err == nil {
			_, err = i.look(ctx, t, &app.Part{Disk: img, Name: src.Name()}, o)
		}
	case errors.As(err, &unsupported) && unsupported.Header != nil:
		// Only the header is read; no other file is opened.
		i.header(unsupported.Header)
		err, i.Complete, i.Incomplete = nil, false, "the disk was not looked at"
		if unsupported.BackingFile == "" {
			i.Unsupported = unsupported.Feature
		}
	}
	if err != nil {
		return notImage(src, app.Damaged(ctx, err, src))
	}
	return nil
}

// salvage describes a damaged qcow2 image, and what can be read of the disk in it.
func (i *jsonInfo) salvage(ctx context.Context, t *Tool, src *source.Source, o infoOptions) error {
	i.Format = "qcow2"
	img, err := qcow2.OpenSalvage(ctx, src, src.Size(), qcow2.SalvageOptions{})
	if err != nil {
		return notImage(src, err)
	}
	i.header(img.Header())
	i.Salvage = app.SalvageableOf(img)
	switch {
	case img.Loss().Bytes() > 0 || img.Loss().Astray > 0:
		i.Incomplete = "it is damaged"
	case i.Corrupt:
		i.Incomplete = "it is marked as corrupt"
	case i.Made != nil && i.Made.Unreadable > 0:
		i.Incomplete = advise.Count(i.Made.Unreadable, "block") + " could not be read"
	}
	i.Complete = i.Incomplete == ""
	if _, err := i.look(ctx, t, &app.Part{Disk: img, Name: src.Name()}, o); err != nil {
		i.Content = "cannot be read" // the disk is lost there
	}
	return nil
}

// header copies the fields of the header of a qcow2 image.
func (i *jsonInfo) header(h *qcow2.Header) {
	i.VirtualSize = h.Size
	i.jsonQCOW2 = &jsonQCOW2{
		Version:      h.Version,
		ClusterSize:  h.ClusterSize(),
		Compression:  h.Compression.String(),
		RefcountBits: h.RefcountBits,
		ExtendedL2:   h.ExtendedL2(),
		Snapshots:    h.Snapshots,
		Dirty:        h.Dirty(),
		Corrupt:      h.MarkedCorrupt(),
		BackingFile:  h.BackingFile,
		BackingFmt:   h.BackingFormat,
	}
	if made, ok := h.Info(); ok {
		i.Made = &made
		i.Scrambled = made.Mode == app.Scrambled
	}
}

// complete finds out whether the image is complete, and counts its clusters.
func (i *jsonInfo) complete(ctx context.Context, img *qcow2.Image) error {
	var corrupt *qcow2.CorruptError
	err := img.Verify(ctx)
	if err == nil {
		var n qcow2.Clusters
		if n, err = img.Clusters(ctx); err == nil {
			i.Clusters = (*jsonClusters)(&n)
		}
	}
	switch {
	case errors.As(err, &corrupt):
		i.Incomplete, i.contradicts = corrupt.Error(), true
		return nil
	case err != nil:
		return err
	case i.Corrupt:
		i.Incomplete = "it is marked as corrupt"
	case i.Made != nil && i.Made.Unreadable > 0:
		i.Incomplete = advise.Count(i.Made.Unreadable, "block") + " could not be read"
	}
	i.Complete = i.Incomplete == ""
	return nil
}

// found reports whether superblocks were looked for, and found.
func (i *jsonInfo) found() bool { return i.jsonLost != nil && len(i.jsonLost.Found) > 0 }

// look finds out what the disk contains, and whether disks have such contents.
func (i *jsonInfo) look(ctx context.Context, t *Tool, whole *app.Part, o infoOptions) (isDisk bool, err error) {
	part, err := whole.At(o.place)
	if err != nil {
		return false, err
	}
	if part != whole {
		i.Part = &jsonPart{part.Name, part.Start, part.Disk.Size()}
	}
	found, err := app.Look(ctx, part)
	i.Filesystem, i.Partitions, i.Sectors = found.Description, found.Partitions, found.Sectors
	i.Content, i.Hint = found.Name, found.Hint
	if o.mapped && err == nil {
		if err := i.survey(ctx, t, part); err != nil {
			return false, err
		}
		i.Map = i.surveyed.Map
	}
	var corrupt *qcow2.CorruptError
	switch {
	case i.jsonQCOW2 != nil && errors.As(err, &corrupt):
		i.Complete, i.Incomplete = false, corrupt.Error()
		return found.Disk, nil
	case err != nil && ctx.Err() == nil:
		i.Unread = err.Error()
	case err != nil:
		return false, err
	}
	if o.search || !found.Usable && (found.Disk || found.Name == "") {
		if lostErr := i.findLost(ctx, t, part, o.search); lostErr != nil {
			return false, lostErr
		}
		if !o.search && !i.found() {
			i.jsonLost = nil // where nothing is usual, nothing is missing
		}
	}
	switch {
	case i.found():
		return found.Disk, nil
	case err != nil:
		err = fmt.Errorf("%w; no superblock was found; copy what can be read with ddrescue, and look at the copy", err)
	}
	return found.Disk, err
}
