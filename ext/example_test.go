package ext_test

import (
	"fmt"
	"log"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
)

// List the root directory. On a disk that may be damaged, each offset is to be
// compared with the size of the disk first.
func Example() {
	disk := testfs.Sample("..")
	sb, err := ext.DecodeSuperblock(disk[ext.SuperblockOffset:][:ext.SuperblockSize])
	if err != nil {
		log.Fatal(err)
	}
	geo, err := sb.Geometry()
	if err != nil {
		log.Fatal(err)
	}
	inode := func(ino uint32) ext.Inode {
		group, index := geo.InodePlace(ino)
		desc := ext.GroupDesc(disk[geo.DescBlock(0, group)*uint64(geo.BlockSize):][:geo.DescSize])
		return disk[desc.InodeTable()*uint64(geo.BlockSize):][uint64(index*geo.InodeSize):][:geo.InodeSize]
	}
	first := ext.ExtentNode(inode(ext.RootInode).IBlock()).Extent(0)
	block := disk[first.Start*uint64(geo.BlockSize):][:geo.BlockSize]
	for entries := ext.NewDirReader(block, int(geo.BlockSize)); entries.Next(); {
		if e := entries.Entry(); e.Inode != 0 {
			in := inode(e.Inode)
			fmt.Printf("%o %d %s\n", in.Mode(), in.Size(), e.Name)
		}
	}
	// Output:
	// 40755 1024 .
	// 40755 1024 ..
	// 40700 12288 lost+found
	// 100644 6000000 large
	// 100644 408576 fragmented
	// 100644 3000 hard-link
	// 100644 3000 small
	// 120777 5 fast-link
	// 120777 141 slow-link
	// 10000 0 fifo
	// 20000 0 console
	// 40755 1024 usr
	// 40755 23552 indexed
}
