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

// A Holding is known data on a target: a filesystem, or a container or member
// of one.
type Holding struct {
	Name       string // "an XFS filesystem"
	Start, End int64  // offsets of the target; negative if the data begins before the target
}

// How a range is searched for filesystems that no partition table lists.
const (
	searchStep   = 1 << 20  // alignment of partitioning tools
	searchPlaces = 512      // at most; a longer range is sampled
	searchSize   = 72 << 10 // bytes that are read at each place
	oldStart     = 63 * 512 // where the first partition began on old disks
)

// Holdings returns the known data that overlaps n bytes from off of the target,
// in ascending order. It looks for data that begins at the first byte of the
// target, at a partition, at off, or at a multiple of a MiB behind off. The
// superblock of a filesystem says where it ends. Data that does not say its
// size reaches to the end of its partition or of the target. Table returns the
// partition tables.
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

// CheckPlace returns an error if known data overlaps n bytes from off of the
// target, unless excused reports true for that data.
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
	// From the last to the first: the start of the disk is examined when the
	// contents of the partitions are known.
	for _, at := range slices.Backward(places) {
		found, ok, err := h.at(at, limit(at))
		switch {
		case err != nil:
			return err
		case !ok:
		case at == 0 && inside < found.End:
			// The disk had that filesystem before it had partitions.
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

// add keeps a holding that overlaps the range to be written.
func (h *holdings) add(found Holding) {
	if found.Start < h.end && h.start < found.End {
		h.list = append(h.list, found)
	}
}

// at returns the holding that begins at a byte. It ends at limit at the latest.
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
		// The length of a file is unknown, and Table returns partition tables.
		return Holding{}, false, nil
	}
	end := limit
	if n := s.Extent(r); n > 0 && n < limit-at {
		end = at + n
	}
	return Holding{s.Name, at, end}, true, nil
}

// search looks for filesystems that begin behind the first byte of the range,
// at places that no table lists.
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

// nextData returns the offset of the next byte that may not be zero, or off if
// that is not known.
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
