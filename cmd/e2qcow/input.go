package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/e2i"
	"e2qcow/internal/ordered"
	"e2qcow/internal/progress"
	"e2qcow/internal/signature"
	"e2qcow/internal/source"
	"e2qcow/internal/storage"
	"e2qcow/qcow2"
)

// An input is a source that was opened and looked at.
type input struct {
	src     *source.Source
	guest   *guest           // nil where the source is not a qcow2 image
	normal  *e2i.Image       // nil where it is not a normal image
	backing []*source.Source // files behind it
	behind  []qcow2.Info     // what these say of how they were made
	region  storage.Region   // of them all
	notes   []string         // what is to be said about the image
	opened  []openedImage    // the qcow2 image and those behind it
}

// openInput opens the source. The notes on it are said at once.
func (s *session) openInput(ctx context.Context, o options, report *progress.Reporter) (*input, error) {
	src, err := source.Open(ctx, o.source)
	if err != nil {
		return nil, err
	}
	in := &input{src: src, region: src.Region()}
	if err := src.SetDirect(o.direct); err != nil {
		s.say("%v; it is read through the cache", err)
	}
	err = s.examine(ctx, in, o, report)
	if err == nil {
		err = in.verify(ctx, o.force)
	}
	if err != nil {
		in.Close()
		return nil, err
	}
	for _, note := range in.notes {
		s.say("%s: %s", src.Name(), note)
	}
	return in, nil
}

// errContradicts says that an image cannot be believed.
var errContradicts = errors.New("the image contradicts itself")

// verify compares the tables of the qcow2 images with their refcounts. A
// contradiction is an error, with force a note.
func (in *input) verify(ctx context.Context, force bool) error {
	for _, o := range in.opened {
		err := o.img.Verify(ctx)
		if err == nil {
			continue
		}
		if corrupt := (*qcow2.CorruptError)(nil); errors.As(err, &corrupt) {
			err = fmt.Errorf("%w: %w", errContradicts, err)
		}
		err = fmt.Errorf("%s: %w", o.name, err)
		if !force || ctx.Err() != nil {
			return err
		}
		in.notes = append(in.notes, err.Error())
	}
	return nil
}

// An openedImage is a qcow2 image, or a backing file that is one.
type openedImage struct {
	name string
	img  *qcow2.Image
}

// Close closes the source and what is behind it.
func (in *input) Close() {
	if in.guest != nil && in.guest.stream != nil {
		in.guest.stream.Close()
	}
	for _, b := range in.backing {
		b.Close()
	}
	in.src.Close()
}

// drain reads a pipe to its end, so that who writes it does not fail for what
// is behind the image.
func (in *input) drain() {
	if in.guest != nil && in.guest.stream != nil {
		_ = in.guest.stream.Drain() // the image is whole
	}
}

// disk returns what a filesystem is looked for on.
func (in *input) disk() image.Image {
	switch {
	case in.guest != nil:
		return in.guest
	case in.normal != nil:
		return in.normal
	}
	return in.src
}

// asItIs tells whether no filesystem is looked for: the image is of one already,
// or is taken whole. In a normal image there is nothing to follow.
func (in *input) asItIs(o options) bool {
	return in.normal != nil || in.guest != nil && o.imageAsItIs() && !in.isClone(o)
}

// isClone tells whether the filesystem on the disk in a qcow2 image is cloned: it
// may be longer than the disk. Our own images hold what a scan found already.
func (in *input) isClone(o options) bool {
	_, ours := in.guest.info()
	return o.scan.Files && !o.whole && !ours && superblockAt(in.guest) != nil
}

// imageAsItIs tells whether no filesystem is looked for in a qcow2 image.
func (o *options) imageAsItIs() bool {
	return o.whole || o.mode == toRaw && !o.inside() && !o.scramble.on()
}

// checkOptions refuses options that mean nothing for what the source is.
func (in *input) checkOptions(o options) error {
	name := in.src.Name()
	switch {
	case o.whole && in.guest == nil:
		return usagef("option --%s concerns a qcow2 image; %s is none", flagWhole, name)
	case o.backing && in.guest == nil:
		return usagef("option --%s concerns a qcow2 image; %s is none", flagBacking, name)
	case in.asItIs(o) && o.scanFlag != "":
		what := signature.QCOW2
		if in.normal != nil {
			what = signature.Normal
		}
		return usagef("option --%s concerns a filesystem; %s is %s, taken as it is", o.scanFlag, name, what)
	case in.normal != nil && o.scramble.on():
		return usagef("option --%s concerns a filesystem; %s is %s, which lacks what names are found by", flagScramble, name, signature.Normal)
	case o.badMap != "" && in.guest != nil:
		return usagef("option --%s is of the disk that was rescued; %s is a qcow2 image, whose offsets are others", flagBadMap, name)
	}
	return nil
}

