package move

import (
	"encoding/binary"
	"hash/crc32"
)

// A slot is a record of the progress of a move in the journal.
type slot struct {
	seq    uint64
	window int64 // the next, if data is nil; windows() when all are moved, one more when the move is done
	stage  stage
	sum    uint32 // checksum of the window that was moved last
	data   []byte // near, unless marking: the window, which may be in part at its new place
}

// The fields of the head of a slot.
const (
	seqAt = 8 * iota
	slotWindowAt
	stageAt
	slotSumAt
	dataLenAt
	dataSumAt
	slotIDAt // that of the header
)

// put writes a slot to the disk.
func (j *Journal) put(s slot) error {
	j.seq++
	h := make([]byte, block)
	le := binary.LittleEndian
	le.PutUint64(h[seqAt:], j.seq)
	le.PutUint64(h[slotWindowAt:], uint64(s.window))
	le.PutUint64(h[stageAt:], uint64(s.stage))
	le.PutUint64(h[slotSumAt:], uint64(s.sum))
	le.PutUint64(h[dataLenAt:], uint64(len(s.data)))
	le.PutUint64(h[dataSumAt:], uint64(crc32.Checksum(s.data, castagnoli)))
	copy(h[slotIDAt:], j.id[:])
	le.PutUint32(h[sumAt:], crc32.Checksum(h[:sumAt], castagnoli))
	at := j.slots + int64(j.seq%2)*j.room
	if err := writeFull(j.f, s.data, at+block); err != nil {
		return err
	}
	if err := writeFull(j.f, h, at); err != nil {
		return err
	}
	return j.f.Sync()
}

// newest returns the newest valid slot. If there is none, as before the first
// write, it returns that of a move that has not begun.
func (j *Journal) newest(p *Plan) (slot, error) {
	s := slot{window: p.next(0)}
	for i := range int64(2) {
		at := j.slots + i*j.room
		h := make([]byte, block)
		if err := readFull(j.f, h, at); err != nil {
			return s, err
		}
		le := binary.LittleEndian
		seq, n := le.Uint64(h[seqAt:]), int64(le.Uint64(h[dataLenAt:]))
		if le.Uint32(h[sumAt:]) != crc32.Checksum(h[:sumAt], castagnoli) || [16]byte(h[slotIDAt:]) != j.id || seq <= s.seq || n < 0 || n > j.room-block {
			continue
		}
		var data []byte
		if n > 0 {
			data = make([]byte, n)
		}
		if err := readFull(j.f, data, at+block); err != nil {
			return s, err
		}
		if uint64(crc32.Checksum(data, castagnoli)) != le.Uint64(h[dataSumAt:]) {
			continue
		}
		number := le.Uint64(h[stageAt:])
		s = slot{seq, int64(le.Uint64(h[slotWindowAt:])), stage(min(number, uint64(split)+1)), uint32(le.Uint64(h[slotSumAt:])), data}
	}
	j.seq = s.seq
	if !p.makes(s) {
		return s, ErrNotJournal
	}
	return s, nil
}

// makes reports whether a move of the plan can write that slot.
func (p *Plan) makes(s slot) bool {
	last := p.windows()
	switch {
	case s.window < 0 || s.window > last+1 || s.window < last && s.window != p.next(s.window):
		return false
	case s.seq == 0:
		return true
	case s.window < last && p.near && s.stage != marking:
		return int64(len(s.data)) == p.bytes(s.window) && p.stages(s)
	}
	return s.data == nil && p.stages(s)
}

// stages reports whether the stage of a slot is possible at its window.
func (p *Plan) stages(s slot) bool {
	destroyed := false // by the windows before
	if k := p.previous(min(s.window, p.windows())); k >= 0 {
		destroyed = p.destroys(k)
	}
	switch s.stage {
	case whole:
		return !destroyed && (!p.near || s.window >= p.windows() || !p.destroys(s.window))
	case marking:
		return !destroyed && s.window < p.windows() && p.destroys(s.window)
	case split:
		return destroyed || s.window < p.windows() && p.destroys(s.window)
	}
	return false
}

// Done reports whether the journal says that the move is done.
func (j *Journal) Done(p *Plan) (bool, error) {
	s, err := j.newest(p)
	return s.window > p.windows(), err
}

// Destroying reports whether the journal says that the old place is being
// overwritten.
func (j *Journal) Destroying(p *Plan) (bool, error) {
	s, err := j.newest(p)
	return s.stage != whole, err
}
