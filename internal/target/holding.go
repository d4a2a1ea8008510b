package target

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"e2qcow/internal/partition"
	"e2qcow/internal/signature"

	"golang.org/x/sys/unix"
)

// A Holding is something known that lies on a target: a filesystem, or what
// holds or is a part of one.
type Holding struct {
	Name       string // "an XFS filesystem"
	Start, End int64  // offsets of the target; what begins before it is negative
}

// How a range is searched for the starts of filesystems that nothing leads to.
const (
	searchStep   = 1 << 20  // what partitioning tools align to
	searchPlaces = 512      // of a longer range, fewer than all are looked at
	searchSize   = 72 << 10 // what is read of each place
	oldStart     = 63 * 512 // where the first partition began on old disks
)

// Holdings returns what is known to take any of n bytes from off of the target,
// in ascending order: what begins with its first byte, at a partition, at off, or
// at a multiple of a MiB behind that, as far as its own superblock says. What
// does not say how large it is reaches to the end of its partition, or of the
// target. Partition tables are those of Table.
func (t *Target) Holdings(off, n int64) ([]Holding, error) {
	h := holdings{t: t, start: t.base + off, size: t.base + t.size}
	if t.kind == InPlace { // which may end before base
		info, err := t.f.Stat()
		if err != nil {
			return nil, t.named("stat", err)
		}
		h.size = info.Size()
	}
	if h.end = h.size; n < h.size-h.start {
		h.end = h.start + n
	}
	if h.start >= h.end {
		return nil, nil
	}
	if err := h.find(); err != nil {
		return nil, err
	}
	for i := range h.list {
		h.list[i].Start -= t.base
		h.list[i].End -= t.base
	}
	return h.list, nil
}

// CheckPlace refuses to write over what is known to take any of n bytes from off
// of the target, unless excused says that it may go.
func (t *Target) CheckPlace(off, n int64, excused func(Holding) bool) error {
	list, err := t.Holdings(off, n)
	if err != nil {
		return err
	}
	for _, h := range list {
		if !excused(h) {
			return fmt.Errorf("%s %w: %s lies from byte %d to byte %d, where bytes %d to %d would be written", t.name, ErrHoldsFilesystem,
				h.Name, t.base+h.Start, t.base+h.End-1, t.base+off, t.base+off+n-1)
		}
	}
	return nil
}

// holdings is a search; its offsets are those of the file or device.
type holdings struct {
	t          *Target
	size       int64
	start, end int64 // of what would be written
	list       []Holding
}

func (h *holdings) find() error {
	table, err := h.t.Table()
	if err != nil {
		return err
	}
	limit := func(at int64) int64 {
		end := h.size
		for _, p := range table.Partitions {
			if start := p.Start + h.t.base; start <= at && at < start+p.Size {
				end = min(end, start+p.Size)
			}
		}
		return end
	}
	places := []int64{0, oldStart, h.start}
	inside := h.size // where the first filesystem on a partition begins
	for _, p := range table.Partitions {
		places = append(places, p.Start+h.t.base)
	}
	slices.Sort(places)
	places = slices.Compact(places)
	// From the last to the first, so that what is found in partitions is known
	// when the start of the disk is looked at.
	for _, at := range slices.Backward(places) {
		found, ok, err := h.at(at, limit(at))
		switch {
		case err != nil:
			return err
		case !ok:
		case at == 0 && inside < found.End:
			// It is what was there before the disk had partitions.
		default:
			if slices.ContainsFunc(table.Partitions, func(p partition.Partition) bool { return p.Start+h.t.base == at && at > 0 }) {
				inside = at
			}
			h.add(found)
		}
	}
	if err := h.search(places, limit); err != nil {
		return err
	}
	slices.SortFunc(h.list, func(a, b Holding) int { return int(max(min(a.Start-b.Start, 1), -1)) })
	return nil
}

// add keeps what lies where something would be written.
func (h *holdings) add(found Holding) {
	if found.Start < h.end && h.start < found.End {
		h.list = append(h.list, found)
	}
}

// at returns what begins at a byte, and ends at limit at the latest.
func (h *holdings) at(at, limit int64) (Holding, bool, error) {
	if at >= limit {
		return Holding{}, false, nil
	}
	r := io.NewSectionReader(h.t.f, at, limit-at)
	s, ok, err := signature.Find(r, r.Size())
	if err != nil || !ok {
		return Holding{}, false, h.t.named("read", err)
	}
	if at < h.start && (!s.Filesystem || s.Name == signature.PartitionTable) {
		// Nobody knows how far a file reaches, and a table is in Table.
		return Holding{}, false, nil
	}
	end := limit
	if n := s.Extent(r); n > 0 && n < limit-at {
		end = at + n
	}
	return Holding{s.Name, at, end}, true, nil
}

// search looks for filesystems that begin behind the first byte of the range, at
// places that nothing names.
func (h *holdings) search(known []int64, limit func(int64) int64) error {
	step := int64(searchStep)
	for (h.end-h.start)/step > searchPlaces {
		step *= 2
	}
	for at := h.start - h.start%step + step; at < h.end; at += step {
		if data := h.nextData(at); data >= at+searchSize {
			at = max(data-data%step-step, at) // the next that is not a hole
			continue
		}
		if slices.Contains(known, at) {
			continue
		}
		s, ok, err := signature.Find(io.NewSectionReader(h.t.f, at, searchSize), searchSize)
		if err != nil {
			return h.t.named("read", err)
		}
		if r := io.NewSectionReader(h.t.f, at, searchSize); ok && s.Filesystem && !s.IsCopy(r) {
			end := limit(at)
			if n := s.Extent(r); n > 0 && n < end-at {
				end = at + n
			}
			h.add(Holding{s.Name, at, end})
		}
	}
	return nil
}

// nextData returns where the next byte that may not be zero lies, off where that
// is not known.
func (h *holdings) nextData(off int64) int64 {
	if h.t.kind != InPlace {
		return off
	}
	at, err := h.t.f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return math.MaxInt64 / 2
	case err != nil:
		return off
	}
	return at
}
