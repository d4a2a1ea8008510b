package move

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// A guarded is a disk that only part of may be written to.
type guarded struct {
	*cell
	t       *testing.T
	allowed [2]run
}

func (g *guarded) WriteAt(b []byte, off int64) (int, error) {
	for _, r := range g.allowed {
		if r.Start <= off && off+int64(len(b)) <= r.End {
			return g.cell.WriteAt(b, off)
		}
	}
	g.t.Fatalf("%d bytes at byte %d are written, beside %v", len(b), off, g.allowed)
	return 0, nil
}

// FuzzJournal opens journals and resumes moves by them on a disk in memory. Nothing
// is written but at the two places, and nothing at all to a disk that is another.
// The checksums of a journal are made right, so that what is behind them is
// reached.
func FuzzJournal(f *testing.F) {
	const diskSize = 200 << 10
	for _, place := range places {
		for _, writes := range []int{0, 4, 9, 14, 20, 1 << 30} {
			s, _ := seed(place[0], place[1], writes)
			f.Add(s.journal.cache, uint8(writes), true)
		}
	}
	f.Fuzz(func(t *testing.T, journal []byte, writes uint8, mended bool) {
		if len(journal) > 1<<20 {
			return
		}
		journal = bytes.Clone(journal)
		if mended {
			mend(journal)
		}
		file := newCell(journal, &power{left: 1 << 30})
		_, p, err := opened(file)
		if err != nil {
			return
		}
		for what, b := range disks(p, int(writes)) {
			for _, force := range []bool{false, true} {
				j, p, err := opened(newCell(journal, &power{left: 1 << 30}))
				if err != nil {
					t.Fatal(err)
				}
				d := &guarded{cell: newCell(b, &power{left: 1 << 30}), t: t, allowed: [2]run{{p.From, p.From + p.Size}, {p.To, p.To + p.Size}}}
				err = p.Run(context.Background(), d, Options{Journal: j, Force: force})
				if err == nil && p.diskSize > diskSize && !force {
					t.Error("done on a disk that is shorter than it was")
				}
				if what == "zeros" && !bytes.Equal(d.cache, b) && !sameFilesystem(p.super[:], make([]byte, superSize)) {
					t.Error("a disk of zeros is written to")
				}
			}
		}
	})
}

// seed is stop without a test.
func seed(from, to int64, writes int) (*stopped, bool) {
	return stop(&testing.T{}, from, to, writes)
}

// disks returns disks that a plan may be resumed on: that of the seeds after some
// writes, and one of zeros.
func disks(p *Plan, writes int) map[string][]byte {
	list := map[string][]byte{"zeros": make([]byte, 200<<10)}
	for _, place := range places {
		if place == [2]int64{p.From, p.To} {
			s, _ := seed(p.From, p.To, writes)
			list["the disk"] = s.disk.cache
		}
	}
	return list
}

// mend makes the checksums in a journal right.
func mend(b []byte) {
	le := binary.LittleEndian
	sum := func(h []byte) { le.PutUint32(h[sumAt:], crc32.Checksum(h[:sumAt], castagnoli)) }
	if len(b) < block {
		return
	}
	length := le.Uint64(b[lengthAt:])
	if length > uint64(len(b)-block) {
		return
	}
	le.PutUint64(b[runsSumAt:], uint64(crc32.Checksum(b[block:block+int(length)], castagnoli)))
	sum(b)
	j := &Journal{f: newCell(b, nil)}
	if _, err := j.load(int64(len(b))); err != nil {
		return
	}
	for i := range int64(2) {
		h := b[j.slots+i*j.room:][:j.room]
		n := le.Uint64(h[dataLenAt:])
		if n <= uint64(j.room-block) {
			le.PutUint64(h[dataSumAt:], uint64(crc32.Checksum(h[block:][:n], castagnoli)))
		}
		sum(h)
	}
}
