package scan

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"e2qcow/ext"
)

// Thousands of attribute values whose trees share twelve nodes, as full as
// nodes can be: their entries are at the end of the value, one behind the
// other, in no order, or each for the same place.
func TestValuesShareNodes(t *testing.T) {
	const values = 4000
	for _, bs := range []uint32{1024, 65536} {
		for _, c := range []struct {
			what  string
			size  uint32
			entry func(i int, r *rand.Rand) entry
		}{
			{"ends", 5000, func(i int, _ *rand.Rand) entry { return entry{0, 1, 3000 + uint64(i%1000)} }},
			{"scattered", 5000, func(i int, _ *rand.Rand) entry { return entry{0, 1, 3000 + 2*uint64(i%800)} }},
			{"no order", maxValue, func(i int, r *rand.Rand) entry { return entry{r.Uint32(), 1, 3000 + uint64(i%1000)} }},
			{"long", maxValue, func(i int, r *rand.Rand) entry { return entry{uint32(i % 256), 256, 3000 + uint64(i%1000)} }},
		} {
			t.Run(fmt.Sprintf("%d/%s", bs, c.what), func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 2))
				fs := newSynthetic(layout{blocks: 5000, blockSize: bs, inodesPerGroup: 8192})
				entries := make([]entry, (bs-12)/12)
				var leaves []entry
				for n := range 12 {
					for i := range entries {
						entries[i] = c.entry(i+n, r)
					}
					leaves = append(leaves, entry{logical: uint32(n), block: fs.block(extentNode(int(bs), 0, entries...))})
				}
				top := fs.block(extentNode(int(bs), 1, leaves...))
				for ino := uint32(12); ino < 12+values; ino++ {
					fs.inode(ino, modeRegular, ext.FlagExtents|ext.FlagEaInode, uint64(c.size), extentNode(ext.IBlockSize, 2, entry{block: top}))
					nameValue(fs, ino, 12+(ino-12+1)%values, c.size)
				}
				res := scanBounded(t, fs, fs.size, Options{Threads: 2, XattrValues: true})
				if n := res.Map.Blocks(ExtentNode); n != 13 {
					t.Errorf("%d nodes", n)
				}
				if c.what != "no order" && res.Map.Blocks(XattrValue) == 0 {
					t.Error("no value")
				}
				if (c.what != "no order" || bs == 65536) && !hasProblem(res, Unbounded) {
					t.Error("what is left out is not told")
				}
				if n := len(res.Map.ends); n >= manyEnds {
					t.Errorf("%d ends of values in %d blocks", n, fs.blocks)
				}
			})
		}
	}
}
