package move

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"testing"
)

// hostile returns a journal whose checksums are right, with a header of those
// fields, the runs, and room for slots of a far move.
func hostile(fields map[int]uint64, runs []byte) *cell {
	b := make([]byte, block+(len(runs)+block-1)/block*block+2*block)
	le := binary.LittleEndian
	copy(b, magic)
	for at, n := range map[int]uint64{fromAt: 0, toAt: 64 << 20, windowAt: maxWindow, countAt: uint64(len(runs) / 2), lengthAt: uint64(len(runs)),
		runsSumAt: uint64(crc32.Checksum(runs, castagnoli))} {
		le.PutUint64(b[at:], n)
	}
	for at, n := range fields {
		le.PutUint64(b[at:], n)
	}
	le.PutUint32(b[sumAt:], crc32.Checksum(b[:sumAt], castagnoli))
	copy(b[block:], runs)
	return &cell{disk: b, cache: b, power: &power{left: 1 << 30}}
}

// TestBounds opens and resumes journals that ask for much.
func TestBounds(t *testing.T) {
	// The superblock but for its first sector, and a byte in every other one
	// after that.
	many := binary.AppendUvarint(nil, markEnd)
	many = binary.AppendUvarint(many, superEnd-markEnd)
	first := len(many)
	many = append(many, bytes.Repeat([]byte{1, 1}, 4<<20)...)
	count := uint64(1 + (len(many)-first)/2)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	file := hostile(map[int]uint64{sizeAt: 1 << 40, diskSizeAt: 1 << 41, countAt: count}, many)
	_, p, err := opened(file)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > uint64(12*len(many)) {
		t.Errorf("%d bytes of runs took %d bytes of memory", len(many), took)
	}
	if len(p.runs) != int(count) {
		t.Errorf("%d runs, not %d", len(p.runs), count)
	}

	// A place and a size that the disk never ends for.
	few := many[:first]
	endless := map[int]uint64{sizeAt: 1 << 61, diskSizeAt: 1 << 62, countAt: 1}
	j, p, err := opened(hostile(endless, few))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(context.Background(), newCell(make([]byte, 1<<20), nil), Options{Journal: j, Force: true}); !errors.Is(err, ErrShort) {
		t.Errorf("on a disk of 1 MiB: %v", err)
	}
	// On a disk that is as large: windows without a run are passed over.
	if n := p.next(0); n != p.windows()-1 {
		t.Errorf("window %d of %d has something in it", n, p.windows())
	}

	for what, fields := range map[string]map[int]uint64{
		"more runs than bytes":        {sizeAt: 1 << 30, diskSizeAt: 1 << 31, countAt: 1 << 40},
		"more bytes than the journal": {sizeAt: 1 << 30, diskSizeAt: 1 << 31, countAt: 1, lengthAt: 1 << 40},
		"no window":                   {sizeAt: 1 << 30, diskSizeAt: 1 << 31, countAt: 1, windowAt: 0},
		"a window of a byte":          {sizeAt: 1 << 30, diskSizeAt: 1 << 31, countAt: 1, windowAt: 1},
		"a large window":              {sizeAt: 1 << 30, diskSizeAt: 1 << 31, countAt: 1, windowAt: 2 * maxWindow},
		"a size that wraps":           {sizeAt: 1 << 63, diskSizeAt: 1 << 31, countAt: 1},
		"a place that wraps":          {sizeAt: 1 << 30, diskSizeAt: 1 << 31, countAt: 1, toAt: 1<<63 - 1024},
		"a place behind the disk":     {sizeAt: 1 << 30, diskSizeAt: 1 << 30, countAt: 1},
	} {
		if _, _, err := opened(hostile(fields, few)); !errors.Is(err, ErrNotJournal) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, runs := range map[string][]byte{
		"runs beside one another": append(bytes.Clone(few), 0, 9),
		"the marked sector":       {0, 4},
		"no superblock":           {1, 1},
		"a run of nothing":        append(bytes.Clone(few), 9, 0),
		"half a run":              append(bytes.Clone(few), 9),
	} {
		fields := map[int]uint64{sizeAt: 1 << 30, diskSizeAt: 1 << 31, countAt: uint64(max(len(runs)-first, 0)/2 + 1)}
		if _, _, err := opened(hostile(fields, runs)); !errors.Is(err, ErrNotJournal) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestOldJournal refuses a journal in the format of version 0.1.
func TestOldJournal(t *testing.T) {
	b := make([]byte, 3*block)
	copy(b, magicOld)
	binary.LittleEndian.PutUint32(b[sumAt:], crc32.Checksum(b[:sumAt], castagnoli))
	if _, _, err := opened(newCell(b, nil)); !errors.Is(err, ErrOldJournal) {
		t.Error(err)
	}
}

// TestSlots opens journals whose newest slot is not one that the move comes by:
// none has a window without a run, or moves one by a checksum of nothing.
func TestSlots(t *testing.T) {
	for _, place := range places {
		s, _ := stop(t, place[0], place[1], 0)
		last := s.plan.windows()
		empty := int64(-1)
		for k := range last {
			if s.plan.bytes(k) == 0 {
				empty = k
			}
		}
		for what, bad := range map[string]slot{
			"an empty window":      {window: empty, stage: split, data: []byte{}},
			"far behind the end":   {window: last + 2},
			"before the start":     {window: -1},
			"an unknown stage":     {window: last, stage: split + 1},
			"marking at the end":   {window: last, stage: marking},
			"data without need":    {window: last, stage: split, data: []byte{1}},
			"a window cut short":   {window: s.plan.next(0), stage: split, data: []byte{1}},
			"whole, written over":  {window: last, stage: map[bool]stage{true: whole, false: split}[s.plan.Overlap()]},
			"half of a stage more": {window: last + 1, stage: marking},
		} {
			forget := s.keep()
			j, p, err := opened(s.journal)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(bad.data)) > j.room-block {
				continue
			}
			if err := j.put(bad); err != nil {
				t.Fatal(err)
			}
			was := bytes.Clone(s.disk.cache)
			if err := p.Run(context.Background(), s.disk, Options{Journal: j, Force: true}); !errors.Is(err, ErrNotJournal) || !bytes.Equal(was, s.disk.cache) {
				t.Errorf("%v, %s: %v", place, what, err)
			}
			forget()
		}
	}
}
