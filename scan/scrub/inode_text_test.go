package scrub

import (
	"bytes"
	"fmt"
	"testing"

	"e2qcow/ext"
)

// TestTextInInodes has short texts stand anywhere in inodes that have no
// checksums and are sound otherwise: no more than a number of four bytes stays,
// or three letters of UTF-16 in two numbers.
func TestTextInInodes(t *testing.T) {
	const most, mostWide = 4, 5 // bytes
	texts := map[string]string{
		"letters up to i": "Be2fC8adHe4gB3ifDa9hEb1d",
		"letters":         "Qs7wordX4zNmRtYkPv2uJnLo",
		"utf-16":          "B\x00e\x002\x00f\x00C\x008\x00a\x00d\x00H\x00e\x004\x00g\x00",
		"capabilities":    "@@ @ABB@ BH@DAB (AD@ BA@",
	}
	for form, text := range texts {
		for _, size := range []int{8, 12, 16, 24} {
			for _, inodeSize := range []int{128, 256} {
				for at := 0; at+size <= inodeSize; at += 2 {
					if at < ext.IBlockOffset+ext.IBlockSize && at+size > ext.IBlockOffset {
						continue // see TestContentsInHalf
					}
					s := newScrubber(false)
					s.sums = false
					s.lim.blocks = 1 << 31
					in := ext.Inode(make([]byte, inodeSize))
					le.PutUint16(in, ext.ModeRegular|0o644)
					le.PutUint16(in[0x1A:], 1)
					le.PutUint32(in[0x04:], 3000)
					le.PutUint32(in[0x1C:], 8)
					for i := range 3 {
						le.PutUint32(in[0x08+4*i:], 1_600_000_000)
					}
					if inodeSize > goodOldInodeSize {
						le.PutUint16(in[inodeExtraSizeOffset:], 32)
					}
					le.PutUint32(in.IBlock(), 3000)
					copy(in[at:at+size], text)
					old := bytes.Clone(in)
					s.inode(s.keys.get(), 12, in)
					if run := leftOf(old[at:at+size], in[at:min(at+size, len(in))]); len(run) > most && textual(run) && !(form == "utf-16" && len(run) <= mostWide) {
						t.Errorf("%s", fmt.Sprintf("%s, %d bytes at %#x of %d: %q is left", form, size, at, inodeSize, run))
					}
				}
			}
		}
	}
}
