package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/signature"
)

// timeFormat is how times are printed, in UTC.
const timeFormat = "2006-01-02 15:04:05 MST"

// A liner prints a line of a name and what is said of it.
type liner func(name, format string, args ...any)

// print writes a line for each thing, on one screen. Text from the image is
// quoted.
func (i *jsonInfo) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		if name != "" { // else the line goes on with the one before
			name += ":"
		}
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("image", "%s", advise.Printable(i.Image))
	if i.Format == "raw" {
		line("size", "%s", advise.Exact(i.FileSize))
	} else {
		line("file size", "%s", advise.Exact(i.FileSize))
		line("virtual size", "%s", advise.Exact(i.VirtualSize))
	}
	if q := i.jsonQCOW2; q != nil {
		q.print(line)
	}
	if n := i.jsonNormal; n != nil {
		line("format", "%s", signature.Normal)
		line("made on", "%q", n.Hostname)
		line("made of", "%q", n.DeviceName)
		if !n.Time.IsZero() {
			line("made at", "%s", n.Time.UTC().Format(timeFormat))
		}
		if i.Scrambled {
			line("mode", "%q", app.Scrambled)
		}
	}
	if s := i.jsonSparse; s != nil {
		line("format", "%s, %s in blocks of %s", signature.Sparse, advise.Count(uint64(s.Chunks), "chunk"), advise.Size(uint64(s.Unit), 1))
		if s.Checksum {
			line("checksum", "yes; e2qcow check compares it")
		}
	}
	if p := i.Part; p != nil {
		line("part", "%s, %s at byte %d", advise.Printable(p.Name), advise.Size(uint64(p.Size), 1), p.Offset)
	}
	switch f := i.Filesystem; {
	case f != nil:
		printFilesystem(f, line)
	case i.Content != "":
		line("content", "%s", i.Content)
		if i.Hint != "" {
			line("hint", "%s", i.Hint)
		}
		if i.Sectors != "" {
			line("sectors", "%s", i.Sectors)
		}
	case i.Unread != "":
		line("content", "not known: %s", advise.Printable(i.Unread))
	case i.jsonQCOW2 == nil || i.BackingFile == "" && i.Unsupported == "":
		line("content", "nothing known")
	}
	printPartitions(i.Partitions, line)
	if i.jsonLost != nil {
		i.jsonLost.write(typed(i.Image), line)
	}
	return w.Flush()
}

// print writes what there is of a qcow2 image.
func (q *jsonQCOW2) print(line liner) {
	line("format", "qcow2 version %d, clusters of %s", q.Version, advise.Size(uint64(q.ClusterSize), 1))
	if n := q.Clusters; n != nil && n.Compressed > 0 {
		line("compressed", "%s of %s, %s", advise.Comma(n.Compressed), advise.Count(n.Compressed+n.Plain, "cluster"), q.Compression)
	}
	var marks []string
	if q.ExtendedL2 {
		marks = append(marks, "subclusters")
	}
	if q.Snapshots > 0 {
		marks = append(marks, advise.Count(uint64(q.Snapshots), "snapshot"))
	}
	if q.Dirty {
		marks = append(marks, "marked dirty")
	}
	if q.Corrupt {
		marks = append(marks, "marked corrupt")
	}
	if len(marks) > 0 {
		line("has", "%s", strings.Join(marks, ", "))
	}
	if q.Unsupported != "" {
		line("not supported", "%s", q.Unsupported)
	}
	if q.BackingFile != "" {
		text := fmt.Sprintf("%q", q.BackingFile)
		if q.BackingFmt != "" {
			text += fmt.Sprintf(", format %q", q.BackingFmt)
		}
		line("backing file", "%s (not looked at)", text)
	}
	if m := q.Made; m != nil {
		text := fmt.Sprintf("%q", m.Tool)
		if !m.Time.IsZero() {
			text += " at " + m.Time.UTC().Format(timeFormat)
		}
		line("made by", "%s", text)
		text = fmt.Sprintf("%q", m.Mode)
		if m.Salt != "" {
			text += fmt.Sprintf(", salt %q", m.Salt)
		}
		if m.UUID != "" {
			text += fmt.Sprintf(", UUID %q was installed", m.UUID)
		}
		line("mode", "%s", text)
	}
	switch {
	case q.Complete:
		line("complete", "yes")
	case q.Unsupported == "" && q.BackingFile == "":
		line("complete", "no: %s", advise.Printable(q.Incomplete))
	}
	if q.Salvage != nil {
		line("salvage", "%s", q.Salvage)
	}
}

