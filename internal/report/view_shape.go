package report

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"e2qcow/internal/advise"
	"e2qcow/scan/survey"
)

type bucketRow struct{ Name, Count string }

type largestRow struct{ Value, Who string }

type shapeView struct {
	ID, Title, Median, MedianOf, Note, Rows, Counted, LargestOf string
	Picture                                                     template.HTML
	Axis                                                        []string
	Largest                                                     []largestRow
	Buckets                                                     []bucketRow
}

// shapes fills in the histograms.
func (r *Report) shapes(p *page) {
	s := &r.Shape
	var types []string
	for _, name := range [][2]string{
		{"regular files", "regular file"}, {"directories", "directory"}, {"symlinks", "symlink"}, {"devices", "device"},
		{"pipes and sockets", "pipe or socket"}, {"attribute values", "attribute value"},
	} {
		switch n := s.Types[name[0]]; n {
		case 0:
		case 1:
			types = append(types, "1 "+name[1])
		default:
			types = append(types, advise.Comma(n)+" "+name[0])
		}
	}
	p.Types = strings.Join(types, ", ")
	sampled := ""
	if s.Sample > 1 {
		sampled = fmt.Sprintf(" From a sample of one in %d.", s.Sample)
	}
	count := advise.Comma[uint64]
	blocks := func(v uint64) string { return r.size(v) }
	p.add(r, histogram{id: "free-runs", title: "Free space by length of run", of: s.FreeRuns, what: "run", value: blocks,
		median: "is the median of runs of free blocks", largest: "The longest runs"})
	p.add(r, histogram{id: "sizes", title: "Sizes of files", of: s.Sizes, what: "file", value: func(v uint64) string { return advise.Size(v, 1) },
		median: "is the median size of a regular file", largest: "The largest files"})
	note := sampled
	if s.Mapped > 0 {
		note += fmt.Sprintf(" %s with block maps are not counted.", advise.Count(s.Mapped, "file"))
	}
	p.add(r, histogram{id: "extents", title: "Extents of files", of: s.Extents, what: "file", value: count, note: note,
		median: "is the median of extents of a file", largest: "The files with most extents"})
	p.add(r, histogram{id: "entries", title: "Entries of directories", of: s.Entries, what: "directory", value: count, note: sampled,
		median: "is the median of entries of a directory", largest: "The largest directories"})
	if s.DepthKnown {
		p.add(r, histogram{id: "depths", title: "Depth of directories", of: s.Depths, what: "directory", value: count, linear: true,
			median: "is the median of directories above one", largest: "The deepest directories"})
	}
	note = ""
	if s.Future > 0 {
		note = fmt.Sprintf(" %s younger than that.", advise.Count(s.Future, "file"))
	}
	if !s.Reference.IsZero() {
		p.add(r, histogram{id: "ages", title: "Ages of files", of: s.Ages, what: "file", value: hours, note: note,
			median: "before the last write to the filesystem is the median of modifications", largest: "The oldest files"})
	}
	r.inodeUse(p)
}

// hours returns a length of time in hours for people.
func hours(h uint64) string {
	const day, year = 24, 24 * 365
	switch {
	case h >= 2*year:
		return fmt.Sprintf("%.1f years", float64(h)/year)
	case h >= 2*day:
		return fmt.Sprintf("%.0f days", float64(h)/day)
	}
	return advise.Count(h, "hour")
}

// A histogram is what is said of a survey.Histogram.
type histogram struct {
	id, title, what, median, largest, note string

	of     *survey.Histogram
	value  func(uint64) string
	linear bool
}

// add adds the picture of a histogram, unless nothing was counted.
func (p *page) add(_ *Report, h histogram) {
	if h.of == nil || h.of.Count == 0 {
		return
	}
	v := shapeView{
		ID: h.id, Title: h.title, Median: h.value(h.of.Median), MedianOf: h.median, LargestOf: h.largest,
		Rows: "Value", Counted: plural(h.what),
		Note: fmt.Sprintf("%s.%s", advise.Count(h.of.Count, h.what), h.note),
	}
	list := h.of.Buckets
	first := slices.IndexFunc(list, func(n uint64) bool { return n > 0 })
	if first > 1 {
		first--
	}
	values := make([]float64, 0, len(list))
	for b := max(first, 0); b < len(list); b++ {
		values = append(values, float64(list[b]))
		v.Buckets = append(v.Buckets, bucketRow{rangeName(b, h.value), advise.Comma(list[b])})
	}
	v.Picture = drawBars(h.title+". The table below has the same in numbers.", values, "bar")
	v.Axis = []string{h.value(lowest(max(first, 0))), h.value(lowest((max(first, 0) + len(list)) / 2)), h.value(lowest(len(list)))}
	if len(values) < 3 {
		v.Axis = []string{v.Axis[0], v.Axis[2]}
	}
	for _, l := range h.of.Largest {
		v.Largest = append(v.Largest, largestRow{h.value(l.Value), who(l)})
	}
	p.Shapes = append(p.Shapes, v)
}

func who(l survey.Largest) string {
	switch {
	case l.Path != "":
		return shown(l.Path)
	case l.Inode != 0:
		return fmt.Sprintf("inode %d", l.Inode)
	}
	return fmt.Sprintf("from block %d", l.Block)
}

// lowest returns the least value of a bucket.
func lowest(b int) uint64 {
	if b == 0 {
		return 0
	}
	return 1 << (b - 1)
}

// rangeName names the values of a bucket.
func rangeName(b int, value func(uint64) string) string {
	low, next := lowest(b), lowest(b+1)
	if next-low <= 1 {
		return value(low)
	}
	return value(low) + " to below " + value(next)
}

func plural(what string) string {
	if what == "directory" {
		return "Directories"
	}
	return strings.ToUpper(what[:1]) + what[1:] + "s"
}

// inodeUse adds the picture of the inodes in use by group.
func (r *Report) inodeUse(p *page) {
	list := r.Shape.Inodes
	if len(list) == 0 {
		return
	}
	v := shapeView{ID: "inode-use", Title: "Inodes in use by group", Rows: "From group", Counted: "In use"}
	values := make([]float64, len(list))
	used, total := uint64(0), uint64(0)
	for i, u := range list {
		used, total = used+u.Used, total+u.Total
		values[i] = float64(u.Used) / float64(max(u.Total, 1))
		v.Buckets = append(v.Buckets, bucketRow{advise.Comma(uint64(u.Group)), fmt.Sprintf("%s (%s)", advise.Comma(u.Used), percent(u.Used, u.Total))})
	}
	v.Median, v.MedianOf = percent(used, total), "of all inodes are in use, by the bitmaps"
	v.Picture = drawBars("Inodes in use by group. The table below has the same in numbers.", values, "bar")
	v.Axis = []string{"group 0", "group " + advise.Comma(uint64(max(r.Groups, 1)-1))}
	v.Note = fmt.Sprintf("The highest bar is %s.", percent(uint64(1e6*slices.Max(values)), 1e6))
	p.Shapes = append(p.Shapes, v)
}