// examine finds out what the source is, and opens the image in it.
func (s *session) examine(ctx context.Context, in *input, o options, report *progress.Reporter) error {
	f, err := in.format(o.format)
	if err != nil {
		return err
	}
	if !in.src.IsPipe() {
		return in.open(f, o)
	}
	if o.backing {
		return usagef("option --%s concerns files beside the source, and %s has none", flagBacking, in.src.Name())
	}
	if f == formatQCOW2 && o.imageAsItIs() && !o.scan.Files {
		return in.openStream(o)
	}
	s.say("%s is read to its end first, into memory and a temporary file in %s", in.src.Name(), o.spool.Folder())
	if err := in.src.Spool(ctx, o.spool, report.Phase("spool", progress.Bytes)); err != nil {
		return err
	}
	return in.open(f, o)
}

// format finds out by its first bytes what the source is, if asked says nothing.
func (in *input) format(asked format) (format, error) {
	head, err := in.src.Head(headSize)
	f := asked
	switch {
	case err != nil && (in.src.IsPipe() || f == formatQCOW2 || f == formatNormal || hasMagic(head) || e2i.Is(head)):
		return f, err
	case err != nil && f == formatAny:
		// A dying disk: the scan makes the most of it.
		f = formatRaw
		in.notes = append(in.notes, fmt.Sprintf("its start cannot be read, so it is taken for a disk: %v", err))
	case f == formatAny:
		if f, err = formatOf(head); err != nil {
			return f, fmt.Errorf("%s %w", in.src.Name(), err)
		}
	}
	if f == formatQCOW2 && !hasMagic(head) {
		return f, fmt.Errorf("%s: %w", in.src.Name(), qcow2.ErrNotQcow2)
	}
	return f, nil
}

// open opens the image of that format that the source is.
func (in *input) open(f format, o options) error {
	switch f {
	case formatNormal:
		var err error
		if in.normal, err = e2i.Open(in.src, in.src.Size()); err != nil {
			return fmt.Errorf("%s: %w", in.src.Name(), err)
		}
	case formatQCOW2:
		return in.openQCOW2(o)
	}
	return nil
}

func (in *input) openQCOW2(o options) error {
	name := in.src.Name()
	opt := qcow2.OpenOptions{}
	if o.backing {
		folder, err := openFolder(name)
		if err != nil {
			return err
		}
		defer folder.Close()
		opt.Backing = in.backingOpener(folder, ".", 1)
	}
	img, err := qcow2.Open(in.src, in.src.Size(), opt)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	in.notes = append(in.notes, img.Notes()...)
	in.opened = append(in.opened, openedImage{name, img})
	in.guest = &guest{Image: img, name: name, behind: in.behind}
	return nil
}

// openStream opens the image that comes through a pipe.
func (in *input) openStream(o options) error {
	r := &endSeen{r: in.src}
	img, err := qcow2.OpenStream(r, qcow2.OpenOptions{
		Window: int64(o.threads) * 4 * ordered.DefaultChunkSize,
		Spool:  o.spool,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", in.src.Name(), err)
	}
	if r.end {
		in.notes = append(in.notes, fmt.Sprintf("the image was read to its end first, into memory and a temporary file in %s: "+
			"its tables do not stand before its data", o.spool.Folder()))
	}
	in.notes = append(in.notes, img.Notes()...)
	in.opened = append(in.opened, openedImage{in.src.Name(), img.Image})
	in.guest = &guest{Image: img.Image, stream: img, name: in.src.Name()}
	return nil
}

// An endSeen knows whether the end was read.
type endSeen struct {
	r   io.Reader
	end bool
}

func (e *endSeen) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.end = e.end || errors.Is(err, io.EOF)
	return n, err
}

// headSize is enough of a source to tell its format.
const headSize = ext.SuperblockOffset + ext.SuperblockSize

// What may be an image or a disk.
var (
	errAmbiguous       = errors.New("begins as a qcow2 image and holds an ext superblock")
	errAmbiguousNormal = errors.New("begins as a normal image of e2image and holds an ext superblock of its own")
)

// formatOf tells by its first bytes what a source is. Whoever may write to a
// disk can make it look like a qcow2 image; whoever sends an image can make it
// look like a filesystem.
func formatOf(head []byte) (format, error) {
	disk := len(head) == headSize && ext.IsSuperblock(head[ext.SuperblockOffset:])
	switch {
	case hasMagic(head) && disk:
		return formatAny, errAmbiguous
	case hasMagic(head):
		return formatQCOW2, nil
	case e2i.Is(head) && disk && !e2i.OwnsSuperblock(head):
		return formatAny, errAmbiguousNormal
	case e2i.Is(head):
		return formatNormal, nil
	}
	return formatRaw, nil
}

func hasMagic(head []byte) bool {
	return len(head) >= 4 && binary.BigEndian.Uint32(head) == 'Q'<<24|'F'<<16|'I'<<8|0xfb
}
