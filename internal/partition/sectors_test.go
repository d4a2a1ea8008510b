package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"
)

// putGPT writes the primary copy of a GPT that counts sectors of so many bytes,
// with one partition.
func putGPT(b []byte, sector, start, size int64) {
	le := binary.LittleEndian
	entries := b[2*sector:][:128*128]
	copy(entries, "a type of its own")
	le.PutUint64(entries[32:], uint64(start/sector))
	le.PutUint64(entries[40:], uint64((start+size)/sector-1))
	h := b[sector:][:92]
	copy(h, "EFI PART")
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[32:], uint64(int64(len(b))/sector-1))
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], 0)
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
}

// TestSectors reads tables in sectors of a size on devices with sectors of the
// same and of another size.
func TestSectors(t *testing.T) {
	mbr := make([]byte, 64*mib)
	binary.LittleEndian.PutUint32(mbr[446+8:], 256)
	binary.LittleEndian.PutUint32(mbr[446+12:], 1024)
	mbr[446+4], mbr[510], mbr[511] = 0x83, 0x55, 0xaa
	small, large, both := make([]byte, 64*mib), make([]byte, 64*mib), make([]byte, 64*mib)
	putGPT(small, 512, 2*mib, 4*mib)
	putGPT(large, 4096, 8*mib, 16*mib)
	// The entries in small sectors, from byte 1024, would lie over the header in
	// large ones, so those of a disk with both are elsewhere.
	putGPT(both, 4096, 8*mib, 16*mib)
	copy(both[512:], small[512:1024])
	h := both[512:][:92]
	binary.LittleEndian.PutUint64(h[72:], 100)
	binary.LittleEndian.PutUint32(h[16:], 0)
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	copy(both[100*512:], small[1024:1024+128*128])

	for _, c := range []struct {
		what   string
		disk   []byte
		device int64
		want   Partition
		sector int64
	}{
		{"an MBR", mbr, 512, Partition{1, 128 << 10, 512 << 10}, 512},
		{"an MBR", mbr, 4096, Partition{1, mib, 4 * mib}, 4096},
		{"an MBR in a file", mbr, 0, Partition{1, 128 << 10, 512 << 10}, 512},
		{"a GPT in sectors of 512", small, 512, Partition{1, 2 * mib, 4 * mib}, 512},
		{"a GPT in sectors of 512", small, 4096, Partition{1, 2 * mib, 4 * mib}, 512},
		{"a GPT in sectors of 4096", large, 512, Partition{1, 8 * mib, 16 * mib}, 4096},
		{"a GPT in sectors of 4096", large, 4096, Partition{1, 8 * mib, 16 * mib}, 4096},
		{"a GPT in sectors of 4096 in a file", large, 0, Partition{1, 8 * mib, 16 * mib}, 4096},
		{"both", both, 512, Partition{1, 2 * mib, 4 * mib}, 512},
		{"both", both, 4096, Partition{1, 8 * mib, 16 * mib}, 4096},
	} {
		got, err := Read(bytes.NewReader(c.disk), int64(len(c.disk)), c.device)
		if err != nil || !slices.Equal(got.Partitions, []Partition{c.want}) || got.Sector != c.sector {
			t.Errorf("%s, device with %d: got %v in %d, %v", c.what, c.device, got.Partitions, got.Sector, err)
		}
	}
	if _, err := Read(bytes.NewReader(mbr), int64(len(mbr)), 1<<20); err != nil && !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}
