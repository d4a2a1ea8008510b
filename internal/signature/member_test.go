package signature

import (
	"bytes"
	"encoding/binary"
	"testing"
)

const testSize = 64 << 20

// disk returns a disk of testSize with bytes at places.
func disk(pieces map[int64][]byte) []byte {
	b := make([]byte, testSize)
	for at, piece := range pieces {
		copy(b[at:], piece)
	}
	return b
}

// raid1At returns a superblock of md 1.x that says it is in byte at.
func raid1At(at int64, level int32, devices uint32, data uint64) []byte {
	b := make([]byte, 256)
	copy(b, raidMagic)
	little.PutUint32(b[4:], 1)
	little.PutUint32(b[72:], uint32(level))
	little.PutUint32(b[92:], devices)
	little.PutUint64(b[128:], data)
	little.PutUint64(b[144:], uint64(at/512))
	return b
}

// raid0As returns a superblock of md 0.90 in an order of bytes.
func raid0As(order binary.ByteOrder, level int32, devices uint32) []byte {
	b := make([]byte, 4096)
	order.PutUint32(b, 0xa92b4efc)
	order.PutUint32(b[28:], uint32(level))
	order.PutUint32(b[40:], devices)
	return b
}

func bcacheSuper(offset, version, data uint64) []byte {
	b := make([]byte, 208)
	little.PutUint64(b[8:], offset)
	little.PutUint64(b[16:], version)
	copy(b[24:], bcacheMagic)
	little.PutUint64(b[184:], data)
	return b
}

// TestMembers reads the superblocks of members of arrays and caches, honest ones
// and others. The layouts were compared with what mdadm --examine and
// bcache-super-show print of such disks.
func TestMembers(t *testing.T) {
	const last = testSize - 8<<10
	raid := Signature{Name: RAID, Filesystem: true}
	with := func(s Signature, level int32, devices uint32, data int64) Signature {
		s.Level, s.Devices, s.Data = level, devices, data
		return s
	}
	bdev := Signature{Name: Bcache, Filesystem: true}
	for name, c := range map[string]struct {
		pieces map[int64][]byte
		want   Signature
	}{
		"1.2, a mirror":               {map[int64][]byte{4096: raid1At(4096, 1, 2, 16384)}, with(raid, 1, 2, 8<<20)},
		"1.2, RAID5":                  {map[int64][]byte{4096: raid1At(4096, 5, 3, 2048)}, with(raid, 5, 3, 1<<20)},
		"1.1":                         {map[int64][]byte{0: raid1At(0, 1, 2, 2048)}, with(raid, 1, 2, 1<<20)},
		"1.0":                         {map[int64][]byte{last: raid1At(last, 1, 2, 0)}, with(raid, 1, 2, 0)},
		"linear":                      {map[int64][]byte{4096: raid1At(4096, -1, 2, 2048)}, with(raid, -1, 2, 1<<20)},
		"0.90":                        {map[int64][]byte{testSize - 64<<10: raid0As(little, 1, 2)}, with(raid, 1, 2, 0)},
		"0.90 of a big-endian host":   {map[int64][]byte{testSize - 64<<10: raid0As(binary.BigEndian, 5, 3)}, with(raid, 5, 3, 0)},
		"data behind the end":         {map[int64][]byte{4096: raid1At(4096, 1, 2, 1<<40)}, with(raid, 1, 2, 0)},
		"data in the highest sector":  {map[int64][]byte{4096: raid1At(4096, 1, 2, 1<<64-1)}, with(raid, 1, 2, 0)},
		"a copy from another place":   {map[int64][]byte{4096: raid1At(8192, 1, 2, 2048)}, raid},
		"the magic only":              {map[int64][]byte{4096: []byte(raidMagic)}, raid},
		"Intel's":                     {map[int64][]byte{testSize - 1024: []byte("Intel Raid ISM Cfg Sig. 1.3.00")}, raid},
		"bcache":                      {map[int64][]byte{4096: bcacheSuper(8, 1, 0)}, with(bdev, 0, 0, 8<<10)},
		"bcache at an offset":         {map[int64][]byte{4096: bcacheSuper(8, 4, 2048)}, with(bdev, 0, 0, 1<<20)},
		"bcache with features":        {map[int64][]byte{4096: bcacheSuper(8, 6, 32)}, with(bdev, 0, 0, 16<<10)},
		"bcache at an impossible one": {map[int64][]byte{4096: bcacheSuper(8, 4, 1<<63)}, bdev},
		"a cache":                     {map[int64][]byte{4096: bcacheSuper(8, 3, 0)}, Signature{Name: BcacheCache, Filesystem: true}},
		"bcachefs of the first years": {map[int64][]byte{4096: bcacheSuper(0, 13, 0)}, Signature{Name: bcachefs, Filesystem: true}},
		"a fixed VHD":                 {map[int64][]byte{testSize - 512: []byte("conectix")}, Signature{Name: FixedVHD}},
		"a fixed VHD with partitions": {map[int64][]byte{testSize - 512: []byte("conectix"), 450: {0x83}, 510: {0x55, 0xaa}}, Signature{Name: PartitionTable, Filesystem: true}},
		"a dmg":                       {map[int64][]byte{testSize - 512: []byte("koly")}, Signature{Name: "an Apple disk image"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok, err := Find(bytes.NewReader(disk(c.pieces)), testSize)
			if got != c.want || !ok || err != nil {
				t.Errorf("got %+v, %v, %v; want %+v", got, ok, err, c.want)
			}
		})
	}
}
