package scrub

import (
	"bytes"
	"context"
	"testing"
	"time"

	"e2qcow/ext"
	"e2qcow/scan"
)

// sparseValuesImage makes a filesystem in which each inode names the next as
// the value of an attribute, of 16 MiB and without a block.
func sparseValuesImage() []byte {
	const blockSize, blocks, inodes, inodeSize, table = 1024, 1024, 2048, 256, 6
	b := make([]byte, blocks*blockSize)
	sb := b[ext.SuperblockOffset:]
	le.PutUint32(sb, inodes)
	le.PutUint32(sb[0x04:], blocks)
	le.PutUint32(sb[0x14:], 1)
	le.PutUint32(sb[0x20:], 8*blockSize)
	le.PutUint32(sb[0x28:], inodes)
	le.PutUint16(sb[0x38:], 0xEF53)
	le.PutUint32(sb[0x4C:], 1)
	le.PutUint32(sb[0x54:], 11)
	le.PutUint16(sb[0x58:], inodeSize)
	le.PutUint32(sb[0x60:], ext.IncompatFiletype|ext.IncompatExtents|ext.IncompatEaInode)
	desc := b[2*blockSize:]
	le.PutUint32(desc, 4)
	le.PutUint32(desc[4:], 5)
	le.PutUint32(desc[8:], table)
	for ino := uint32(12); ino < inodes; ino++ {
		in := b[table*blockSize+int(ino-1)*inodeSize:][:inodeSize]
		le.PutUint16(in, ext.ModeRegular)
		le.PutUint32(in[0x04:], maxValue)
		le.PutUint16(in[0x1A:], 1)
		le.PutUint16(in[0x80:], 32)
		le.PutUint32(in[0xA0:], 0xEA020000)
		entry := in[0xA4:]
		entry[0], entry[1] = 1, ext.XattrUser
		le.PutUint32(entry[4:], ino+1)
		le.PutUint32(entry[8:], maxValue)
		entry[16] = 'a'
	}
	return b
}

// Values take no longer to read than there are blocks for, whatever their
// inodes say.
func TestSparseValues(t *testing.T) {
	image := sparseValuesImage()
	x := NewIndex(Options{})
	res, err := scan.Scan(context.Background(), bytes.NewReader(image), int64(len(image)), scan.Options{Visit: x.Visit})
	if err != nil {
		t.Fatal(err)
	}
	if len(x.values) < 2000 {
		t.Fatalf("%d inodes hold values", len(x.values))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := x.View(ctx, res); err != nil {
		t.Error(err)
	}
}
