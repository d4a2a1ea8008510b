package survey_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand"
	"testing"
	"time"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
	"e2qcow/scan"
	"e2qcow/scan/survey"
)

// FuzzGather surveys filesystems with changed bytes. An edit has nine bytes:
// which part of the image (the superblock, the descriptors, all of it), where in
// it, and what is written there.
func FuzzGather(f *testing.F) {
	bases := [][]byte{open(f, "tiny"), open(f, "blockmap"), testfs.Sample("../..")}
	f.Add(byte(0), []byte{})
	r := rand.New(rand.NewSource(1))
	for i := range 60 {
		edits := make([]byte, 9*(1+i%8))
		r.Read(edits)
		f.Add(byte(i), edits)
	}
	f.Fuzz(func(t *testing.T, base byte, edits []byte) {
		disk := bytes.Clone(bases[int(base%uint8(len(bases)))])
		for n := 0; len(edits) >= 9 && n < 64; edits, n = edits[9:], n+1 {
			start, size := 0, len(disk)
			switch edits[0] % 4 {
			case 0:
				start, size = ext.SuperblockOffset, 0x180
			case 1:
				start, size = 2048, 192
			case 2:
				start, size = 194<<10, 300<<10
			}
			at := (start + int(binary.LittleEndian.Uint32(edits[1:])%uint32(max(size, 1)))) % (len(disk) - 4)
			copy(disk[at:], edits[5:5+1+int(edits[0]>>6)])
		}
		check(t, disk)
	})
}

// check surveys a disk with one thread and with several.
func check(t *testing.T, disk []byte) {
	t.Helper()
	began := time.Now()
	var texts [2][]byte
	for i, threads := range []int{1, 4} {
		res, err := scan.Scan(t.Context(), bytes.NewReader(disk), int64(len(disk)), survey.Watch(scan.Options{Threads: threads}))
		if errors.Is(err, scan.ErrNotExt) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := survey.Gather(t.Context(), res)
		if err != nil {
			t.Fatal(err)
		}
		if d.Map != nil {
			total := min(d.Map.First, d.Blocks)
			for _, n := range d.Map.Totals {
				total += n
			}
			if total != d.Blocks {
				t.Errorf("%d blocks in the map, %d in the filesystem: %v", total, d.Blocks, d.Map.Totals)
			}
			for k, m := range d.Map.Marks {
				if m.Cell < 0 || m.Cell >= len(d.Map.Cells) {
					t.Errorf("mark %d is in cell %d of %d", k, m.Cell, len(d.Map.Cells))
				}
			}
		}
		if err := survey.Name(t.Context(), bytes.NewReader(disk), int64(len(disk)), scan.Options{Threads: threads}, d); err != nil {
			t.Fatal(err)
		}
		texts[i] = encode(t, d)
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Errorf("one thread and four give different data:\n%s\n%s", texts[0], texts[1])
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}