// printFilesystem writes what there is to know of a filesystem.
func printFilesystem(f *app.Description, line liner) {
	line("filesystem", "%s, %s", f.Type, advise.Size(f.Blocks, uint64(f.BlockSize)))
	line("label", "%q", f.Label)
	line("UUID", "%s", f.UUID)
	printFeatures(f.Features, line)
	if f.Type == "jbd" {
		return
	}
	layout := fmt.Sprintf("blocks of %s, %s", advise.Size(uint64(f.BlockSize), 1), advise.Count(uint64(f.Groups), "group"))
	if f.FlexGroups > 1 {
		layout += fmt.Sprintf(" (%d to a flex_bg)", f.FlexGroups)
	}
	if int64(f.ClusterSize) > f.BlockSize {
		layout += fmt.Sprintf(", allocated by %s", advise.Size(uint64(f.ClusterSize), 1))
	}
	line("layout", "%s, inodes of %d bytes", layout, f.InodeSize)
	line("state", "%s", strings.Join(f.State, ", "))
	if f.ErrorCount > 0 || f.FirstError != nil || f.LastError != nil {
		line("errors", "%s", advise.Comma(uint64(f.ErrorCount)))
		printError("first error", f.FirstError, line)
		printError("last error", f.LastError, line)
	}
	line("in use", "%s of %s blocks, %s of %s inodes", used(f.Blocks, f.BlocksFree), advise.Comma(f.Blocks),
		used(uint64(f.Inodes), uint64(f.InodesFree)), advise.Comma(uint64(f.Inodes)))
	if j := f.JournalHead; j != nil {
		line("journal", "%s", journalText(j))
	}
	mounts := advise.Count(uint64(f.MountCount), "mount") + " since the last check"
	if f.MountsToGo > 0 {
		mounts += fmt.Sprintf(", a check after %d", f.MountsToGo)
	}
	on := ""
	if f.MountedOn != "" {
		on = fmt.Sprintf(" on %q", f.MountedOn)
	}
	line("last mount", "%s%s; %s", moment(f.LastMount), on, mounts)
	line("last check", "%s", moment(f.LastCheck))
	line("last write", "%s", moment(f.LastWrite))
	age := ""
	if f.LastWrite.After(f.Created) && !f.Created.IsZero() {
		age = fmt.Sprintf(", %s before the last write", days(f.LastWrite.Sub(f.Created)))
	}
	line("created", "%s%s", moment(f.Created), age)
}

// used returns how many of all are, "?" where the count of free ones is wrong.
func used(all, free uint64) string {
	if free > all {
		return "?"
	}
	return advise.Comma(all - free)
}

// printFeatures writes the names of features, in lines that fit a terminal.
func printFeatures(names []string, line liner) {
	const width = 64
	title, text := "features", ""
	for _, name := range names {
		if text != "" && len(text)+1+len(name) > width {
			line(title, "%s", text)
			title, text = "", ""
		}
		text = strings.TrimSpace(text + " " + name)
	}
	line(title, "%s", text)
}

func printError(name string, e *app.FSError, line liner) {
	if e == nil {
		return
	}
	text := fmt.Sprintf("%s in %q, line %d", moment(e.Time), e.Function, e.Line)
	if e.Inode != 0 {
		text += fmt.Sprintf(", inode %d", e.Inode)
	}
	if e.Block != 0 {
		text += fmt.Sprintf(", block %d", e.Block)
	}
	line(name, "%s", text)
}

func journalText(j *app.Journal) string {
	var parts []string
	switch {
	case j.External:
		parts = append(parts, "on another device")
	case j.Unread != "":
		parts = append(parts, "not known: "+j.Unread)
	default:
		parts = append(parts, advise.Count(uint64(j.Blocks), "block"))
	}
	switch {
	case j.Replay:
		parts = append(parts, "to be replayed")
	case j.Unread == "":
		parts = append(parts, "nothing to replay")
	}
	if j.Errno != 0 {
		parts = append(parts, fmt.Sprintf("aborted with error %d", j.Errno))
	}
	return strings.Join(parts, ", ")
}

// moment returns a time, or that there is none.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(timeFormat)
}

// days returns a length of time for people.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	switch n := uint64(d / day); {
	case n >= 2*365:
		return advise.Count(n/365, "year")
	case n >= 1:
		return advise.Count(n, "day")
	}
	return d.Round(time.Second).String()
}

// printPartitions writes a line for each of the first partitions of a disk.
func printPartitions(list []app.Partition, line liner) {
	const most = 12
	for k, p := range list {
		if k == most {
			line("", "and %d more", len(list)-k)
			return
		}
		content := p.Content
		if content == "" {
			content = "nothing known"
		}
		line(fmt.Sprintf("partition %d", p.Number), "%s at byte %d, %s", advise.Size(uint64(p.Size), 1), p.Offset, content)
		if p.Hint != "" {
			line("", "%s", p.Hint)
		}
	}
}
