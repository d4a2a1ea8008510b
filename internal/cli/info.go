package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"e2qcow/ext"
	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/e2i"
	"e2qcow/internal/signature"
	"e2qcow/internal/source"
	"e2qcow/qcow2"
)

const infoHelp = `Usage: e2qcow info IMAGE [--json]
Print what an image says of itself, how it was made, and the filesystem that is
in it.

`

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
	Filesystem   *app.Filesystem `json:"filesystem,omitempty"`
	Content      string          `json:"content,omitempty"` // what there is in place of a filesystem
}

// info prints what there is to know of an image.
func (t *Tool) info(c *cli.Context) error {
	src, err := openImage(c, "info")
	if err != nil {
		return err
	}
	defer src.Close()
	head, err := src.Head(app.HeadSize)
	if err != nil {
		return err
	}
	if f, err := app.FormatOf(head); err == nil && f == app.FormatNormal {
		return t.infoNormal(src, c.Bool(flagJSON))
	}
	var i *jsonInfo
	img, err := qcow2.Open(c.Context, src, src.Size(), qcow2.OpenOptions{Unverified: true})
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
		return app.EncodeJSON(t.Stdout, i)
	}
	return i.print(t.Stdout)
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
		i.Filesystem = app.FilesystemOf(sb)
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
	line("image", "%s", advise.Printable(i.Image))
	line("file size", "%s", advise.Exact(i.FileSize))
	line("virtual size", "%s", advise.Exact(i.VirtualSize))
	line("format", "qcow2 version %d, refcounts of %s", i.Version, advise.Count(i.RefcountBits, "bit"))
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
		printFilesystem(f, line)
	case i.Content != "":
		line("content", "%s", i.Content)
	case i.BackingFile == "" && i.Unsupported == "":
		line("content", "nothing known")
	}
	return w.Flush()
}

// printFilesystem writes what there is to know of a filesystem.
func printFilesystem(f *app.Filesystem, line func(name, format string, args ...any)) {
	line("filesystem", "%s, %s: %d blocks of %d bytes", f.Type, advise.Size(f.Blocks, uint64(f.BlockSize)), f.Blocks, f.BlockSize)
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
	Filesystem  *app.Filesystem `json:"filesystem"`
}

// infoNormal prints what there is to know of a normal image.
func (t *Tool) infoNormal(src *source.Source, asJSON bool) error {
	img, err := e2i.Open(src, src.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", src.Name(), err)
	}
	from := img.Origin()
	i := &jsonNormal{
		Image:       src.Name(),
		FileSize:    src.Size(),
		VirtualSize: img.Size(),
		Format:      "e2image",
		Hostname:    from.Hostname,
		DeviceName:  from.DeviceName,
		Time:        from.Time,
		Scrambled:   from.Scrambled,
		Filesystem:  app.FilesystemOf(img.Superblock()),
	}
	if asJSON {
		return app.EncodeJSON(t.Stdout, i)
	}
	w := tabwriter.NewWriter(t.Stdout, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s:\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("image", "%s", advise.Printable(i.Image))
	line("file size", "%s", advise.Exact(i.FileSize))
	line("virtual size", "%s", advise.Exact(i.VirtualSize))
	line("format", "%s", signature.Normal)
	line("made on", "%q", i.Hostname)
	line("made of", "%q", i.DeviceName)
	if !i.Time.IsZero() {
		line("made at", "%s", i.Time.Format(timeFormat))
	}
	if i.Scrambled {
		line("mode", "%q", app.Scrambled)
	}
	printFilesystem(i.Filesystem, line)
	return w.Flush()
}

// timeFormat is how times are printed, in UTC.
const timeFormat = "2006-01-02 15:04:05 MST"
