package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/e2i"
	"e2qcow/internal/ordered"
	"e2qcow/internal/progress"
	"e2qcow/internal/source"
	"e2qcow/internal/spool"
	"e2qcow/internal/storage"
	"e2qcow/qcow2"
)

// A Source says what to read, and how.
type Source struct {
	Name    string // a file, a device or "-"
	Format  Format
	Backing bool // the backing files of a qcow2 image are opened
	Stream  bool // a qcow2 image that comes through a pipe is read once, in order
	Salvage bool // of a damaged qcow2 image all is read that can be
	Force   bool // an image whose tables contradict each other is read anyway
	Direct  source.DirectMode
	Spool   spool.Options // of pipes
	Threads int           // 0 for as many as there are CPUs
}

// An Input is an open source, and the disk in it.
type Input struct {
	Src    *source.Source
	Guest  *Guest         // nil where the source is no qcow2 image
	Normal *e2i.Image     // nil where the source is no normal image
	Sparse *Sparse        // nil where the source is no Android sparse image
	Region storage.Region // of the source and its backing files

	backing []*source.Source // open backing files
	behind  []qcow2.Info     // the records of how the backing files were made
	notes   []string         // messages about the image
	opened  []openedImage    // the qcow2 image and those behind it

	compressed bool // the source is decompressed while it is read
}

