package diff

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// TextOptions say how much of a difference is written as text.
type TextOptions struct {
	Lines int  // at most so many in all; 0 is no bound
	List  int  // at most so many of each part; 0 is no bound
	All   bool // what only follows from other changes too
}

// WriteText writes a difference for people: a title for each part of the
// filesystem that differs, and a line for each change of it. Names are quoted,
// and what is not printable in them escaped. What is cut is counted.
func (d *Diff) WriteText(w io.Writer, opt TextOptions) error {
	parts := d.parts(opt)
	room := len(parts) // lines for each
	if opt.Lines > 0 {
		room = max(0, opt.Lines-len(parts))
	}
	b := bufio.NewWriter(w)
	shown := share(parts, room, opt)
	for i, p := range parts {
		if opt.Lines > 0 && i == opt.Lines-1 && len(parts) > opt.Lines {
			fmt.Fprintf(b, "and %d parts more\n", len(parts)-i)
			break
		}
		fmt.Fprintln(b, p.title)
		for k := range shown[i] {
			if rest := p.n - k; k == shown[i]-1 && rest > 1 {
				fmt.Fprintf(b, "  and %d more\n", rest)
				break
			}
			fmt.Fprintf(b, "  %s\n", p.line(k))
		}
	}
	return b.Flush()
}

// A part is a part of the text: a title and lines.
type part struct {
	title string
	n     int
	line  func(i int) string
}

// share returns how many lines each part gets of room.
func share(parts []part, room int, opt TextOptions) []int {
	shown := make([]int, len(parts))
	for i, p := range parts {
		shown[i] = p.n
		if opt.List > 0 {
			shown[i] = min(p.n, opt.List)
		}
	}
	if opt.Lines == 0 {
		return shown
	}
	want := shown
	shown = make([]int, len(parts))
	for more := true; more && room > 0; {
		more = false
		for i := range parts {
			if shown[i] < want[i] && room > 0 {
				shown[i]++
				room--
				more = true
			}
		}
	}
	return shown
}

// A list gathers parts.
type list struct {
	parts []part
	opt   TextOptions
}

// add adds a part unless it is empty.
func (l *list) add(n int, title string, line func(i int) string) {
	if n > 0 {
		l.parts = append(l.parts, part{title, n, line})
	}
}

// parts returns what there is to write.
func (d *Diff) parts(opt TextOptions) []part {
	l := &list{opt: opt}
	if d.Sizes[0] != d.Sizes[1] {
		l.parts = append(l.parts, part{title: fmt.Sprintf("size: %d -> %d bytes", d.Sizes[0], d.Sizes[1])})
	}
	for i, g := range d.SuperGroups {
		if g != 0 {
			l.parts = append(l.parts, part{title: fmt.Sprintf("the %s image is read by the copy of the superblock in group %d", sideName[i], g)})
		}
	}
	for i, n := range d.Unreadable {
		if n > 0 {
			l.parts = append(l.parts, part{title: fmt.Sprintf("unreadable: %d bytes of the %s image, taken as zero", n, sideName[i])})
		}
	}
	d.damageText(l)
	d.superText(l)
	d.groupText(l)
	d.inodeText(l)
	d.directoryText(l)
	d.useText(l)
	d.restText(l)
	d.blockText(l)
	return l.parts
}

var sideName = [...]string{"first", "second"}

func (d *Diff) damageText(l *list) {
	for _, came := range []bool{false, true} {
		word := "gone"
		if came {
			word = "new"
		}
		of := slices.DeleteFunc(slices.Clone(d.Damage), func(x Damage) bool { return x.Came != came })
		l.add(len(of), fmt.Sprintf("damage that is %s: %d", word, len(of)), func(i int) string { return Name(of[i].problem.String()).String() })
	}
}

func (d *Diff) superText(l *list) {
	fields := l.shown(d.Superblock)
	l.add(len(fields), "superblock", func(i int) string { return fieldText(fields[i]) })
	byKind := make(map[string]int)
	for _, c := range d.Copies {
		byKind[c.Kind]++
	}
	if n := len(d.Copies); n > 0 {
		var of []string
		for _, k := range slices.Sorted(maps.Keys(byKind)) {
			of = append(of, fmt.Sprintf("%s %d", k, byKind[k]))
		}
		title := "copies that differ: " + strings.Join(of, ", ")
		if l.opt.All {
			l.add(n, title, func(i int) string {
				c := d.Copies[i]
				return strings.TrimSpace(fmt.Sprintf("block %d, group %d: %s %s", c.Block, c.Group, c.Kind, fieldsText(c.Fields)))
			})
		} else {
			l.parts = append(l.parts, part{title: title})
		}
	}
}

