package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"e2qcow/ext"
	"e2qcow/internal/e2i"
	"e2qcow/internal/signature"
	"e2qcow/internal/source"
	"e2qcow/internal/spool"
	"e2qcow/qcow2"
)

// inspectFlags returns the flags of the commands that look at an image.
func inspectFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: flagJSON, Usage: "print a JSON object"},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
	}
}

const infoHelp = `Usage: e2qcow info IMAGE [--json]
Print what an image says of itself, how it was made, and the filesystem that is
in it.

`

// openImage opens the one operand of a command.
func openImage(c *cli.Context, command string) (*source.Source, error) {
	args := c.Args().Slice()
	if len(args) != 1 {
		return nil, usagef("%s needs one image, and nothing else", command)
	}
	src, err := source.Open(c.Context, args[0])
	if errors.Is(err, source.ErrDirectory) || errors.Is(err, source.ErrKind) || errors.Is(err, source.ErrEmpty) {
		return nil, &imageError{err}
	}
	if err == nil && src.IsPipe() {
		if err = src.Spool(c.Context, spool.Options{}, nil); err != nil {
			src.Close()
		}
	}
	return src, err
}

// An imageError is that of an operand in which there can be no image: a folder,
// a character device, an empty file.
type imageError struct{ err error }

func (e *imageError) Error() string { return e.err.Error() }
func (e *imageError) Unwrap() error { return e.err }

// notImage names src in an error of reading src as an image. It says what a
// source that is no image looks like, and what to do about that.
func notImage(src *source.Source, err error) error {
	found, ok, _ := signature.Find(src, src.Size())
	if !ok || !errors.Is(err, qcow2.ErrNotQcow2) {
		return fmt.Errorf("%s: %w", src.Name(), err)
	}
	err = fmt.Errorf("%s: %w; it looks like %s", src.Name(), err, found.Name)
	switch {
	case found.Name == signature.Normal:
		return err
	case found.Filesystem && found.Name != signature.Split:
		return fmt.Errorf("%w; name an image of it", err)
	case looks[found.Name] != "":
		return fmt.Errorf("%w; %s", err, looks[found.Name])
	}
	return err
}

// What info --json prints. Names are as lasting as those of jsonRecord.
type jsonInfo struct {
	Image        string          `json:"image"`
	FileSize     int64           `json:"file_size"`
	VirtualSize  int64           `json:"virtual_size"`
	Version      int             `json:"version"`
	ClusterSize  int64           `json:"cluster_size"`
	Compression  string          `json:"compression"` // of clusters that are compressed
	RefcountBits uint            `json:"refcount_bits"`
	ExtendedL2   bool            `json:"extended_l2"`
	Snapshots    uint32          `json:"snapshots"`
	Dirty        bool            `json:"dirty"`
	Corrupt      bool            `json:"corrupt"`
	BackingFile  string          `json:"backing_file,omitempty"`
	BackingFmt   string          `json:"backing_format,omitempty"`
	Unsupported  string          `json:"unsupported,omitempty"` // what keeps the disk from being read
	Made         *qcow2.Info     `json:"made,omitempty"`
	Filesystem   *jsonFilesystem `json:"filesystem,omitempty"`
	Content      string          `json:"content,omitempty"` // what there is in place of a filesystem
}

// info prints what there is to know of an image.
func (s *session) info(c *cli.Context) error {
	src, err := openImage(c, "info")
	if err != nil {
		return err
	}
	defer src.Close()
	head, err := src.Head(headSize)
	if err != nil {
		return err
	}
	if f, err := formatOf(head); err == nil && f == formatNormal {
		return s.infoNormal(src, c.Bool(flagJSON))
	}
	var i *jsonInfo
	img, err := qcow2.Open(src, src.Size(), qcow2.OpenOptions{})
	var unsupported *qcow2.UnsupportedError
	switch {
	case err == nil:
		i = describe(src, img.Header())
		err = i.lookInside(img)
	case errors.As(err, &unsupported) && unsupported.Header != nil:
		// What the header says is all there is to know; no other file is opened.
		i, err = describe(src, unsupported.Header), nil
		if unsupported.BackingFile == "" {
			i.Unsupported = unsupported.Feature
		}
	}
	if err != nil {
		return notImage(src, err)
	}
	if c.Bool(flagJSON) {
		return encodeJSON(s.stdout, i)
	}
	return i.print(s.stdout)
}

func describe(src *source.Source, h *qcow2.Header) *jsonInfo {
	i := &jsonInfo{
		Image:        src.Name(),
		FileSize:     src.Size(),
		VirtualSize:  h.Size,
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
	}
	return i
}