// Open opens a source, and prints the messages about it.
func (s *Session) Open(ctx context.Context, o Source, shown *progress.Reporter) (*Input, error) {
	src, err := source.Open(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	in := &Input{Src: src, Region: src.Region()}
	if err := src.SetDirect(o.Direct); err != nil {
		s.Say("%v; the source is read through the page cache", err)
	}
	err = s.examine(ctx, in, o, shown)
	if err == nil {
		err = in.verify(ctx, o.Force)
	}
	if err != nil {
		in.Close()
		return nil, err
	}
	for _, note := range in.notes {
		s.Say("%s: %s", src.Name(), note)
	}
	return in, nil
}

// OpenDisk opens a source as a disk, whatever its first bytes are.
func OpenDisk(ctx context.Context, name string) (*Input, error) {
	src, err := source.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Input{Src: src, Region: src.Region()}, nil
}

// errContradicts says that the tables of an image are not reliable.
var errContradicts = advise.New("the tables of the image contradict each other",
	"get the image again; if this is the only copy, --salvage reads what can be read of it")

// verify compares the tables of the qcow2 images with their refcounts, and a
// sparse image with its checksums. A contradiction is an error; with force it is
// only a message.
func (in *Input) verify(ctx context.Context, force bool) error {
	if in.Sparse != nil {
		err := in.Sparse.Verify(ctx)
		if err == nil || !force || ctx.Err() != nil {
			return err
		}
		in.notes = append(in.notes, errors.Unwrap(err).Error()) // a note is printed behind the name
	}
	for _, o := range in.opened {
		err := o.img.Verify(ctx)
		if err == nil {
			continue
		}
		if corrupt := (*qcow2.CorruptError)(nil); errors.As(err, &corrupt) {
			err = fmt.Errorf("%w: %w", errContradicts, err)
		}
		if o.src != nil && !force {
			err = Damaged(ctx, err, o.src)
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
	src  *source.Source // nil if the image comes through a pipe
}

// Close closes the source and its backing files.
func (in *Input) Close() {
	if in.IsStream() {
		in.Guest.stream.Close()
	}
	for _, b := range in.backing {
		b.Close()
	}
	in.Src.Close()
}

// Drain reads a pipe to its end, so that the program that writes to the pipe
// does not fail when more bytes follow the image.
func (in *Input) Drain() {
	if in.IsStream() {
		_ = in.Guest.stream.Drain() // the image has been read completely, so the error does not matter
	}
}

// CheckEnd reads compressed data to their end, where their checksum stands.
func (in *Input) CheckEnd() error {
	if !in.compressed || !in.IsStream() {
		return nil
	}
	return in.Guest.stream.Drain()
}

// IsStream reports whether the source is a qcow2 image that can be read once, in
// order.
func (in *Input) IsStream() bool { return in.Guest != nil && in.Guest.stream != nil }

// Disk returns the disk in the source, or the source as a disk.
func (in *Input) Disk() image.Image {
	switch {
	case in.Guest != nil:
		return in.Guest
	case in.Normal != nil:
		return in.Normal
	case in.Sparse != nil:
		return in.Sparse
	}
	return in.Src
}

// Damage returns the first contradiction found while the image was read.
func (in *Input) Damage() error {
	if in.Guest == nil {
		return nil
	}
	return in.Guest.Damage()
}

// Made returns the record of how a qcow2 image was made.
func (in *Input) Made() (qcow2.Info, bool) { return in.Guest.info() }

// BlockSize returns the unit of the runs of the disk in bytes, 0 if it is not
// known.
func (in *Input) BlockSize() int {
	if i, ok := in.Made(); ok && i.BlockSize != 0 {
		return int(i.BlockSize)
	}
	if in.Normal != nil {
		return int(in.Normal.Superblock().BlockSize())
	}
	return 0
}

// Scrambled reports whether the source is an image whose record says that it is
// scrambled.
func (in *Input) Scrambled() bool {
	i, _ := in.Made()
	return i.Mode == Scrambled || in.Normal != nil && in.Normal.Origin().Scrambled
}

// IsForeignFilesystem reports whether the source is a qcow2 image that this tool
// did not make, of a disk that begins with an ext filesystem.
func (in *Input) IsForeignFilesystem() bool {
	_, ours := in.Made()
	return in.Guest != nil && !ours && SuperblockAt(in.Guest) != nil
}

// SuperblockAt returns the primary superblock on a disk, nil if none can be
// read.
func SuperblockAt(disk io.ReaderAt) *ext.Superblock {
	b := make([]byte, ext.SuperblockSize)
	n, _ := disk.ReadAt(b, ext.SuperblockOffset)
	sb, err := ext.DecodeSuperblock(b[:n])
	if err != nil {
		return nil
	}
	return sb
}

// examine finds the format of the source, and opens the image in it.
func (s *Session) examine(ctx context.Context, in *Input, o Source, shown *progress.Reporter) error {
	if o.Salvage {
		in.Src.EndAtDamage()
	}
	head, err := in.Src.Head(HeadSize)
	if err == nil && o.Format != FormatRaw {
		kind, failed := in.Src.Decompress(head, o.Force)
		if failed != nil {
			return failed
		}
		if kind != "" {
			in.compressed = true
			in.notes = append(in.notes, "compressed with "+kind+": the data in it are read")
			head, err = in.Src.Head(HeadSize)
		}
	}
	f, err := in.format(o.Format, head, err)
	if err != nil {
		return err
	}
	if !in.Src.IsPipe() {
		return in.open(ctx, f, o)
	}
	if o.Backing {
		return Usagef("option --backing needs the folder of the source, but %s has none", in.Src.Name())
	}
	if f == FormatQCOW2 && o.Stream && !o.Salvage {
		return in.openStream(ctx, o)
	}
	s.Say("%s is first read to its end, into memory and a temporary file in %s", in.Src.Name(), o.Spool.Folder())
	if err := in.Src.Spool(ctx, o.Spool, shown.Phase("spool", progress.Bytes)); err != nil {
		return err
	}
	if err := in.Src.Damage(); err != nil {
		in.notes = append(in.notes, fmt.Sprintf("what could be decompressed is %s: %v", advise.ExactBytes(in.Src.Size()), err))
	}
	return in.open(ctx, f, o)
}

// format returns asked, or else the format that the first bytes of the source
// show. err is why no more of these could be read.
func (in *Input) format(asked Format, head []byte, err error) (Format, error) {
	f := asked
	switch {
	case err != nil && (in.Src.IsPipe() || f != FormatAny && f != FormatRaw || isImage(head)):
		return f, err
	case err != nil && f == FormatAny:
		// A dying disk: the scan reads what can be read.
		f = FormatRaw
		in.notes = append(in.notes, fmt.Sprintf("its start cannot be read, so it is taken for a disk: %v", err))
	case f == FormatAny:
		if f, err = FormatOf(head); err != nil {
			return f, fmt.Errorf("%s %w", in.Src.Name(), err)
		}
	}
	if f == FormatQCOW2 && !hasMagic(head) {
		return f, fmt.Errorf("%s: %w", in.Src.Name(), qcow2.ErrNotQcow2)
	}
	return f, nil
}

// open opens the source as an image of a format.
func (in *Input) open(ctx context.Context, f Format, o Source) error {
	switch f {
	case FormatNormal:
		var err error
		if in.Normal, err = e2i.Open(in.Src, in.Src.Size()); err != nil {
			return fmt.Errorf("%s: %w", in.Src.Name(), err)
		}
	case FormatQCOW2:
		return in.openQCOW2(ctx, o)
	case FormatSparse:
		return in.openSparse(ctx)
	}
	return nil
}

func (in *Input) openQCOW2(ctx context.Context, o Source) error {
	if o.Salvage {
		return in.openSalvage(ctx, o)
	}
	name := in.Src.Name()
	opt := qcow2.OpenOptions{Unverified: true} // Input.verify does it
	if o.Backing {
		folder, err := openFolder(name)
		if err != nil {
			return err
		}
		defer folder.Close()
		opt.Backing = in.backingOpener(ctx, folder, ".", 1, false)
	}
	img, err := qcow2.Open(ctx, in.Src, in.Src.Size(), opt)
	if err != nil {
		return fmt.Errorf("%s: %w", name, Damaged(ctx, err, in.Src))
	}
	in.notes = append(in.notes, img.Notes()...)
	in.opened = append(in.opened, openedImage{name, img, in.Src})
	in.Guest = &Guest{img: img, name: name, behind: in.behind}
	return nil
}

// openStream opens the image that comes through a pipe.
func (in *Input) openStream(ctx context.Context, o Source) error {
	r := &endSeen{r: in.Src}
	img, err := qcow2.OpenStream(ctx, r, qcow2.OpenOptions{
		Unverified: true,
		Window:     int64(o.Threads) * 4 * ordered.DefaultChunkSize,
		Spool:      qcow2.SpoolOptions(o.Spool),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", in.Src.Name(), err)
	}
	if r.end {
		in.notes = append(in.notes, fmt.Sprintf("the image was read to its end first, into memory and a temporary file in %s: "+
			"its tables do not stand before its data", o.Spool.Folder()))
	}
	in.notes = append(in.notes, img.Notes()...)
	in.opened = append(in.opened, openedImage{in.Src.Name(), img.Image, nil})
	in.Guest = &Guest{img: img.Image, stream: img, name: in.Src.Name()}
	return nil
}

// An endSeen records whether the end was read.
type endSeen struct {
	r   io.Reader
	end bool
}

func (e *endSeen) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.end = e.end || errors.Is(err, io.EOF)
	return n, err
}
