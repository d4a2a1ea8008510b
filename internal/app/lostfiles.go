package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/dustin/go-humanize"

	"e2qcow/ext"
	"e2qcow/internal/advise"
	"e2qcow/internal/ranges"
	"e2qcow/internal/target"
	"e2qcow/scan"
	"e2qcow/scan/lost"
)

// LostFiles says where to list the files that unreadable places hit. The zero
// LostFiles lists none.
type LostFiles struct {
	Name string // a file, or "-"
	NUL  bool   // a NUL ends each line, and paths stand as they are
}

// On reports whether there is a list.
func (l LostFiles) On() bool { return l.Name != "" }

// Find returns the files on p that unreadable places hit: those that the scan and
// its view came to, those that the search did not read, and what lies behind the
// end of p. It returns nil if no list was requested.
func (l LostFiles) Find(ctx context.Context, p *Part, res *scan.Result, search Search) (*lost.Report, error) {
	if !l.On() || res == nil {
		return nil, nil
	}
	list := ranges.Join(slices.Concat(search.Scan.Bad, res.Unreadable(), []scan.Range{{Start: p.Disk.Size(), End: math.MaxInt64}}))
	r, err := lost.Find(ctx, res, list)
	if errors.Is(err, lost.ErrNoTables) {
		return nil, errNoTables
	}
	return r, err
}

var errNoTables = advise.New("the files that are hit are not known, because no superblock leads to inode tables",
	"name a backup superblock with -b and -B, or leave --lost-files out")

// write writes a line for each path of each file, with these columns between
// tabs: inode, type, size, bytes that are lost, parts that are lost, ranges as
// offset+length, path.
func (l LostFiles) write(w io.Writer, r *lost.Report) error {
	b := bufio.NewWriter(w)
	for i := range r.Files {
		f := &r.Files[i]
		paths := f.Paths
		if len(paths) == 0 {
			paths = []scan.Name{scan.Name(fmt.Sprintf("<%d>", f.Inode))}
		}
		for _, path := range paths {
			_, _ = fmt.Fprintf(b, "%d\t%s\t%d\t%d\t%s\t", f.Inode, lostType(f), f.Size, f.LostBytes, f.Parts)
			for k, r := range f.Lost {
				if k > 0 {
					_ = b.WriteByte(',')
				}
				_, _ = fmt.Fprintf(b, "%d+%d", r.Start, r.End-r.Start)
			}
			if len(f.Lost) == 0 {
				_ = b.WriteByte('-')
			}
			if l.NUL {
				_, _ = fmt.Fprintf(b, "\t%s\x00", []byte(path))
			} else {
				_, _ = fmt.Fprintf(b, "\t%s\n", path)
			}
		}
	}
	return b.Flush()
}

// lostType returns the name of a file type, as find -type and ls have them.
func lostType(f *lost.File) string {
	if isReserved(f) {
		return "reserved"
	}
	switch f.Type {
	case ext.ModeRegular:
		return "file"
	case ext.ModeDir:
		return "directory"
	case ext.ModeSymlink:
		return "symlink"
	case 0:
		return "unknown"
	}
	return "special"
}

// WriteLost writes the list of the files that are hit, if one was requested.
func (o *Output) WriteLost(l LostFiles, r *lost.Report) error {
	if o.Lost.to == nil || r == nil {
		return nil
	}
	return l.write(o.Lost.to, r)
}

// SayLost says how many files are hit. hint says how to learn more, "" if all is
// known.
func (s *Session) SayLost(in *Input, l LostFiles, r *lost.Report, hint string) {
	if r == nil || !l.On() {
		return
	}
	var files, dirs, reserved int64
	var size uint64
	for i := range r.Files {
		switch f := &r.Files[i]; {
		case isReserved(f):
			reserved++
		case f.Type == ext.ModeDir:
			dirs++
		default:
			files++
			size += f.LostBytes
		}
	}
	if hint != "" {
		hint = "; " + hint
	}
	made, _ := in.Made()
	switch {
	case files+dirs+reserved > 0:
		name := l.Name
		if target.IsStdout(name) {
			name = "standard output"
		}
		s.Say("%s of %s and entries of %s cannot be read: %s lists them%s",
			humanize.IBytes(size), advise.Count(files, "file"), advise.Count(dirs, "directory"), name, hint)
	case r.Unknown > 0:
		s.Say("nobody knows which files are hit: inodes cannot be read, nor which of them are in use")
	case made.Unreadable > 0:
		s.Say("nobody knows which files are hit: the image does not say where the blocks were that could not be read")
	default:
		s.Say("no file is hit by what cannot be read%s", hint)
	}
	if r.Unknown > 0 && files+dirs+reserved > 0 {
		s.Say("%s may lack files: of %s that cannot be read, nobody knows whether they are in use", l.Name, advise.Count(r.Unknown, "inode"))
	}
	if r.Omitted > 0 {
		s.Say("%s is not complete: there was no room for %s", l.Name, advise.Count(int64(r.Omitted), "entry"))
	}
	if r.Cut {
		s.Say("%s may not be complete: damage made the trees of files longer than they can be", l.Name)
	}
}

// isReserved reports whether an inode is one of the filesystem itself: the
// journal, quota, the resize inode.
func isReserved(f *lost.File) bool {
	return f.Inode < ext.GoodOldFirstInode && f.Inode != ext.RootInode
}

// jsonLostFiles is what --json says of the files that are hit.
type jsonLostFiles struct {
	Count   int            `json:"count"`
	Files   []jsonLostFile `json:"files"`
	Omitted int            `json:"omitted"`
	Unknown uint64         `json:"unknown_inodes"` // lost, and nobody knows whether they are in use
	Cut     bool           `json:"cut"`            // trees were longer than they can be
}

type jsonLostFile struct {
	Inode  uint32      `json:"inode"`
	Type   string      `json:"type"`
	Size   uint64      `json:"size"`
	Parts  []string    `json:"parts"`
	Lost   uint64      `json:"lost"` // bytes
	Ranges []jsonRange `json:"ranges"`
	Paths  []scan.Name `json:"paths,omitempty"` // none of a scrambled image
}

// lostOf returns the files that are hit. A record of a scrambled image has no
// paths: it is given away with the image.
func lostOf(r *lost.Report, paths bool) *jsonLostFiles {
	if r == nil {
		return nil
	}
	j := &jsonLostFiles{Count: len(r.Files), Files: []jsonLostFile{}, Omitted: r.Omitted, Unknown: r.Unknown, Cut: r.Cut}
	for i := range r.Files {
		f := &r.Files[i]
		it := jsonLostFile{Inode: f.Inode, Type: lostType(f), Size: f.Size, Parts: f.Parts.Names(), Lost: f.LostBytes, Ranges: []jsonRange{}}
		for _, r := range f.Lost {
			it.Ranges = append(it.Ranges, jsonRange(r))
		}
		if paths {
			it.Paths = f.Paths
		}
		j.Files = append(j.Files, it)
	}
	return j
}
