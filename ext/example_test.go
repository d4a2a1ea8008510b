package ext_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"os"

	"e2qcow/ext"
)

// Read the inode of the root directory.
func Example() {
	f, err := os.Open("../testdata/sample.img.gz")
	if err != nil {
		log.Fatal(err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		log.Fatal(err)
	}
	disk, err := io.ReadAll(z)
	if err != nil {
		log.Fatal(err)
	}
	sb, err := ext.DecodeSuperblock(disk[ext.SuperblockOffset:][:ext.SuperblockSize])
	if err != nil {
		log.Fatal(err)
	}
	geo, err := sb.Geometry()
	if err != nil {
		log.Fatal(err)
	}
	group, index := geo.InodePlace(ext.RootInode)
	desc := disk[geo.DescBlock(0, group)*uint64(geo.BlockSize):][:geo.DescSize]
	table := ext.GroupDesc(desc).InodeTable() * uint64(geo.BlockSize)
	inode := ext.Inode(disk[table+uint64(index*geo.InodeSize):][:geo.InodeSize])
	fmt.Printf("%q: directory %v, %d links, %d bytes\n", sb.Label(), inode.Type() == ext.ModeDir, inode.LinksCount(), inode.Size())
	// Output: "sample": directory true, 5 links, 1024 bytes
}