// lookInside finds out what the disk holds.
func (i *jsonInfo) lookInside(img *qcow2.Image) error {
	b := make([]byte, ext.SuperblockSize)
	n, err := img.ReadAt(b, ext.SuperblockOffset)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if sb, err := ext.DecodeSuperblock(b[:n]); err == nil {
		i.Filesystem = filesystemOf(sb)
		return nil
	}
	found, _, err := signature.Find(img, img.Size())
	i.Content = found.Name
	return err
}

// print writes a line for each thing. Text from the image is quoted.
func (i *jsonInfo) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s:\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("image", "%s", printable(i.Image))
	line("file size", "%s", exact(i.FileSize))
	line("virtual size", "%s", exact(i.VirtualSize))
	line("format", "qcow2 version %d, refcounts of %s", i.Version, count(i.RefcountBits, "bit"))
	line("compression", "%s, of clusters that are compressed", i.Compression)
	line("cluster size", "%d", i.ClusterSize)
	if i.ExtendedL2 {
		line("subclusters", "32 a cluster")
	}
	if i.Snapshots > 0 {
		line("snapshots", "%d", i.Snapshots)
	}
	var marks []string
	if i.Dirty {
		marks = append(marks, "dirty")
	}
	if i.Corrupt {
		marks = append(marks, "corrupt")
	}
	if len(marks) > 0 {
		line("marked", "%s", strings.Join(marks, ", "))
	}
	if i.Unsupported != "" {
		line("not supported", "%s", i.Unsupported)
	}
	if i.BackingFile != "" {
		line("backing file", "%q (not looked at)", i.BackingFile)
	}
	if i.BackingFmt != "" {
		line("backing format", "%q", i.BackingFmt)
	}
	if m := i.Made; m != nil {
		line("made by", "%q", m.Tool)
		line("mode", "%q", m.Mode)
		if m.Salt != "" {
			line("salt", "%q", m.Salt)
		}
		if m.BlockSize != 0 {
			line("block size", "%d", m.BlockSize)
		}
		line("unreadable blocks", "%d", m.Unreadable)
		if m.UUID != "" {
			line("installed UUID", "%q", m.UUID)
		}
		if !m.Time.IsZero() {
			line("made at", "%s", m.Time.UTC().Format(timeFormat))
		}
	}
	switch f := i.Filesystem; {
	case f != nil:
		f.print(line)
	case i.Content != "":
		line("content", "%s", i.Content)
	case i.BackingFile == "" && i.Unsupported == "":
		line("content", "nothing known")
	}
	return w.Flush()
}

// print writes what there is to know of a filesystem.
func (f *jsonFilesystem) print(line func(name, format string, args ...any)) {
	line("filesystem", "%s, %s: %d blocks of %d bytes", f.Type, size(f.Blocks, uint64(f.BlockSize)), f.Blocks, f.BlockSize)
	line("label", "%q", f.Label)
	line("UUID", "%s", f.UUID)
}

// What info --json prints of a normal image. Names are as lasting as those of
// jsonRecord.
type jsonNormal struct {
	Image       string          `json:"image"`
	FileSize    int64           `json:"file_size"`
	VirtualSize int64           `json:"virtual_size"`
	Format      string          `json:"format"` // e2image
	Hostname    string          `json:"hostname"`
	DeviceName  string          `json:"device_name"`
	Time        time.Time       `json:"time,omitzero"`
	Scrambled   bool            `json:"scrambled,omitempty"`
	Filesystem  *jsonFilesystem `json:"filesystem"`
}

// infoNormal prints what there is to know of a normal image.
func (s *session) infoNormal(src *source.Source, asJSON bool) error {
	img, err := e2i.Open(src, src.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", src.Name(), err)
	}
	from := img.Origin()
	i := &jsonNormal{
		Image:       src.Name(),
		FileSize:    src.Size(),
		VirtualSize: img.Size(),
		Format:      toNormal.name(),
		Hostname:    from.Hostname,
		DeviceName:  from.DeviceName,
		Time:        from.Time,
		Scrambled:   from.Scrambled,
		Filesystem:  filesystemOf(img.Superblock()),
	}
	if asJSON {
		return encodeJSON(s.stdout, i)
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s:\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("image", "%s", printable(i.Image))
	line("file size", "%s", exact(i.FileSize))
	line("virtual size", "%s", exact(i.VirtualSize))
	line("format", "%s", signature.Normal)
	line("made on", "%q", i.Hostname)
	line("made of", "%q", i.DeviceName)
	if !i.Time.IsZero() {
		line("made at", "%s", i.Time.Format(timeFormat))
	}
	if i.Scrambled {
		line("mode", "%q", infoScrambled)
	}
	i.Filesystem.print(line)
	return w.Flush()
}

// timeFormat is how times are printed, in UTC.
const timeFormat = "2006-01-02 15:04:05 MST"
