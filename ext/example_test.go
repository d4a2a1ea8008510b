package ext_test

import (
	"fmt"
	"log"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
)

// readInode returns an inode as its table has it. On a disk that may be damaged,
// the offsets are to be compared with the size of the disk first.
func readInode(disk []byte, geo *ext.Geometry, ino uint32) ext.Inode {
	group, index := geo.InodePlace(ino)
	desc := ext.GroupDesc(disk[geo.DescBlock(0, group)*uint64(geo.BlockSize):][:geo.DescSize])
	return disk[desc.InodeTable()*uint64(geo.BlockSize):][uint64(index*geo.InodeSize):][:geo.InodeSize]
}

// List the large files in the root directory.
func Example() {
	disk := testfs.Sample("..")
	sb, err := ext.DecodeSuperblock(disk[ext.SuperblockOffset:])
	if err != nil {
		log.Fatal(err)
	}
	geo, err := sb.Geometry()
	if err != nil {
		log.Fatal(err)
	}
	root := ext.ExtentNode(readInode(disk, geo, ext.RootInode).IBlock())
	block := disk[root.Extent(0).Start*uint64(geo.BlockSize):][:geo.BlockSize]
	for entries := ext.NewDirReader(block, int(geo.BlockSize)); entries.Next(); {
		if e := entries.Entry(); e.Inode != 0 {
			if in := readInode(disk, geo, e.Inode); in.Type() == ext.ModeRegular && in.Size() > 4096 {
				fmt.Printf("%s: %o, %d bytes\n", e.Name, in.Mode(), in.Size())
			}
		}
	}
	// Output:
	// large: 100644, 6000000 bytes
	// fragmented: 100644, 408576 bytes
}