func (d *Diff) groupText(l *list) {
	var shown []Group
	for _, g := range d.Groups {
		if g.Fields = l.shown(g.Fields); len(g.Fields) > 0 || g.Sums != nil {
			shown = append(shown, g)
		}
	}
	title := fmt.Sprintf("group descriptors: %d", len(d.Groups))
	if n := len(d.Groups) - len(shown); n > 0 {
		title += fmt.Sprintf(", %d of them only in counters and checksums that follow", n)
		if len(shown) == 0 {
			l.parts = append(l.parts, part{title: title})
		}
	}
	l.add(len(shown), title, func(i int) string {
		return fmt.Sprintf("group %d: %s", shown[i].Group, join(fieldsText(shown[i].Fields), sumsText(shown[i].Sums)))
	})
}

func (d *Diff) inodeText(l *list) {
	var shown []*Inode
	count := make(map[string]int)
	for _, it := range d.Inodes {
		count[it.What]++
		if it.What != Unused && (it.What != Changed || len(l.shown(it.Fields)) > 0 || it.Sums != nil || len(it.Map) > 0 || it.Target != nil || len(it.Xattrs) > 0 || it.Rest) || l.opt.All {
			shown = append(shown, it)
		}
	}
	var of []string
	for _, what := range []string{Created, Deleted, Changed, Unused} {
		if n := count[what]; n > 0 {
			of = append(of, fmt.Sprintf("%d %s", n, what))
		}
	}
	title := "inodes: " + strings.Join(of, ", ")
	if len(shown) == 0 && len(of) > 0 {
		l.parts = append(l.parts, part{title: title})
	}
	l.add(len(shown), title, func(i int) string { return shown[i].text(l) })
}

// text returns a line for an inode.
func (it *Inode) text(l *list) string {
	text := inodeName(it.Inode, it.Path)
	if it.What != Changed {
		text += " " + it.What
	}
	var parts []string
	if it.What == Changed || l.opt.All {
		parts = append(parts, fieldsText(l.shown(it.Fields)))
	} else if f, old, now := numbers(it.Fields, "i_mode"); f != nil {
		parts = append(parts, "i_mode "+modeText(old)+" -> "+modeText(now))
	}
	parts = append(parts, sumsText(it.Sums))
	if it.Target != nil {
		parts = append(parts, fmt.Sprintf("target %s -> %s", quoted(it.Target.Old), quoted(it.Target.New)))
	}
	parts = append(parts, mapText(it.Map, l.opt.All), xattrsText(it.Xattrs))
	if it.Rest {
		parts = append(parts, "other bytes differ")
	}
	if s := join(parts...); s != "" {
		text += ": " + s
	}
	return text
}

