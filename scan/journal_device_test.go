package scan

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
)

// TestScanJournalDevice has a transaction in a journal device, whose log counts
// its blocks from the start of the device.
func TestScanJournalDevice(t *testing.T) {
	for _, blockSize := range []int{1024, 4096} {
		t.Run(fmt.Sprint(blockSize), func(t *testing.T) {
			path := testfs.Make(t, testfs.Spec{Mke2fs: fmt.Sprint("-O journal_dev -b ", blockSize), Size: 8 << 20}).Path
			img, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			super := ext.SuperblockOffset/blockSize + 1
			jsb, err := ext.DecodeJournalSuperblock(img[super*blockSize:][:blockSize])
			if err != nil {
				t.Fatal(err)
			}
			if int(jsb.First) != super+1 {
				t.Fatalf("the log begins at %d, want %d", jsb.First, super+1)
			}
			// journal_superblock_t: s_sequence and s_start, then journal_header_t and a tag.
			be := binary.BigEndian
			be.PutUint32(img[super*blockSize+24:], 1)
			be.PutUint32(img[super*blockSize+28:], jsb.First)
			for i, kind := range []uint32{1, 0, 2} { // descriptor, copy, commit
				block := img[(int(jsb.First)+i)*blockSize:][:blockSize]
				if kind != 0 {
					be.PutUint32(block, 0xC03B3998)
					be.PutUint32(block[4:], kind)
					be.PutUint32(block[8:], 1)
				}
				if kind == 1 {
					be.PutUint32(block[12:], 100)
					be.PutUint32(block[16:], 2|8) // the UUID is left out; the last tag
				}
			}
			res := scanBounded(t, bytes.NewReader(img), int64(len(img)), Options{Journal: JournalLive})
			for i := range 4 {
				if block := uint64(super + i); !res.Map.Contains(Journal, block) {
					t.Errorf("block %d of the log is not in the map", block)
				}
			}
			if res.readings[0].scanner.ahead.buf != nil {
				t.Error("what was read ahead of the log is kept")
			}
			if n := res.Map.Blocks(Journal); n > 5 {
				t.Errorf("%d blocks of a log of three", n)
			}
		})
	}
}
