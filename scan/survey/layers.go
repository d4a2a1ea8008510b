package survey

import (
	"iter"

	"e2qcow/scan"
)

// A layer yields the runs of blocks of one class, ascending.
type layer struct {
	next  func() (run, bool)
	run   run // the one that is not yet behind the groups
	ok    bool
	stop  func()
	fixed bool // it is where descriptors say, not where files lie
}

type run struct {
	start, end uint64
	class      Class
}

// A piece is what a layer has in a group.
type piece struct {
	run
	fixed bool
}

func newLayer(runs iter.Seq[run], fixed bool) layer {
	next, stop := iter.Pull(runs)
	l := layer{fixed: fixed, stop: stop, next: next}
	l.run, l.ok = next()
	return l
}

func (w *walk) stop() {
	for i := range w.layers {
		w.layers[i].stop()
	}
}

func each(list blocks, class Class) iter.Seq[run] {
	return func(yield func(run) bool) {
		for _, r := range list {
			if !yield(run{r.Start, r.End, class}) {
				return
			}
		}
	}
}

// heads yields what groups begin with.
func (s *survey) heads() iter.Seq[run] {
	return func(yield func(run) bool) {
		for g := range s.groups {
			start := s.geo.GroupFirstBlock(g)
			if n := min(s.geo.GroupHead(g), s.geo.BlocksCount-start); n > 0 && !yield(run{start, start + n, Super}) {
				return
			}
		}
	}
}

// classOf returns the class of blocks that the scan found to be structure.
func classOf(k scan.Kind) (Class, bool) {
	switch k {
	case scan.Superblock, scan.GroupDescs:
		return Super, true
	case scan.BlockBitmap, scan.InodeBitmap:
		return Bitmaps, true
	case scan.InodeTable:
		return Tables, true
	case scan.Journal:
		return JournalLog, true
	case scan.Claimed, scan.FileData:
		return 0, false
	}
	return Trees, true
}

// mapped yields what the scan found.
func (s *survey) mapped() iter.Seq[run] {
	ratio := s.bs / uint64(s.res.BlockSize())
	return func(yield func(run) bool) {
		for r := range s.res.Map.Runs() {
			class, ok := classOf(r.Kind)
			if ok && !yield(run{r.Start / ratio, (r.Start + r.Count + ratio - 1) / ratio, class}) {
				return
			}
		}
	}
}

// cut takes in what the layers have in the blocks [start, end).
func (w *walk) cut(start, end uint64) {
	w.pieces = w.pieces[:0]
	for k := range w.layers {
		l := &w.layers[k]
		for l.ok && l.run.start < end {
			if from, to := max(l.run.start, start), min(l.run.end, end); from < to {
				w.pieces = append(w.pieces, piece{run{from, to, l.run.class}, l.fixed})
			}
			if l.run.end > end {
				break
			}
			l.run, l.ok = l.next()
		}
	}
}