// mapText returns the parts of a file that lie elsewhere.
func mapText(list []Extent, all bool) string {
	const most = 3
	var parts []string
	for i, x := range list {
		if i == most && !all && len(list) > most+1 {
			parts = append(parts, fmt.Sprintf("and %d parts more", len(list)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("blocks %s: %s -> %s", span64(x.Logical, x.Count), placeText(x.Old, x.Count, x.OldUnwritten), placeText(x.New, x.Count, x.NewUnwritten)))
	}
	return join(parts...)
}

func placeText(start, count uint64, unwritten bool) string {
	switch {
	case start == 0:
		return "none"
	case unwritten:
		return span64(start, count) + " (unwritten)"
	}
	return span64(start, count)
}

func (d *Diff) directoryText(l *list) {
	count := make(map[string]int)
	for i := range d.Entries {
		count[d.Entries[i].What]++
	}
	var of []string
	for _, what := range []string{Added, Removed, Renamed, Retargeted} {
		if n := count[what]; n > 0 {
			of = append(of, fmt.Sprintf("%d %s", n, what))
		}
	}
	l.add(len(d.Entries), "directory entries: "+strings.Join(of, ", "), func(i int) string { return d.Entries[i].text() })
	l.add(len(d.Indexes), fmt.Sprintf("directory blocks, their indexes and checksums: %d", len(d.Indexes)), func(i int) string {
		x := d.Indexes[i]
		entries := ""
		if x.Entries > 0 {
			entries = fmt.Sprintf("%d index entries", x.Entries)
		}
		return fmt.Sprintf("block %d of %s: %s", x.Block, inodeName(x.Directory, x.Path), join(fieldsText(x.Fields), entries, sumsText(x.Sums)))
	})
}

// text returns a line for an entry.
func (e *Entry) text() string {
	in := func(dir uint32, path, name Name) string {
		if path == "" {
			return fmt.Sprintf("%s in directory %d", quoted(name), dir)
		}
		return quoted(Name(strings.TrimSuffix(string(path), "/")) + "/" + name)
	}
	switch e.What {
	case Renamed:
		return fmt.Sprintf("renamed %s -> %s (inode %d)", in(e.OldDirectory, e.OldPath, e.OldName), in(e.Directory, e.Path, e.Name), e.Inode)
	case Retargeted:
		text := fmt.Sprintf("retargeted %s: inode %d -> %d", in(e.Directory, e.Path, e.Name), e.OldInode, e.Inode)
		if e.OldInode == e.Inode {
			text = fmt.Sprintf("retargeted %s (inode %d)", in(e.Directory, e.Path, e.Name), e.Inode)
		}
		if e.OldType != e.Type {
			text += fmt.Sprintf(", file type %d -> %d", e.OldType, e.Type)
		}
		return text
	}
	return fmt.Sprintf("%s %s (inode %d)", e.What, in(e.Directory, e.Path, e.Name), e.Inode)
}

func (d *Diff) useText(l *list) {
	for _, used := range []bool{true, false} {
		word, had := "free", "of "
		if used {
			word = "used"
		} else {
			had = "was of "
		}
		var n uint64
		var of []BlockUse
		for _, u := range d.BlockUse {
			if u.Used == used {
				of = append(of, u)
				n += u.Count
			}
		}
		l.add(len(of), fmt.Sprintf("blocks that became %s: %d", word, n), func(i int) string {
			text := span64(of[i].Start, of[i].Count)
			if o := of[i].Owner; o != nil {
				if o.Kind != "" {
					text += ", " + o.Kind
				}
				if o.Inode != 0 {
					text += ", " + had + inodeName(o.Inode, o.Path)
				}
			}
			return text
		})
		var inodes []InodeUse
		n = 0
		for _, u := range d.InodeUse {
			if u.Used == used {
				inodes = append(inodes, u)
				n += uint64(u.Count)
			}
		}
		l.add(len(inodes), fmt.Sprintf("inodes that became %s in the bitmap: %d", word, n), func(i int) string {
			text := span64(uint64(inodes[i].Start), uint64(inodes[i].Count))
			if inodes[i].Path != "" {
				text += " " + quoted(inodes[i].Path)
			}
			return text
		})
	}
}

func (d *Diff) restText(l *list) {
	l.add(len(d.Attributes), fmt.Sprintf("blocks of extended attributes: %d", len(d.Attributes)), func(i int) string {
		a := d.Attributes[i]
		of := ""
		if a.Inode != 0 {
			of = " of " + inodeName(a.Inode, a.Path)
		}
		return fmt.Sprintf("block %d%s: %s", a.Block, of, join(fieldsText(l.shown(a.Fields)), xattrsText(a.Xattrs), sumsText(a.Sums)))
	})
	l.add(len(d.Symlinks), fmt.Sprintf("targets of symlinks: %d", len(d.Symlinks)), func(i int) string {
		s := d.Symlinks[i]
		return fmt.Sprintf("block %d: %s -> %s", s.Block, quoted(s.Old), quoted(s.New))
	})
	if j := d.Journal; j != nil {
		var lines []string
		for _, f := range l.shown(j.Fields) {
			lines = append(lines, fieldText(f))
		}
		if j.Log[0] != nil && j.Log[1] != nil && *j.Log[0] != *j.Log[1] {
			lines = append(lines, fmt.Sprintf("to replay: %s -> %s", j.Log[0].text(), j.Log[1].text()))
		}
		title := "journal"
		if j.Blocks > 0 {
			title = fmt.Sprintf("journal: %d blocks", j.Blocks)
		}
		l.add(len(lines), title, func(i int) string { return lines[i] })
		if len(lines) == 0 {
			l.parts = append(l.parts, part{title: title})
		}
	}
	l.add(len(d.Orphans), fmt.Sprintf("orphans: %d", len(d.Orphans)), func(i int) string {
		word := "no longer an orphan"
		if d.Orphans[i].Came {
			word = "an orphan now"
		}
		return inodeName(d.Orphans[i].Inode, d.Orphans[i].Path) + " is " + word
	})
	l.add(len(d.Quota), fmt.Sprintf("quota: %d", len(d.Quota)), func(i int) string {
		q := d.Quota[i]
		return fmt.Sprintf("%s %d %s: %s", q.Type, q.ID, q.What, fieldsText(q.Fields))
	})
	l.add(len(d.MMP), "multi-mount protection", func(i int) string { return fieldText(d.MMP[i]) })
}

func (s *LogState) text() string {
	text := fmt.Sprintf("%d transactions, %d blocks", s.Transactions, s.Blocks)
	if s.FastCommits > 0 {
		text += fmt.Sprintf(", %d blocks of fast commits", s.FastCommits)
	}
	if s.Error != "" {
		text += " (" + Name(s.Error).String() + ")"
	}
	return text
}

func (d *Diff) blockText(l *list) {
	if d.Blocks == 0 {
		return
	}
	kinds := slices.SortedFunc(maps.Keys(d.Kinds), func(a, b string) int {
		return cmp.Or(-cmp.Compare(d.Kinds[a], d.Kinds[b]), cmp.Compare(a, b))
	})
	var of []string
	for _, k := range kinds {
		of = append(of, fmt.Sprintf("%s %d", k, d.Kinds[k]))
	}
	l.parts = append(l.parts, part{title: fmt.Sprintf("blocks that differ, of %d bytes: %d (%s)", d.BlockSize, d.Blocks, strings.Join(of, ", "))})
	if len(d.Omitted) > 0 {
		of = of[:0]
		for _, k := range slices.Sorted(maps.Keys(d.Omitted)) {
			of = append(of, fmt.Sprintf("%s %d", k, d.Omitted[k]))
		}
		l.parts = append(l.parts, part{title: "changes beyond what is kept: " + strings.Join(of, ", ")})
	}
}
