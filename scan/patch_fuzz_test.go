package scan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// FuzzPatch makes patches of damaged filesystems of which some sectors cannot
// be read. Their runs ascend, hold nothing that could not be read, lie in the
// map, and give what the source holds.
func FuzzPatch(f *testing.F) {
	dir := tree(f, []byte("file data "))
	type base struct {
		image []byte
		bs    int
		meta  []uint64
	}
	var bases []base
	for i, spec := range fuzzSpecs[:4] {
		image := makeImage(f, spec, dir)
		res, err := Scan(context.Background(), bytes.NewReader(image), int64(len(image)), Options{})
		if err != nil {
			f.Fatal(err)
		}
		var meta []uint64
		for start, end := range res.Map.all().runs() {
			for ; start < end; start++ {
				meta = append(meta, start)
			}
		}
		bases = append(bases, base{image, blockSizeOf(image), meta})
		f.Add(uint8(i), uint16(0), uint8(0), []byte{})
		f.Add(uint8(i), uint16(20), uint8(9), bytes.Repeat([]byte{6, 3, 0, 0x28, 0, 9, 0, 0, 0}, 5))
	}
	f.Fuzz(func(t *testing.T, which uint8, bad uint16, badLen uint8, edits []byte) {
		b := bases[int(which)%len(bases)]
		data := bytes.Clone(b.image)
		applyEdits(data, b.bs, b.meta, edits)
		opt := Options{XattrValues: which&128 != 0}
		if badLen > 0 {
			opt.Bad = []Range{{int64(bad) * sector, (int64(bad) + int64(badLen)) * sector}}
		}
		res, err := Scan(context.Background(), bytes.NewReader(data), int64(len(data)), opt)
		if errors.Is(err, ErrNotExt) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := res.Patch(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		last, all := int64(0), res.Map.all()
		for off := int64(0); ; {
			start, end, err := p.NextRun(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || start < off || start < last || end <= start || end > p.Size() {
				t.Fatalf("run [%d, %d) at or after %d: %v", start, end, off, err)
			}
			bs := int64(res.BlockSize())
			for block := start / bs; block*bs < end; block++ {
				if !all.contains(uint64(block)) {
					t.Fatalf("block %d is no metadata", block)
				}
			}
			for _, r := range res.Unreadable() {
				if r.Start < end && start < r.End {
					t.Fatalf("run [%d, %d) holds what was not read, %v", start, end, r)
				}
			}
			got := make([]byte, end-start)
			if _, err := p.ReadAt(got, start); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, data[start:end]) {
				t.Fatalf("run [%d, %d) is not as in the source: %v", start, end, err)
			}
			off, last = end, end
		}
	})
}
